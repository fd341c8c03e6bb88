package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestValidateRefusesWhatCannotBeHonoured(t *testing.T) {
	user := func(users ...User) func(*Config) { return func(c *Config) { c.Auth.Users = users } }
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"an address with a port", func(c *Config) { c.Server.Address = "0.0.0.0:5000" },
			`server.address: "0.0.0.0:5000" is neither an IP address nor a host name`},
		{"a port above the last one", func(c *Config) { c.Server.Port = 70000 },
			`server.port: "70000" is not a port: those are 0 to 65535`},
		{"a negative port", func(c *Config) { c.Server.Port = -1 },
			`server.port: "-1" is not a port: those are 0 to 65535`},
		{"a certificate without a key", func(c *Config) { c.Server.TLS.Certificate = "c.pem" },
			`server.tls.certificate: "c.pem" needs server.tls.key beside it`},
		{"a key without a certificate", func(c *Config) { c.Server.TLS.Key = "k.pem" },
			`server.tls.key: "k.pem" needs server.tls.certificate beside it`},
		{"a proxy without a network", func(c *Config) { c.Server.TrustedProxies = []string{"10.0.0.1", "10.0.0.0/33"} },
			`server.trusted_proxies[1]: "10.0.0.0/33" is neither a network nor an IP address`},
		{"a proxy by name", func(c *Config) { c.Server.TrustedProxies = []string{"proxy.example"} },
			`server.trusted_proxies[0]: "proxy.example" is neither a network nor an IP address`},
		{"a proxy of one interface", func(c *Config) { c.Server.TrustedProxies = []string{"fe80::1%eth0"} },
			`server.trusted_proxies[0]: "fe80::1%eth0" is neither a network nor an IP address`},
		{"a proxy that is nothing", func(c *Config) { c.Server.TrustedProxies = []string{""} },
			`server.trusted_proxies[0] is neither a network nor an IP address`},
		{"a proxy that no IPv4 address is in",
			func(c *Config) { c.Server.TrustedProxies = []string{"::ffff:10.0.0.0/104"} },
			`server.trusted_proxies[0]: "::ffff:10.0.0.0/104" is an IPv4 network in the form of IPv6`},
		{"a negative drain timeout", func(c *Config) { c.Server.DrainTimeout = -1 },
			`server.drain_timeout: "-1ns" is negative`},
		{"a manifest limit of nothing", func(c *Config) { c.Limits.ManifestSize = 0 },
			`limits.manifest_size: "0" is not between 64KiB and 4MiB`},
		{"a manifest limit beyond distribution's", func(c *Config) { c.Limits.ManifestSize = 5 << 20 },
			`limits.manifest_size: "5MiB" is not between 64KiB and 4MiB`},
		{"a header limit of a byte", func(c *Config) { c.Limits.HeaderSize = 1 },
			`limits.header_size: "1" is not between 4KiB and 1MiB`},
		{"a negative number of uploads", func(c *Config) { c.Limits.UploadsPerClient = -1 },
			`limits.uploads_per_client: "-1" is negative`},
		{"no time for a header", func(c *Config) { c.Limits.HeaderTimeout = 0 },
			`limits.header_timeout: "0" is less than 1ms`},
		{"a negative stall timeout", func(c *Config) { c.Limits.StallTimeout = -1 },
			`limits.stall_timeout: "-1ns" is negative`},
		{"no directory", func(c *Config) { c.Storage.Directory = "" }, "storage.directory is empty"},
		{"a user without a name", user(User{"", "b"}), "auth.users[0].username is empty"},
		{"a user with a colon", user(User{"a:b", "b"}), `auth.users[0].username: "a:b" contains a colon`},
		{"a user with a line break", user(User{"a\nb", "b"}),
			`auth.users[0].username: "a\nb" contains a line break or another control character`},
		{"a user whom an htpasswd file would take for a comment", user(User{"#a", "b"}),
			`auth.users[0].username: "#a" begins with #, which marks a comment`},
		{"a hash of a cost that bcrypt has not", user(User{"a", "$2a$99$" + strings.Repeat("a", 53)}),
			"auth.users[0].password looks like a bcrypt hash, but is damaged"},
		{"a user twice", user(User{"a", "b"}, User{"c", "d"}, User{"a", "e"}),
			`auth.users[2].username: "a" is listed twice`},
		{"a user without a password", user(User{"a", "b"}, User{"c", ""}), "auth.users[1].password is empty"},
		{"a password that bcrypt would cut", user(User{"a", strings.Repeat("x", 73)}),
			"auth.users[0].password is longer than 72 bytes, and bcrypt ignores the rest"},
		{"a hash that a template ate of", user(User{"a", "$2a$1short"}),
			"auth.users[0].password looks like a bcrypt hash, but has 10 characters and not 60"},
		{"anonymous pull, of a later release", func(c *Config) { c.Auth.AnonymousPull = true },
			`auth.anonymous_pull: "true" is not available in this version yet`},
		{"a negative ttl", func(c *Config) { c.Cache.TTL = -time.Hour }, `cache.ttl: "-1h" is negative`},
		{"a negative memory", func(c *Config) { c.Cache.GoneFor = -time.Hour }, `cache.gone_for: "-1h" is negative`},
		{"a negative interval", func(c *Config) { c.Cache.CleanupInterval = -time.Hour },
			`cache.cleanup_interval: "-1h" is negative`},
		{"an interval that would spin", func(c *Config) { c.Cache.CleanupInterval = time.Millisecond },
			`cache.cleanup_interval: "1ms" is less than 100ms`},
		{"no grace", func(c *Config) { c.Cache.Grace = 0 },
			`cache.grace: "0" is less than 1ms: without a grace a push can lose layers`},
		{"a negative grace", func(c *Config) { c.Cache.Grace = -time.Second },
			`cache.grace: "-1s" is less than 1ms: without a grace a push can lose layers`},
		{"an unknown adopt age", func(c *Config) { c.Cache.AdoptAge = "ctime" },
			`cache.adopt_age: "ctime" is neither now nor mtime`},
		{"a sample without memory", func(c *Config) { c.Cache.WhatIfMemory = 1 },
			`cache.what_if_memory: "1" is not between 128KiB and 64MiB`},
		{"a negative budget", func(c *Config) { c.Cache.MaxSize.Bytes = -1 }, `cache.max_size: "-1" is negative`},
		{"more than the disk", func(c *Config) { c.Cache.MinFree = &Size{Percent: 101} },
			`cache.min_free: "101%" is more than the whole file system`},
		{"a budget in two units", func(c *Config) { c.Cache.MaxSize = Size{Bytes: 1, Percent: 80} },
			`cache.max_size: "80%" has bytes beside it`},
		{"a rule with a budget, of a later release", func(c *Config) { c.Cache.Rules = []Rule{{MaxSize: new(int64)}} },
			`cache.rules[0].max_size: "0" is not available in this version yet`},
		{"a rule without a setting", func(c *Config) { c.Cache.Rules = []Rule{{Repository: "a"}} },
			"cache.rules[0] sets nothing"},
		{"a debug address without a port", func(c *Config) { c.Debug.Address = "localhost" },
			`debug.address: "localhost" is not of the form host:port`},
		{"a debug address with a named port", func(c *Config) { c.Debug.Address = "localhost:http" },
			`debug.address: "localhost:http" has no port between 0 and 65535`},
		{"a debug address with a path", func(c *Config) { c.Debug.Address = "a/b:1" },
			`debug.address: "a/b:1" is not of the form host:port`},
		{"an unknown log level", func(c *Config) { c.Log.Level = "loud" }, `log.level: "loud" is not a log level`},
		{"no log level", func(c *Config) { c.Log.Level = "" }, "log.level is not a log level"},
		{"an unknown log format", func(c *Config) { c.Log.Format = "xml" },
			`log.format: "xml" is neither text nor json`},
		{"the zero value", func(c *Config) { *c = Config{} }, strings.Join([]string{
			"storage.directory is empty",
			`cache.grace: "0" is less than 1ms: without a grace a push can lose layers`,
			"cache.adopt_age is neither now nor mtime",
			`limits.manifest_size: "0" is not between 64KiB and 4MiB`,
			`limits.header_size: "0" is not between 4KiB and 1MiB`,
			`limits.header_timeout: "0" is less than 1ms`,
			"log.level is not a log level",
			"log.format is neither text nor json",
		}, "\n")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tt.change(cfg)
			err := cfg.Validate()
			e, ok := errors.AsType[*Error](err)
			if !ok || err.Error() != tt.want {
				t.Fatalf("error\n  %v\nwant\n  %s", err, tt.want)
			}
			if e.Hint() == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestValidateAcceptsTheEdges(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
	}{
		{"the default", func(*Config) {}},
		{"the last port", func(c *Config) { c.Server.Port = 65535 }},
		{"no address is every interface", func(c *Config) { c.Server.Address = "" }},
		{"an address with a zone", func(c *Config) { c.Server.Address = "fe80::1%eth0" }},
		{"a ttl of 0", func(c *Config) { c.Cache.TTL = 0 }},
		{"a ttl below the grace", func(c *Config) { c.Cache.TTL = 1 }},
		{"no cleaner", func(c *Config) { c.Cache.CleanupInterval = 0 }},
		{"the fastest cleaner", func(c *Config) { c.Cache.CleanupInterval = 100 * time.Millisecond }},
		{"the least grace", func(c *Config) { c.Cache.Grace = time.Millisecond }},
		{"the longest password", func(c *Config) { c.Auth.Users = []User{{"a", strings.Repeat("x", 72)}} }},
		{"no debug listener", func(c *Config) { c.Debug.Address = "" }},
		{"an IPv6 debug address", func(c *Config) { c.Debug.Address = "[::1]:5001" }},
		{"no authentication", func(c *Config) { c.Auth.Enabled = false }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tt.change(cfg)
			if err := cfg.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLoadTellsWhereAnInvalidValueCameFrom(t *testing.T) {
	tests := []refusal{
		{"from the file with its line", "cache:\n  ttl: -1h", nil, `cache.ttl: "-1h" is negative (file FILE, line 2)`,
			"use 0 to keep images forever"},
		{"from a variable", "cache: {ttl: 1h}", []string{"DCS_CACHE_TTL=-1h"},
			`cache.ttl: "-1h" is negative (env DCS_CACHE_TTL)`, ""},
		{"from a user of the file",
			"auth:\n  users:\n  - username: a\n    password: b\n  - username: c:d\n    password: e", nil,
			`auth.users[1].username: "c:d" contains a colon (file FILE, line 5)`, "choose another"},
		{"from an empty variable", "", []string{"DCS_STORAGE_DIRECTORY="},
			"storage.directory is empty (env DCS_STORAGE_DIRECTORY)", ""},
		{"a user without a password has the line of the user", "auth: {users: [{username: a}]}", nil,
			"auth.users[0].password is empty (file FILE, line 1)", ""},
		{"a user with nothing in it", "auth: {users: [~]}", nil,
			"auth.users[0].username is empty (file FILE, line 1)\nauth.users[0].password is empty (file FILE, line 1)",
			""},
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.check)
	}
}
