package serve

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// ext4 is a small file system in a file.
func ext4(t *testing.T, bytes int64) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, bytes); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*exec.Cmd{exec.Command("mkfs.ext4", "-q", "-F", image),
		exec.Command("mount", "-o", "loop", image, dir)} {
		if out, err := c.CombinedOutput(); err != nil {
			t.Skipf("%s: %v, %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	return dir
}

// TestAServerKeepsFreeWhatOthersFill: least recently used images go while that helps. Where it cannot, none goes, and
// the log says so once.
func TestAServerKeepsFreeWhatOthersFill(t *testing.T) {
	disk := ext4(t, 64<<20)
	w := &world{T: t, clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
		dir:       filepath.Join(disk, "data"),
		configure: func(cfg *config.Config) { cfg.Cache.TTL, cfg.Cache.MinFree = 0, &config.Size{Percent: 10} }}
	w.start()
	t.Cleanup(w.stop)
	w.farm(10)
	w.pass(2 * time.Hour)
	space := func() (free, size int64) {
		free, size, err := w.s.store.Dir.Space()
		if err != nil {
			t.Fatal(err)
		}
		return free, size
	}
	other := filepath.Join(disk, "other")
	fill := func(bytes int64) {
		if err := os.WriteFile(other, make([]byte, bytes), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	free, size := space()
	least := size / 10
	fill(free - least + 2_500_000)
	w.awaitLeft(`"3","4","5","6","7","8","9"`)
	w.await("enough is free", func() bool { // names go before bytes
		free, _ := space()
		return free >= least
	})
	var log bytes.Buffer
	w.s.log.SetOutput(&log)
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reloaded(func(c *config.Config) { c.Cache.MinFree.Percent = 100 }); err != nil {
		t.Fatal(err)
	}
	w.await("a warning", func() bool { return w.said(&log, "others fill the disk") > 0 })
	if _, err := w.reloaded(func(c *config.Config) { c.Cache.TTL = 1000 * time.Hour }); err != nil { // it looks again
		t.Fatal(err)
	}
	_, before := scrape(t, w.s)
	w.await("another run", func() bool {
		_, now := scrape(t, w.s)
		return now[`dcs_gc_runs_total{result="ok"}`] > before[`dcs_gc_runs_total{result="ok"}`]
	})
	if n := w.said(&log, "others fill the disk"); n != 1 {
		t.Errorf("warned %d times", n)
	}
	w.awaitLeft(`"3","4","5","6","7","8","9"`)
}

// said counts a text in a log to which the server writes.
func (w *world) said(log *bytes.Buffer, text string) int {
	w.s.log.SetOutput(io.Discard)
	defer w.s.log.SetOutput(log)
	return strings.Count(log.String(), text)
}
