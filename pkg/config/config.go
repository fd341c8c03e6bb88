// Package config reads what the operator asked for and refuses what dcs could not honour.
//
// One key has three spellings: cache.cleanup_interval nested in the YAML file, --cache.cleanup_interval, and
// DCS_CACHE_CLEANUP_INTERVAL. A value is the same text in all of them. Flags beat the environment, which beats the
// file, which beats DefaultConfig. Nothing is guessed: an unknown key, a wrong type or a value out of range is an
// *Error that names the key, the value and the place it came from, and has a Hint.
//
//	fs := pflag.NewFlagSet("gc", pflag.ContinueOnError)
//	config.AddFlags(fs, "storage.directory", "cache.*")
//	cfg, origins, err := config.Load(config.Sources{File: path, Env: os.Environ(), Flags: fs})
package config

import "time"

// Config is all that can be configured. Start from DefaultConfig; the zero value is not valid.
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
	// every interface, IPv4 and IPv6. localhost is both loopbacks; another name is every address that it has here.
	Address string

	// Port is the TCP port to listen on, 0 to 65535. Default 5000, where registries are looked for; 0 is any free one.
	Port int

	// TLS is off by default: behind a proxy, or on localhost, docker needs none.
	TLS TLS

	// TrustedProxies are the networks (10.0.0.0/8) and addresses of proxies whose X-Forwarded-For or Forwarded names
	// the client, for the log and the limits. Default the loopbacks, 127.0.0.0/8 and ::1/128; none: every peer is the
	// client. Only the file can give them.
	TrustedProxies []string

	// DrainTimeout is how long transfers in flight may go on after SIGTERM. Default 30s, at least 0 (cut at once).
	DrainTimeout time.Duration
}

// TLS names the files of a certificate. Both or none; they are read again when they change.
type TLS struct {
	// Certificate is the path of the PEM file of the certificate and its chain. Default "": plain HTTP.
	Certificate string

	// Key is the path of the PEM file of the private key. Default "".
	Key string
}

// Storage is where everything is kept.
type Storage struct {
	// Directory is the data root: distribution's tree and .metadata. Default /var/cache/docker-cache-server; never empty.
	Directory string
}

// Auth says who may come in.
type Auth struct {
	// Enabled asks for Basic authentication. Default true, because anyone who may push may fill the disk.
	Enabled bool

	// Users are accepted beside those of the htpasswd file, and win over one of the same name. Default none. Only the
	// file can give them.
	Users []User

	// Htpasswd is the path of the file that "dcs users" edits. Default "", which stands for
	// <storage.directory>/.metadata/htpasswd.
	Htpasswd string

	// AnonymousPull lets anybody read while writes need a login. Default false; true is not available in this version yet.
	AnonymousPull bool
}

// User is one account of the configuration.
type User struct {
	// Username is not empty, has no colon (Basic authentication ends the name there) and no control character.
	Username string

	// Password is the password, 1 to 72 bytes because bcrypt reads no more, or a bcrypt hash ($2a$, $2b$, $2y$).
	Password string
}

// Cache is what is kept, and for how long.
type Cache struct {
	// TTL is how long an image stays that nobody uses. Default 30d, at least 0; 0 is for ever.
	TTL time.Duration

	// CleanupInterval is the time between two runs of the built-in cleaner. Default 1h, at least 100ms so that a typing
	// error cannot make it spin; 0 is off, for those who run "dcs gc".
	CleanupInterval time.Duration

	// Grace is how long anything stays that dcs said to exist, and an unfinished upload after its last byte. Default
	// 1h, at least 1ms; it must exceed the longest push.
	Grace time.Duration

	// AdoptAge is the last access of content that dcs did not know: "now", or "mtime" (the time of the file).
	// Default now, so that the first run on an old directory removes nothing.
	AdoptAge string

	// MaxSize is the disk budget in bytes. Default 0, none; any other value is not available in this version yet.
	MaxSize int64

	// Rules are exceptions to TTL, of which the first match wins. Default none, and none are available in this version
	// yet. Only the file can give them.
	Rules []Rule
}

// Rule is an exception to the TTL for some images.
type Rule struct {
	// Repository is a glob that the repository's name has to match.
	Repository string

	// Tag is a glob that the tag has to match. Default "": any tag, and none.
	Tag string

	// TTL replaces cache.ttl for what matches. Default 0: for ever.
	TTL time.Duration

	// Keep makes the images that match stay for ever. Default false.
	Keep bool
}

// Limits bound what one client can ask for. They are wide: no client that means well meets them.
type Limits struct {
	// ManifestSize is the largest manifest that is taken, in bytes. Default 4 MiB, 64 KiB to 4 MiB; distribution takes
	// no more.
	ManifestSize int64

	// UploadsPerClient is how many unfinished uploads one client may have: one user at one address, or one address
	// where nobody logs in. Default 1000, at least 0; 0 is no limit.
	UploadsPerClient int

	// HeaderSize is the largest header of a request, in bytes. Default 64 KiB, 4 KiB to 1 MiB.
	HeaderSize int64

	// HeaderTimeout is how long a client may take to send a request's header, and to begin TLS. Default 30s, at least
	// 1ms.
	HeaderTimeout time.Duration

	// StallTimeout is how long a client may send nothing of a body that it announced, or take nothing of an answer.
	// Default 2m, at least 0; 0 is no limit. A transfer that moves may take as long as it takes.
	StallTimeout time.Duration
}

// Debug is the listener for operators, opened by "dcs serve" only.
type Debug struct {
	// Address is host:port of /metrics, /livez, /readyz and /debug/health. Default 127.0.0.1:5001, because they need no
	// login; "" is off.
	Address string
}

// Log is how dcs speaks to its operator.
type Log struct {
	// Level is the least level written: trace, debug, info, warn, error, fatal or panic, in any case. Default info.
	Level string

	// Format is text, for people, or json, for machines. Default text.
	Format string

	// Access writes a line for every request. Default true.
	Access bool
}

// DefaultConfig returns a new Config that holds the default of every key. It is valid.
func DefaultConfig() *Config {
	return &Config{
		Server:  Server{Address: "0.0.0.0", Port: 5000, TrustedProxies: []string{"127.0.0.0/8", "::1/128"}, DrainTimeout: 30 * time.Second},
		Storage: Storage{Directory: "/var/cache/docker-cache-server"},
		Auth:    Auth{Enabled: true},
		Cache:   Cache{TTL: 30 * day, CleanupInterval: time.Hour, Grace: time.Hour, AdoptAge: "now"},
		Limits: Limits{ManifestSize: maxManifestSize, UploadsPerClient: 1000, HeaderSize: 64 << 10,
			HeaderTimeout: 30 * time.Second, StallTimeout: 2 * time.Minute},
		Debug: Debug{Address: "127.0.0.1:5001"},
		Log:   Log{Level: "info", Format: "text", Access: true},
	}
}
