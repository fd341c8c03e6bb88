package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dcs.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func allFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("dcs", pflag.ContinueOnError)
	AddFlags(flags, "server.*", "storage.*", "auth.*", "cache.*", "debug.*", "log.*")
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

func TestLoadTakesTheStrongestLayer(t *testing.T) {
	const file = "cache: {cleanup_interval: 10m}"
	tests := []struct {
		name   string
		file   string
		env    []string
		args   []string
		want   time.Duration
		origin string
	}{
		{"nothing given leaves the default", "", nil, nil, time.Hour, "default"},
		{"the file beats the default", file, nil, nil, 10 * time.Minute, "file"},
		{"a variable reaches the config", "", []string{"DCS_CACHE_CLEANUP_INTERVAL=5m"}, nil, 5 * time.Minute,
			"env DCS_CACHE_CLEANUP_INTERVAL"},
		{"a variable beats the file", file, []string{"DCS_CACHE_CLEANUP_INTERVAL=5m"}, nil, 5 * time.Minute,
			"env DCS_CACHE_CLEANUP_INTERVAL"},
		{"a flag beats a variable and the file", file, []string{"DCS_CACHE_CLEANUP_INTERVAL=5m"},
			[]string{"--cache.cleanup_interval=1d"}, 24 * time.Hour, "flag --cache.cleanup_interval"},
		{"a flag that says the default is still explicit", file, nil,
			[]string{"--cache.cleanup_interval", "1h"}, time.Hour, "flag --cache.cleanup_interval"},
		{"of a variable given twice the first counts", "",
			[]string{"DCS_CACHE_CLEANUP_INTERVAL=5m", "DCS_CACHE_CLEANUP_INTERVAL=6m"},
			nil, 5 * time.Minute, "env DCS_CACHE_CLEANUP_INTERVAL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, tt.file)
			cfg, origins, err := Load(Sources{File: path, Env: tt.env, Flags: allFlags(t, tt.args...)})
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Cache.CleanupInterval != tt.want {
				t.Errorf("cleanup interval %v, want %v", cfg.Cache.CleanupInterval, tt.want)
			}
			got := strings.TrimSuffix(origins["cache.cleanup_interval"].String(), " "+path)
			if got != tt.origin {
				t.Errorf("origin %q, want %q", got, tt.origin)
			}
			if explicit := origins.Explicit("cache.cleanup_interval"); explicit != (tt.origin != "default") {
				t.Errorf("explicit is %v for %s", explicit, tt.origin)
			}
		})
	}
}

func TestLoadWithoutSourcesIsTheDefault(t *testing.T) {
	cfg, origins, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg, DefaultConfig()) {
		t.Errorf("got %+v", cfg)
	}
	if len(origins) != len(DefaultConfig().keys()) {
		t.Errorf("%d origins for %d keys", len(origins), len(DefaultConfig().keys()))
	}
	for _, key := range Keys() {
		if _, ok := origins[key]; !ok || origins.Explicit(key) {
			t.Errorf("%s: origin %v, known %v", key, origins[key], ok)
		}
	}
	if origins.Explicit("no.such.key") {
		t.Error("an unknown key is explicit")
	}
}

func TestDefaultsAreThoseOfTheDesign(t *testing.T) {
	want := map[string]string{
		"server.address": "0.0.0.0", "server.port": "5000", "server.tls.certificate": "", "server.tls.key": "",
		"server.trusted_proxies": "127.0.0.0/8, ::1/128", "server.drain_timeout": "30s",
		"storage.directory": "/var/cache/docker-cache-server", "auth.enabled": "true",
		"auth.users": "", "auth.htpasswd": "", "cache.ttl": "30d",
		"cache.cleanup_interval": "1h", "cache.grace": "1h", "cache.adopt_age": "now", "cache.rules": "",
		"cache.gone_for": "30d", "cache.what_if_memory": "1MiB",
		"cache.max_size": "0", "cache.min_free": "auto",
		"limits.manifest_size": "4MiB", "limits.uploads_per_client": "1000", "limits.header_size": "64KiB",
		"limits.header_timeout": "30s", "limits.stall_timeout": "2m", "debug.address": "127.0.0.1:5001",
		"log.level": "info", "log.format": "text", "log.access": "true",
	}
	for _, key := range Keys() {
		value, ok := want[key]
		if got := DefaultConfig().Text(key); !ok || got != value {
			t.Errorf("%s is %q, want %q (known %v)", key, got, value, ok)
		}
	}
	if len(want) != len(Keys()) {
		t.Errorf("%d keys, want %d", len(Keys()), len(want))
	}
}

func TestLoadReadsTheAncestorsFile(t *testing.T) {
	cfg, _, err := Load(Sources{File: writeFile(t, `
server:
  address: "0.0.0.0"
  port: 5000
storage:
  directory: "/var/cache/docker-cache-server"
auth:
  enabled: true
  users:
    - username: "admin"
      password: "admin123"
    - username: "user1"
      password: "password1"
cache:
  ttl: "30d"
  cleanup_interval: "1h"
`)})
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Auth.Users = []User{{"admin", "admin123"}, {"user1", "password1"}}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got %+v, want %+v", cfg, want)
	}
}

func TestLoadAcceptsWhatPeopleWrite(t *testing.T) {
	tests := []struct {
		name string
		file string
		env  []string
		key  string
		want string
	}{
		{"an empty file", "", nil, "server.port", "5000"},
		{"a file of comments", "# nothing\n\n", nil, "server.port", "5000"},
		{"a document that is null", "--- ~\n", nil, "server.port", "5000"},
		{"a section with nothing in it", "cache:\nserver: {port: 1}\n", nil, "server.port", "1"},
		{"a list with nothing in it", "auth: {users: }", nil, "auth.users", ""},
		{"proxies in place of the default", "server: {trusted_proxies: [10.0.0.0/8, 192.0.2.1]}", nil,
			"server.trusted_proxies", "10.0.0.0/8, 192.0.2.1"},
		{"no proxies", "server: {trusted_proxies: []}", nil, "server.trusted_proxies", ""},
		{"proxies that are all commented out", "server: {trusted_proxies: }", nil, "server.trusted_proxies", ""},
		{"an empty list", "auth: {users: []}", nil, "auth.users", ""},
		{"a key with dots", "server.tls: {}\nserver.port: 7\n", nil, "server.port", "7"},
		{"a number in quotes", `server: {port: "7"}`, nil, "server.port", "7"},
		{"any free port", "server: {port: 0}", nil, "server.port", "0"},
		{"a bare 0 for a duration", "cache: {ttl: 0}", nil, "cache.ttl", "0"},
		{"a mixed duration", "cache: {ttl: 1w2d3h}", nil, "cache.ttl", "9d3h"},
		{"a number where text is meant keeps its spelling", "storage: {directory: 007}", nil, "storage.directory",
			"007"},
		{"text in quotes may say true", `storage: {directory: "true"}`, nil, "storage.directory", "true"},
		{"an alias", "server: {address: &a 127.0.0.1}\nstorage: {directory: *a}", nil, "storage.directory",
			"127.0.0.1"},
		{"an empty variable is an empty text", "", []string{"DCS_DEBUG_ADDRESS="}, "debug.address", ""},
		{"a variable may say 0 for false", "", []string{"DCS_LOG_ACCESS=0"}, "log.access", "false"},
		{"a variable may contain an equals sign", "", []string{"DCS_STORAGE_DIRECTORY=/a=b"}, "storage.directory",
			"/a=b"},
		{"a log level in capitals", "", []string{"DCS_LOG_LEVEL=DEBUG"}, "log.level", "DEBUG"},
		{"an IPv6 address", `server: {address: "::1"}`, nil, "server.address", "::1"},
		{"a debug address with a port only", `debug: {address: ":0"}`, nil, "debug.address", ":0"},
		{"variables of others", "", []string{"DCS_CONFIG=x", "DCS_PORT=tcp://10.0.0.1:5000", "CACHE_TTL=1", "nonsense"},
			"cache.ttl", "30d"},
		{"the file's path of the certificate and the variable's of the key", "server: {tls: {certificate: c}}",
			[]string{"DCS_SERVER_TLS_KEY=k"}, "server.tls.key", "k"},
		{"users with a password of digits and a hash",
			"auth: {users: [{username: a, password: 0123}, {username: b, password: " +
				"'$2y$05$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy'}]}", nil, "auth.users", "a, b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, _, err := Load(Sources{File: writeFile(t, tt.file), Env: tt.env})
			if err != nil {
				t.Fatal(err)
			}
			if got := cfg.Text(tt.key); got != tt.want {
				t.Errorf("%s is %q, want %q", tt.key, got, tt.want)
			}
		})
	}
}

func TestLoadKeepsThePasswordAsWritten(t *testing.T) {
	cfg, _, err := Load(Sources{File: writeFile(t, "auth: {users: [{username: 1, password: 0123}]}")})
	if err != nil {
		t.Fatal(err)
	}
	if want := (User{"1", "0123"}); cfg.Auth.Users[0] != want {
		t.Errorf("got %q, want %q", cfg.Auth.Users[0], want)
	}
}

// refusal is a configuration that Load must refuse, and what its error has to say.
type refusal struct {
	name string
	file string
	env  []string
	want string // FILE stands for the path of the file
	hint string // part of the hint
}

func (r refusal) check(t *testing.T) {
	path := writeFile(t, r.file)
	cfg, origins, err := Load(Sources{File: path, Env: r.env})
	e, ok := errors.AsType[*Error](err)
	if !ok || cfg != nil || origins != nil {
		t.Fatalf("got %+v, %v, error %v", cfg, origins, err)
	}
	if got := strings.ReplaceAll(err.Error(), path, "FILE"); got != r.want {
		t.Errorf("error\n  %s\nwant\n  %s", got, r.want)
	}
	if e.Hint() == "" || !strings.Contains(e.Hint(), r.hint) {
		t.Errorf("hint %q, want one with %q", e.Hint(), r.hint)
	}
}

func TestLoadRefusesAFileOfTheWrongForm(t *testing.T) {
	tests := []refusal{
		{"a misspelled key", "cache:\n  ttll: 1h", nil,
			"cache.ttll is not a known key; did you mean cache.ttl? (file FILE, line 2)", "config.example.yaml"},
		{"a key outside its section", "port: 1", nil,
			"port is not a known key; did you mean server.port? (file FILE, line 1)", ""},
		{"a key in the wrong section", "debug:\n  level: info", nil,
			"debug.level is not a known key; did you mean log.level? (file FILE, line 2)", ""},
		{"a misspelled section", "cahce: {ttl: 1h}", nil,
			"cahce is not a known key; did you mean cache? (file FILE, line 1)", ""},
		{"a misspelled nested section", "server:\n  tsl: {key: k}", nil,
			"server.tsl is not a known key; did you mean server.tls? (file FILE, line 2)", ""},
		{"a misspelled field of a user", "auth:\n  users:\n  - user: a\n    password: b", nil,
			"auth.users[0].user is not a known key; did you mean username? (file FILE, line 3)", ""},
		{"a key given twice", "cache:\n  ttl: 1h\n  ttl: 2h", nil,
			"cache.ttl is already given on line 2 (file FILE, line 3)", "keep one"},
		{"a section given twice", "cache: {ttl: 1h}\ncache: {grace: 1h}", nil,
			"cache is already given on line 1 (file FILE, line 2)", ""},
		{"a key given nested and with dots", "cache: {ttl: 1h}\ncache.ttl: 1h", nil,
			"cache.ttl is already given on line 1 (file FILE, line 2)", ""},
		{"a key with a list for a name", "[a]: 1", nil, "configuration file FILE, line 1 has a key that is no name",
			""},
		{"a key with an empty name", `cache: {"": 1}`, nil, "cache has a key that is no name (file FILE, line 1)", ""},
		{"a merge key", "cache: &a {ttl: 1h, <<: *a}", nil,
			"cache has a merge key, which dcs does not read (file FILE, line 1)", "write"},
		{"a section that is its own section", "server: &a {tls: *a}", nil,
			"server.tls.tls is not a known key; did you mean server.tls? (file FILE, line 1)", ""},
		{"a single value for a section", "cache: 30d", nil,
			"cache is a single value, where a section is expected (file FILE, line 1)", ""},
		{"a list for a section", "cache: [ttl]", nil,
			"cache is a list, where a section is expected (file FILE, line 1)", ""},
		{"a proxy that is none", "server:\n  trusted_proxies:\n    - 10.0.0.0/8\n    - ten", nil,
			`server.trusted_proxies[1]: "ten" is neither a network nor an IP address (file FILE, line 4)`,
			"10.0.0.0/8"},
		{"a section for a proxy", "server: {trusted_proxies: [{a: b}]}", nil,
			"server.trusted_proxies[0] is a section, where a single value is expected (file FILE, line 1)",
			"line of the key"},
		{"a single value for a list", "auth: {users: admin}", nil,
			"auth.users is a single value, where a list is expected (file FILE, line 1)", "dash"},
		{"a section for a list", "auth:\n  users:\n    admin: admin123", nil,
			"auth.users is a section, where a list is expected (file FILE, line 3)", "dash"},
		{"a single value for a user", "auth: {users: [admin:admin123]}", nil,
			"auth.users[0] is a single value, where a section is expected (file FILE, line 1)", ""},
		{"a section for a single value", "server: {port: {a: b}}", nil,
			"server.port is a section, where a single value is expected (file FILE, line 1)", ""},
		{"a list for a single value", "log: {level: [info]}", nil,
			"log.level is a list, where a single value is expected (file FILE, line 1)", ""},
		{"a key without a value", "debug:\n  address:\n", nil, "debug.address has no value (file FILE, line 2)", `""`},
		{"false for a text", "debug: {address: false}", nil,
			"debug.address is true or false, where text is expected (file FILE, line 1)", "quotes"},
		{"a password that is true is not told", "auth: {users: [{username: a, password: true}]}", nil,
			"auth.users[0].password is true or false, where text is expected (file FILE, line 1)", "quotes"},
		{"a single value for the file", "hello", nil,
			"configuration file FILE is a single value, where sections such as server: are expected", ""},
		{"a list for the file", "- a", nil,
			"configuration file FILE is a list, where sections such as server: are expected", ""},
		{"two documents", "cache: {}\n---\ncache: {}\n", nil,
			"configuration file FILE is not YAML: a second document begins near line 2", ""},
		{"no YAML", "cache: [", nil,
			"configuration file FILE is not YAML: line 1: did not find expected node content", ""},
		{"a tab for an indent", "cache:\n\tttl: 1h", nil,
			"configuration file FILE is not YAML: line 2: found character that cannot start any token", ""},
		{"a bare glob", "cache:\n  rules:\n    - tag: *-dev\n      keep: true", nil,
			"configuration file FILE is not YAML: unknown anchor '-dev' referenced", "in quotes, as on line 3"},
		{"a bare glob with a set", "cache:\n  rules:\n    - tag: [0-9]*\n      keep: true", nil,
			"configuration file FILE is not YAML: line 3: did not find expected alphabetic or numeric character", "in quotes, as on line 3"},
		{"no text", "\x00\x01", nil, "configuration file FILE is not YAML: control characters are not allowed", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.check)
	}
}

func TestLoadRefusesAValueOfTheWrongType(t *testing.T) {
	tests := []refusal{
		{"a word for a port", "server: {port: abc}", nil,
			`server.port: "abc" is not a whole number (file FILE, line 1)`, ""},
		{"an empty text for a port", `server: {port: ""}`, nil,
			"server.port is empty, where a value is needed (file FILE, line 1)", ""},
		{"a word for a switch", "log: {access: maybe}", nil,
			`log.access: "maybe" is neither true nor false (file FILE, line 1)`, ""},
		{"a duration without a unit", "\ncache:\n  ttl: 5", nil, `cache.ttl: "5" has no unit (file FILE, line 3)`,
			"give a unit, for example 30d"},
		{"a duration with an unknown unit", "cache: {ttl: 5y}", nil,
			`cache.ttl: "5y" has the unknown unit "y" (file FILE, line 1)`, "30d"},
		{"a duration of words", "cache: {ttl: never}", nil, `cache.ttl: "never" is not a duration (file FILE, line 1)`,
			"30d"},
		{"a duration out of range", "cache: {ttl: 300000d}", nil,
			`cache.ttl: "300000d" is longer than 292 years (file FILE, line 1)`, ""},
		{"a size with an unknown unit", "cache: {max_size: 5 apples}", nil,
			`cache.max_size: "5 apples" has the unknown unit " apples" (file FILE, line 1)`, "GiB"},
		{"a word for a rule's ttl", "cache: {rules: [{repository: a, ttl: b}]}", nil,
			`cache.rules[0].ttl: "b" is not a duration (file FILE, line 1)`, ""},
		{"a variable of the wrong type beats a good file", "server: {port: 1}", []string{"DCS_SERVER_PORT=x"},
			`server.port: "x" is not a whole number (env DCS_SERVER_PORT)`, ""},
		{"an empty variable for a number", "", []string{"DCS_SERVER_PORT="},
			"server.port is empty, where a value is needed (env DCS_SERVER_PORT)", "remove it"},
		{"a service link of Kubernetes", "", []string{"DCS_SERVER_PORT=tcp://10.0.0.1:5000"},
			`server.port: "tcp://10.0.0.1:5000" is not a whole number (env DCS_SERVER_PORT)`,
			"enableServiceLinks: false"},
		{"a list as a variable", "", []string{"DCS_AUTH_USERS=admin"},
			`auth.users is a list, which flags and variables cannot give (env DCS_AUTH_USERS)`,
			"configuration file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.check)
	}
}

func TestLoadRefusesAListAsAFlag(t *testing.T) {
	flags := pflag.NewFlagSet("dcs", pflag.ContinueOnError)
	flags.String("auth.users", "", "a mistake of the program")
	if err := flags.Parse([]string{"--auth.users=admin:secret"}); err != nil {
		t.Fatal(err)
	}
	_, _, err := Load(Sources{Flags: flags})
	if e, ok := errors.AsType[*Error](err); !ok || e.Origin != (Origin{Flag, "auth.users"}) {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func TestLoadSaysWhyAFileCannotBeRead(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	_, _, err := Load(Sources{File: missing})
	want := "configuration file " + missing + " cannot be read: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	if _, _, err := Load(Sources{File: t.TempDir()}); err == nil || !strings.HasSuffix(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
}

func TestUnknownEnvSuggestsWhatWasMeant(t *testing.T) {
	got := UnknownEnv([]string{
		"DCS_CONFIG=/etc/dcs.yaml", "DCS_CACHE_TTL=1d", "HOME=/root", "DCS_PORT_5000_TCP_ADDR=10.0.0.1",
		"DCS_CACHE_TTTL=1d",
		"DCS_SERVER_PORTS=1", "DCS_TTL=1d", "DCS_PORT=tcp://10.0.0.1:5000", "DCS_=1",
	})
	want := []string{
		"DCS_", "DCS_CACHE_TTTL (did you mean DCS_CACHE_TTL?)", "DCS_PORT", "DCS_PORT_5000_TCP_ADDR",
		"DCS_SERVER_PORTS (did you mean DCS_SERVER_PORT?)", "DCS_TTL (did you mean DCS_CACHE_TTL?)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The parser must turn any bytes into a valid configuration or an *Error.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"", "~", "a", "- a", "{}", "cache: {ttl: 1w2d}", "cache: 1", "cache: {max_size: 1.5TB}", "server: {tls: [a]}",
		"auth: {users: [{username: a, password: b}, ~, c, [d]]}", "auth: &a {users: *a}", "a: &x [*x]",
		"cache: &c {<<: *c}",
		"cache: {rules: [{repository: '**', tag: '*', ttl: 0, keep: true}, {untagged_ttl: 1d}, {keep_last: 3}, ~]}", "server: {port: !!binary AA==}",
		"---\n---\n", "? [a]\n: b", "\xff\xfe", "server: {port: !!null 5}", "!!map cache: {}",
		"log: {access: !!bool x}",
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "dcs.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, _, err := Load(Sources{File: path})
		if checked, wrong := Check(path); (wrong == nil) != (err == nil) ||
			err == nil && len(checked.Rules) != len(cfg.Cache.Rules) {
			t.Fatalf("Load says %v, Check %v", err, wrong)
		}
		if err == nil {
			err = cfg.Validate()
			if err != nil {
				t.Fatalf("loaded, but not valid: %v", err)
			}
			return
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Error() == "" || e.Hint() == "" || e.Origin.Kind != File {
			t.Fatalf("error %#v", err)
		}
	})
}
