package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRulesHoldForEveryCommand: a server takes them from its file, at SIGHUP again, and a gc and an inspect that know
// no file follow the server.
func TestRulesHoldForEveryCommand(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "dcs.yaml")
	rules := func(releases string) {
		write(t, file, "cache:\n  rules:\n    - {repository: ci/**, ttl: 1s}\n    - {repository: release/**, "+
			releases+"}\n")
	}
	rules("keep: true")
	s := startServer(t, t.TempDir(), "--config", file, "--cache.cleanup_interval", "0", "--cache.grace", "1s")
	for _, ref := range []string{"ci/app:v1", "release/app:v1", "app:v1"} {
		s.push(ref)
	}
	goes := func(want string, rule int, args ...string) {
		t.Helper()
		var rep report
		s.await(func() bool {
			rep = gcJSON(t, append(args, "--storage.directory", s.dir)...)
			return len(rep.Images) > 0
		}, want+" goes")
		if i := rep.Images[0]; len(rep.Images) != 1 || i.Repository != want || i.Rule != rule ||
			(i.Reason == "rule") != (rule > 0) {
			t.Errorf("%+v went; want %s by rule %d", rep.Images, want, rule)
		}
	}
	goes("ci/app", 1)
	code, listed, stderr := dcs(t, "inspect", "--images", "--format", "csv", "--storage.directory", s.dir)
	if code != 0 || !strings.Contains(listed, "release/app") || !strings.Contains(listed, "rule") {
		t.Errorf("exit %d, %s%s; want what keeps release/app", code, listed, stderr)
	}
	goes("app", 0, "--ttl", "1s") // replaces the ttl, and no rule
	rules("ttl: 1s")
	s.hangUp("cache.rules")
	goes("release/app", 2)
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d after SIGTERM", code)
	}
}
