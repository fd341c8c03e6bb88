package nearest

import "testing"

func TestNameSuggestsOnlyWhatIsNear(t *testing.T) {
	verbs := []string{"completion", "config", "gc", "help", "inspect", "serve", "users", "version"}
	flags := []string{"ttl", "tags", "images", "repository", "dry-run", "storage.directory",
		"server.address", "debug.address", "server.port", "cache.ttl"}
	for _, tt := range []struct {
		name       string
		candidates []string
		want       string
	}{
		{"serv", verbs, "serve"},
		{"user", verbs, "users"},
		{"inspcet", verbs, "inspect"},
		{"comp", verbs, "completion"}, // only it begins so
		{"co", verbs, ""},             // two begin so
		{"cg", verbs, "gc"},           // two neighbours swapped
		{"push", verbs, ""},
		{"g", verbs, ""},
		{"", verbs, ""},
		{"tll", flags, "ttl"},
		{"all", flags, ""},
		{"repo", flags, "repository"},
		{"dry_run", flags, "dry-run"},
		{"directory", flags, "storage.directory"}, // the front left out
		{"cache.port", flags, "server.port"},      // another front
		{"address", flags, "server.address"},      // the first of two that end alike
		{"server.hots", []string{"server.port", "server.tls.key"}, ""},
		{"cache.foo", flags, ""},          // near only by its front
		{"cache.tlt", flags, "cache.ttl"}, // two neighbours swapped
		{"version", flags, ""},
		{"password-stdin", flags, ""},
		{"anything", nil, ""},
	} {
		if got := Name(tt.name, tt.candidates); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
