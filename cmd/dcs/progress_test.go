package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestABarOnATerminal runs gc beside a server, to which it leaves a turn after every step: so it takes long
// enough to be watched, and to be stopped by Ctrl-C.
func TestABarOnATerminal(t *testing.T) {
	t.Parallel()
	dir, _ := staleStore(t)
	server := startServer(t, dir, "--cache.cleanup_interval", "0", "--cache.grace", "1s", "--cache.ttl", "24h", "--cache.adopt_age", "mtime")
	for _, tt := range []struct {
		name, variable string
		colour         bool
	}{{"in colour", "TERM=xterm", true}, {"without colour", "NO_COLOR=1", false}} {
		s := onScreen(t, 100, []string{tt.variable}, "gc", "--storage.directory", dir, "--log.level", "debug", "--log.format", "json")
		server.await(func() bool {
			return regexp.MustCompile(`removing  \[.*\] +\d+%  [\d,]+ of `).MatchString(s.out.String())
		}, "a bar: "+tt.name)
		s.typed(ctrlC)
		if code := s.end(); code != 130 {
			t.Errorf("%s: exit %d", tt.name, code)
		}
		lines := s.lines()
		if n := len(lines); n < 3 || lines[n-1] != "" || lines[n-2] != "dcs: interrupted" || !strings.HasPrefix(lines[n-3], "interrupted: removed ") {
			t.Errorf("%s: the screen is left as\n%s", tt.name, strings.Join(lines, "\n"))
		}
		for _, line := range lines {
			line = strings.TrimPrefix(line, "^C") // which the terminal echoes, wherever the cursor is
			if strings.Contains(line, "removed image") && !json.Valid([]byte(line)) {
				t.Errorf("%s: the bar tore %q", tt.name, line)
			}
			if strings.Contains(line, "[#") || strings.Contains(line, "[-") {
				t.Errorf("%s: a bar is left in %q", tt.name, line)
			}
		}
		if strings.Contains(s.out.String(), "\x1b[32m") != tt.colour {
			t.Errorf("%s: %.300q", tt.name, s.out.String())
		}
	}
	if rep := gcJSON(t, "--storage.directory", dir); rep.Remaining.Tags != 1 || rep.Remaining.Blobs != 3 {
		t.Errorf("the last run left %+v", rep.Remaining)
	}
}
