package config

import (
	"strings"
	"testing"
)

// mistakes returns the sentences of what Load says about a file, in which FILE stands for its path.
func mistakes(t *testing.T, text string, env ...string) []string {
	t.Helper()
	path := writeFile(t, text)
	_, _, err := Load(Sources{File: path, Env: env})
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), path, "FILE"), "\n")
}

func TestLoadTellsAllMistakesAtOnceEachWithItsLine(t *testing.T) {
	got := mistakes(t, `server:
  port: many
  addrs: 127.0.0.1
auth:
  users:
  - username: a:b
    password: c
  - {username: d, pasword: e}
  - nobody
cache:
  ttl: 5
  grace: 0
  grace: 1h
log: info
`, "DCS_LIMITS_HEADER_SIZE=1KiB", "DCS_LIMITS_STALL_TIMEOUT=-1s")
	want := []string{
		`server.port: "many" is not a whole number (file FILE, line 2)`,
		`server.addrs is not a known key; did you mean server.address? (file FILE, line 3)`,
		`auth.users[1].pasword is not a known key; did you mean password? (file FILE, line 8)`,
		`auth.users[2] is a single value, where a section is expected (file FILE, line 9)`,
		`cache.ttl: "5" has no unit (file FILE, line 11)`,
		`cache.grace is already given on line 12 (file FILE, line 13)`,
		`log is a single value, where a section is expected (file FILE, line 14)`,
		`auth.users[0].username: "a:b" contains a colon (file FILE, line 6)`,
		`limits.header_size: "1KiB" is not between 4KiB and 1MiB (env DCS_LIMITS_HEADER_SIZE)`,
		`limits.stall_timeout: "-1s" is negative (env DCS_LIMITS_STALL_TIMEOUT)`,
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func TestAStockRegistrysConfigurationIsRecognizedAndItsKeysAreMapped(t *testing.T) {
	for name, text := range map[string]string{
		"of the manual": "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n" +
			"    rootdirectory: /var/lib/registry\nhttp:\n  addr: :5000\n",
		"without its listener": "storage:\n  filesystem:\n    rootdirectory: /var/lib/registry\n",
		"with its version":     "version: 0.1\nlog: {level: debug}\n",
	} {
		_, _, err := Load(Sources{File: writeFile(t, text)})
		errs, ok := err.(Errors)
		if !ok || len(errs) != 1 || !strings.Contains(err.Error(), "is the configuration of a stock registry") {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		hint := errs[0].Hint()
		if !strings.Contains(hint, "docs/migrating.md") {
			t.Errorf("%s: hint %q", name, hint)
		}
		for stock, dcs := range map[string]string{
			"level: info": "log.level (line 3) is log.level", "rootdirectory": "is storage.directory",
			"addr: ": "http.addr (line 8) is server.address and server.port",
		} {
			if strings.Contains(text, stock) && !strings.Contains(hint, dcs) {
				t.Errorf("%s: hint %q lacks %q", name, hint, dcs)
			}
		}
	}
}

func TestAHintNeverSuggestsAKeyThatNobodyCanHaveMeant(t *testing.T) {
	for text, want := range map[string]string{
		"version: 3":              "version is not a known key (file FILE, line 1)",
		"address: 0.0.0.0":        "address is not a known key; did you mean server.address? (file FILE, line 1)",
		"server: {host: a}":       "server.host is not a known key (file FILE, line 1)",
		"cache: {size: 1}":        "cache.size is not a known key (file FILE, line 1)",
		"cache: {max_sizes: 1}":   "cache.max_sizes is not a known key; did you mean cache.max_size? (file FILE, line 1)",
		"auth: {anonymous: true}": "auth.anonymous is not a known key (file FILE, line 1)",
		"proxy: {remoteurl: a}":   "proxy is not a known key (file FILE, line 1)",
		"storage: {drectory: a}": "storage.drectory is not a known key; did you mean storage.directory? " +
			"(file FILE, line 1)",
		"limits: {manifestsize: 1}": "limits.manifestsize is not a known key; did you mean limits.manifest_size? " +
			"(file FILE, line 1)",
	} {
		if got := strings.Join(mistakes(t, text), "\n"); got != want {
			t.Errorf("%s\n  %s\nwant\n  %s", text, got, want)
		}
	}
}

func TestASizeIsWrittenAsPeopleWriteIt(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 1: "1", 1000: "1KB", 1024: "1KiB", 64 << 10: "64KiB", 4 << 20: "4MiB", 1500 << 20: "1500MiB",
		1_500_000_000: "1500MB",
		1001:          "1001", 1 << 60: "1EiB",
	} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
		if back, err := ParseSize(FormatSize(n)); err != nil || back != n {
			t.Errorf("%d became %d, %v", n, back, err)
		}
	}
}

func TestKeysOfAVersionToComeAreHiddenAndRefusedByName(t *testing.T) {
	for _, key := range []string{"auth.anonymous_pull"} {
		for _, known := range Keys() {
			if known == key {
				t.Errorf("%s is listed", key)
			}
		}
		if f := allFlags(t).Lookup(key); f != nil && !f.Hidden {
			t.Errorf("--%s is listed", key)
		}
	}
	got := mistakes(t, "auth: {anonymous_pull: true}")
	want := []string{
		`auth.anonymous_pull: "true" is not available in this version yet (file FILE, line 1)`,
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}
