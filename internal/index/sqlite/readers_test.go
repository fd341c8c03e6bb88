package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// However many clients want to read, so many files are open as a few readers need, and who leaves the queue for
// them was not served.
func TestReadersAreBoundedAndWaitUntilTheyLeave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	s := open(t, path, Serve, time.Now)
	defer s.Close()
	entered, release := make(chan struct{}), make(chan struct{})
	var readers sync.WaitGroup
	read := func(ctx context.Context, each func()) error {
		return s.View(ctx, func(r index.Reader) error {
			each()
			_, err := r.Totals()
			return err
		})
	}
	for range maxReaders {
		readers.Go(func() {
			if err := read(t.Context(), func() { entered <- struct{}{}; <-release }); err != nil {
				t.Error(err)
			}
		})
	}
	for range maxReaders {
		<-entered
	}

	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	var late sync.WaitGroup
	for range 200 {
		late.Go(func() {
			started <- struct{}{}
			err := read(ctx, func() { t.Error("somebody reads beside as many as may") })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("who left the queue was told %v", err)
			}
		})
	}
	for range 200 {
		<-started
	}
	cancel()
	late.Wait()
	if n := filesOpen(t, path); n > 3*(maxReaders+1) {
		t.Errorf("%d files of the index are open", n)
	}
	close(release)
	readers.Wait()
	if err := read(t.Context(), func() {}); err != nil {
		t.Error(err)
	}
	if n := len(s.file.Load().read.idle); n > maxIdle {
		t.Errorf("%d idle connections", n)
	}
}

// filesOpen counts those of this process that begin with a path.
func filesOpen(t *testing.T, path string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil &&
			strings.HasPrefix(name, path) {
			n++
		}
	}
	return n
}

// A process without free file descriptors says so, and not that a directory is at fault.
func TestTooManyOpenFilesIsNamed(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, time.Now)
	defer s.Close()
	pool := s.file.Load().read
	for len(pool.idle) > 0 { // what is open needs no more files, nor does what takes over those of who closed it
		c, err := pool.connect()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := syscall.Rlimit{Cur: 3, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	err := s.View(t.Context(), func(index.Reader) error { return nil })
	if back := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); back != nil {
		t.Fatal(back)
	}
	if !errors.Is(err, syscall.EMFILE) || errors.Is(err, ErrNoSharedMemory) {
		t.Errorf("told %v", err)
	}
}
