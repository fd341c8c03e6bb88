package main

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// TestABarOnATerminal runs gc beside another writer, to which it leaves a turn after every step: so it takes long
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
			stop := crowdIndex(t, dir, 100*time.Millisecond)
			t.Cleanup(stop)
			s := onScreen(t, 100, []string{tt.variable}, "gc", "--storage.directory", dir, "--log.level", "debug",
				"--log.format", "json")
			s.expect("removed image")
			s.until("a bar", func() bool {
				return regexp.MustCompile(`removing  \[.*\] +\d+%  [\d,]+ of `).MatchString(s.out.String())
			})
			s.typed(ctrlC)
			if code := s.end(); code != 130 {
				t.Errorf("exit %d", code)
			}
			stop()
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
			s.until("the rest removed, once its grace is over", func() bool {
				rep := gcJSON(t, "--storage.directory", dir)
				return rep.Remaining.Tags == 1 && rep.Remaining.Blobs == 3
			})
		})
	}
}

// crowdIndex writes to the index of a data directory again and again, each time for so long, until stop is called. So a
// run ends its transactions early, and waits between them. The pauses let others have their turn: a writer that comes
// again at once is as likely to be the next.
func crowdIndex(t *testing.T, dir string, each time.Duration) (stop func()) {
	t.Helper()
	ix, err := sqlite.Open(t.Context(), tree.Dir(dir).Index(), sqlite.Beside, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		var err error
		for ; err == nil && ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
			err = ix.Adopt(context.Background(), func() (index.Adoption, bool, error) {
				time.Sleep(each)
				return index.Adoption{}, false, index.ErrSkip
			})
		}
		done <- errors.Join(err, ix.Close())
	}()
	return sync.OnceFunc(func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
