// Package config reads what the operator asked for and refuses what dcs could not honour.
//
// What is always true:
//
//   - One key has three spellings: cache.cleanup_interval nested in the YAML file, --cache.cleanup_interval, and
//     DCS_CACHE_CLEANUP_INTERVAL. A value is the same text in all of them.
//   - Flags beat the environment, which beats the file, which beats DefaultConfig.
//   - Nothing is guessed. An unknown key, a wrong type or a value out of range is an *Error that names the key, the
//     value and the place that it came from. It has a Hint. Load returns all of them at once.
//   - No error and no text holds a password.
//
// The nouns: a *key* is the name of one setting; a *layer* is the defaults, the file, the environment or the flags; the
// *origin* of a value is its layer, with the path, variable or flag; a *path* names a key, or a part of its list such
// as auth.users[1].password.
//
//	fs := pflag.NewFlagSet("gc", pflag.ContinueOnError)
//	config.AddFlags(fs, "storage.directory", "cache.*")
//	cfg, origins, err := config.Load(config.Sources{File: path, Env: os.Environ(), Flags: fs})
package config

import "time"

// Config holds every setting. Start from DefaultConfig; the zero value is not valid.
type Config struct {
	Server  Server
	Storage Storage
	Auth    Auth
	Cache   Cache
	Limits  Limits
	Debug   Debug
	Log     Log
}

// Server is the registry's listener.
type Server struct {
	// Address is the IP address or host name to listen on. Default 0.0.0.0, every IPv4 interface; "::" or "" is
	// every interface, IPv4 and IPv6. localhost is both loopbacks. Any other name is every address that the system
	// resolves it to.
	Address string

	// Port is the TCP port to listen on, 0 to 65535. Default 5000, the usual port of a registry; 0 is any free one.
	Port int

	// TLS is off by default, since docker needs none behind a proxy or on localhost.
	TLS TLS

	// TrustedProxies are the networks (10.0.0.0/8) and addresses of proxies that may name the client, by
	// X-Forwarded-For or Forwarded, for the log and the limits. Default the loopbacks, 127.0.0.0/8 and ::1/128. With
	// none, every peer is the client itself. Only the file can give them.
	TrustedProxies []string

	// DrainTimeout is how long running transfers may continue after SIGTERM. Default 30s; at least 0, which cuts them
	// at once.
	DrainTimeout time.Duration
}

// TLS names the files of a certificate: both or none. The server reads them again when they change.
type TLS struct {
	// Certificate is the path of the PEM file of the certificate and its chain. Default "": plain HTTP.
	Certificate string

	// Key is the path of the PEM file of the private key. Default "".
	Key string
}

// Storage says where dcs keeps its data.
type Storage struct {
	// Directory is the data directory, which holds distribution's tree and .metadata. Default
	// /var/cache/docker-cache-server; never empty.
	Directory string
}

// Auth says who may log in.
type Auth struct {
	// Enabled asks for Basic authentication. Default true, because a client that may push may fill the disk.
	Enabled bool

	// Users may log in as well as those of the htpasswd file. One of them hides a user of the same name in that file.
	// Default none. Only the configuration file can give them.
	Users []User

	// Htpasswd is the path of the file that "dcs users" edits. Default "", which stands for
	// <storage.directory>/.metadata/htpasswd.
	Htpasswd string

	// AnonymousPull lets clients without a login read, while writes need one. Default false; true is not available in
	// this version yet.
	AnonymousPull bool
}

// User is one account of the configuration.
type User struct {
	// Username has 1 to 255 bytes, no colon (Basic authentication ends the name there), no control character, no # at
	// its beginning and no space at either end.
	Username string

	// Password is the password, 1 to 72 bytes because bcrypt reads no more, or a bcrypt hash ($2a$, $2b$, $2y$).
	Password string
}

// Cache says which images stay, and for how long.
type Cache struct {
	// TTL is how long an image stays after its last use. Default 30d, at least 0; 0 is forever.
	TTL time.Duration

	// CleanupInterval is the time between two runs of the built-in cleaner. Default 1h; at least 100ms, so that a
	// typing error cannot make it spin. 0 is off: the operator runs "dcs gc" instead.
	CleanupInterval time.Duration

	// Grace is how long an image, a blob or a link stays after dcs told a client that it exists, and an unfinished
	// upload after its last byte. Default 1h, at least 1ms. It must exceed the longest push.
	Grace time.Duration

	// AdoptAge is the last use of content that dcs finds on disk and does not know: "now", or "mtime" (the date of the
	// file). Default now, so that the first run on an old directory removes nothing.
	AdoptAge string

	// MaxSize is the disk budget: above it the images go that were used least recently. Default none.
	MaxSize Size

	// MinFree is how much of the file system stays free, also where others fill it. Default nil: 5 % in "dcs serve",
	// and none where TTL is 0, nor in a program that embeds the server.
	MinFree *Size

	// WhatIfMemory is the memory of the sample by which "dcs inspect --what-if" judges other budgets and ttls, in
	// bytes. Default 1 MiB; 0 is off, else 128 KiB to 64 MiB. More memory makes the estimates better, for stores of
	// more than ten thousand blobs.
	WhatIfMemory int64
	// GoneFor is how long the index remembers which images were removed, what runs did, and how pulls went. Default
	// 30d, at least 0; 0 remembers nothing. It never remembers more than 100,000 removals and as many runs.
	GoneFor time.Duration

	// Rules say which images stay for how long, in place of TTL. Each setting is decided by the first rule that matches
	// and has it. Default none: TTL is for all images. Only the file can give them.
	Rules []Rule
}

// Rule gives settings to the images that it matches. A setting that is nil is left to the rules after it, and to
// Cache.TTL where no rule has it. A rule has one setting at least.
//
// A glob matches a whole name, as in a shell: * and ? stand for characters but a slash, [a-z] for one of a set. Between
// two slashes ** stands for any number of parts, none included.
type Rule struct {
	// Repository is a glob that the name of the repository must match. Default "": every repository.
	Repository string

	// Tag is a glob that the tag must match. Default "": every tag, and also no tag. A rule with a Tag matches no
	// image without a tag.
	Tag string

	// Keep makes the images that match stay, however long they are unused. False takes them out of a later rule that
	// keeps them. Default nil.
	Keep *bool

	// TTL is how long the images that match stay after their last use, at least 0; 0 is forever. Default nil.
	TTL *time.Duration

	// UntaggedTTL is TTL for images without a tag, and goes before it. At least 0; 0 is forever. It cannot stand beside
	// Tag. Default nil.
	UntaggedTTL *time.Duration

	// KeepLast is how many tags stay of each repository: the last used of those whose KeepLast this rule decides. At
	// least 0; 0 is none. It only protects: the tags beyond have the ttl that they would have without it. Default nil.
	KeepLast *int

	// MaxSize is the share of the disk budget in bytes. Default nil; any value is not available in this version yet.
	MaxSize *int64
}

// Size is a number of bytes, or a share of the file system of the data directory. The zero Size is none.
type Size struct {
	Bytes   int64   // at least 0
	Percent float64 // of the file system, 0 to 100; 0: Bytes counts
}

// Limits bound what one client can ask for. They are wide: no well-meaning client reaches them.
type Limits struct {
	// ManifestSize is the largest manifest that a client may push, in bytes. Default 4 MiB, 64 KiB to 4 MiB, which is
	// the limit of distribution.
	ManifestSize int64

	// UploadsPerClient is how many unfinished uploads one client may have. A client is one user at one address, or one
	// address where there is no login. Default 1000, at least 0; 0 is no limit.
	UploadsPerClient int

	// HeaderSize is the largest header of a request, in bytes. Default 64 KiB, 4 KiB to 1 MiB.
	HeaderSize int64

	// HeaderTimeout is how long a client may take to begin TLS, and to send the header of a request. Default 30s, at
	// least 1ms.
	HeaderTimeout time.Duration

	// StallTimeout is how long a client may send nothing of a body that it announced, or read nothing of a response.
	// Default 2m, at least 0; 0 is no limit. A transfer that moves has no limit.
	StallTimeout time.Duration
}

// Debug is the listener for operators, opened by "dcs serve" only.
type Debug struct {
	// Address is host:port of /metrics, /livez, /readyz and /debug/health. Default 127.0.0.1:5001, for this host only,
	// because they need no login; "" is off.
	Address string
}

// Log says what dcs logs, and how.
type Log struct {
	// Level is the lowest level to log: trace, debug, info, warn, error, fatal or panic, in any case. Default info.
	Level string

	// Format is text, for people, or json, for machines. Default text.
	Format string

	// Access logs a line for every request. Default true.
	Access bool
}

// DefaultConfig returns a new Config that holds the default of every key. It is valid.
func DefaultConfig() *Config {
	return &Config{
		Server: Server{Address: "0.0.0.0", Port: 5000, TrustedProxies: []string{"127.0.0.0/8", "::1/128"},
			DrainTimeout: 30 * time.Second},
		Storage: Storage{Directory: "/var/cache/docker-cache-server"},
		Auth:    Auth{Enabled: true},
		Cache: Cache{TTL: 30 * day, CleanupInterval: time.Hour, Grace: time.Hour, AdoptAge: "now",
			GoneFor: 30 * day, WhatIfMemory: 1 << 20},
		Limits: Limits{ManifestSize: maxManifestSize, UploadsPerClient: 1000, HeaderSize: 64 << 10,
			HeaderTimeout: 30 * time.Second, StallTimeout: 2 * time.Minute},
		Debug: Debug{Address: "127.0.0.1:5001"},
		Log:   Log{Level: "info", Format: "text", Access: true},
	}
}
