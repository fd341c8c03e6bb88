package disk

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestASyncServesWhoAskedBeforeItBegan holds that nobody is told of a sync that began before he asked, and
// that those who wait together are served together.
func TestASyncServesWhoAskedBeforeItBegan(t *testing.T) {
	q := queue{dirs: map[string]*queued{}}
	var begun atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 200 {
				var at int64 = -1
				asked := begun.Load()
				err := q.take("dir", func(string) error {
					at = begun.Add(1)
					return nil
				})
				if err != nil || at < 0 && begun.Load() <= asked {
					t.Errorf("%v: no sync began after somebody asked", err)
				}
			}
		})
	}
	all.Wait()
	if len(q.dirs) != 0 {
		t.Errorf("%d directories are left", len(q.dirs))
	}
}

func TestAFailedSyncIsToldToAllWhoWaitForIt(t *testing.T) {
	q := queue{dirs: map[string]*queued{}}
	broken := errors.New("broken disk")
	began, end := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		if err := q.take("dir", func(string) error { close(began); <-end; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-began
	const n = 5
	var syncs atomic.Int64
	for range n {
		all.Go(func() {
			err := q.take("dir", func(string) error { syncs.Add(1); return broken })
			if !errors.Is(err, broken) {
				t.Errorf("who waited is told %v", err)
			}
		})
	}
	for joined := 0; joined < n+1; {
		q.mu.Lock()
		joined = q.dirs["dir"].users
		q.mu.Unlock()
	}
	close(end)
	all.Wait()
	if syncs.Load() != 1 {
		t.Errorf("%d syncs for all who waited; want 1", syncs.Load())
	}
}

// TestABegunSyncIsOfAnOpenFile: what the disk refuses is told, and nothing else is.
func TestABegunSyncIsOfAnOpenFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	for _, length := range []int64{10_000, 1 << 20} {
		if err := errors.Join(BeginSync(f, 0, length), AwaitSync(f, 0, length)); err != nil {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
	f.Close()
	if runtime.GOOS == "linux" && (BeginSync(f, 0, 1) == nil || AwaitSync(f, 0, 1) == nil) {
		t.Error("a file that is closed: no error")
	}
}
