package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestABarOnATerminal runs gc beside a server, to which it leaves a turn after every step: so it takes long
// enough to be watched, and to be stopped by Ctrl-C.
func TestABarOnATerminal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, variable string
		colour         bool
	}{{"in colour", "TERM=xterm", true}, {"without colour", "NO_COLOR=1", false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, _ := staleStore(t)
			startServer(t, dir, "--cache.cleanup_interval", "0", "--cache.grace", "1s", "--cache.ttl", "24h",
				"--cache.adopt_age", "mtime")
			s := onScreen(t, 100, []string{tt.variable}, "gc", "--storage.directory", dir, "--log.level", "debug",
				"--log.format", "json")
			s.expect("removed image")
			s.stopFor(time.Second) // whoever waits that long wants to see something
			s.until("a bar", func() bool {
				return regexp.MustCompile(`removing  \[.*\] +\d+%  [\d,]+ of `).MatchString(s.out.String())
			})
			s.typed(ctrlC)
			if code := s.end(); code != 130 {
				t.Errorf("exit %d", code)
			}
			lines := s.lines()
			if n := len(lines); n < 3 || lines[n-1] != "" || lines[n-2] != "dcs: interrupted" ||
				!strings.HasPrefix(lines[n-3], "interrupted: removed ") {
				t.Errorf("the screen is left as\n%s", strings.Join(lines, "\n"))
			}
			for _, line := range lines {
				line = strings.TrimPrefix(line, "^C") // which the terminal echoes, wherever the cursor is
				if strings.Contains(line, "removed image") && !json.Valid([]byte(line)) {
					t.Errorf("the bar tore %q", line)
				}
				if strings.Contains(line, "[#") || strings.Contains(line, "[-") {
					t.Errorf("a bar is left in %q", line)
				}
			}
			if strings.Contains(s.out.String(), "\x1b[32m") != tt.colour {
				t.Errorf("%.300q", s.out.String())
			}
			if rep := gcJSON(t, "--storage.directory", dir); rep.Remaining.Tags != 1 || rep.Remaining.Blobs != 3 {
				t.Errorf("the last run left %+v", rep.Remaining)
			}
		})
	}
}
