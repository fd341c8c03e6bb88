package disk

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/failpoint"
)

// FileSystem is the file system of a directory, which can be synced as a whole: all bytes and names that were written
// before. Many files are durable then by one call. Its methods may be called concurrently, but for Sync.
type FileSystem struct {
	dir       *os.File                  // the kernel reports each error once to a descriptor that was open before it
	whole     bool                      // a sync of all can be trusted, and names are written in transactions
	impatient atomic.Pointer[time.Time] // until then others' data is not waited for
}

// OpenFileSystem opens the file system of a directory. The caller closes it.
func OpenFileSystem(dir string) (*FileSystem, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	whole, err := canSyncAll(d)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &FileSystem{dir: d, whole: whole}, nil
}

// Close closes the descriptor. No other method may be called after it.
func (f *FileSystem) Close() error { return f.dir.Close() }

// Whole says whether Sync can be trusted on this file system, and does not wait for data of others at the moment. Where
// it cannot, each file and each directory has to be synced by itself.
func (f *FileSystem) Whole() bool {
	until := f.impatient.Load()
	return f.whole && (until == nil || time.Now().After(*until))
}

// Journaled says that the file system writes names in transactions, and takes no more of them once one could not be
// written. So a sync that succeeds covers the names of one that failed before. On any other the kernel may take for
// written what the disk refused.
func (f *FileSystem) Journaled() bool { return f.whole }

// Sync makes durable what was written to the file system before the call. Others' data is written too: if a sync takes
// longer than slow although the caller has little of its own, Whole is false for a while. own is how many bytes the
// caller wrote. After an error some of what was written may be lost, and no later Sync says so. It must not be called
// concurrently: the error would be told to one of the callers.
func (f *FileSystem) Sync(own int64) error {
	failpoint.Step()
	began := time.Now()
	if err := count(syncAll(f.dir)); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", f.dir.Name(), err)
	}
	f.took(own, time.Since(began))
	return nil
}

// took judges whether a sync waited for data of others.
func (f *FileSystem) took(own int64, d time.Duration) {
	if own < little && d > slow {
		until := time.Now().Add(impatience)
		f.impatient.Store(&until)
	}
}

// A sync of little should not take long: a disk that writes 10 MB/s takes less for it.
const (
	slow       = time.Second
	little     = 8 << 20
	impatience = time.Minute
)

// SyncAll makes durable what any process wrote to the file system of a directory, as far as that can be synced as a
// whole. An ext4 without a journal flushes the disk's cache before it writes its directories, so all is synced twice.
func SyncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	for range 2 {
		failpoint.Step()
		if err = syncAll(d); err != nil {
			break
		}
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(count(err), d.Close())
}

// atOnce is how many files are synced at a time. More do not make one disk faster.
const atOnce = 16

// SyncFiles makes the bytes of files durable, several at a time. A file that does not exist is an error.
func SyncFiles(paths []string) error {
	return each(paths, func(path string) error {
		f, err := Open(path)
		if err != nil {
			return err
		}
		file := f.File()
		failpoint.Step()
		return errors.Join(file.Sync(), file.Close())
	})
}

// SyncDirs is SyncDir for many, several at a time.
func SyncDirs(dirs []string) error { return each(dirs, SyncDir) }

func each(paths []string, sync1 func(string) error) error {
	errs := make([]error, len(paths))
	turns := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, path := range paths {
		turns <- struct{}{}
		all.Go(func() {
			errs[i] = sync1(path)
			<-turns
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
