package users

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// isMetadata says whether a directory is dcs's own below a data directory. It is the only one that ensureDir makes.
func isMetadata(dir string) bool { return dir == tree.Dir(filepath.Dir(dir)).Metadata() }

// ensureDir makes a missing ".metadata" in an existing directory, for that directory's owner alone. The error wraps
// os.ErrNotExist when any other directory is missing.
func ensureDir(dir string) error {
	err := checkDir(dir)
	if !errors.Is(err, os.ErrNotExist) || !isMetadata(dir) {
		return err
	}
	if err := checkDir(filepath.Dir(dir)); err != nil {
		return err
	}
	err = disk.MkdirPrivate(dir)
	if errors.Is(err, os.ErrExist) { // another process was faster
		return checkDir(dir)
	}
	if err != nil {
		return err
	}
	return errors.Join(disk.Own(dir), disk.SyncDir(filepath.Dir(dir)))
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("directory %s: %w", dir, os.ErrNotExist)
	case err != nil:
		return err
	case !info.IsDir():
		return &os.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	return nil
}

// lockFile takes the lock at path, waiting for it no longer than patience. The file stays when the lock is released:
// without it two processes could each lock a file of this name.
func lockFile(path string, patience time.Duration) (unlock func(), err error) {
	if err := disk.Touch(path, 0o600); err != nil {
		return nil, fmt.Errorf("create lock: %w", err)
	}
	if err := disk.CheckRegular(path); err != nil { // to open a pipe would wait for a process that writes to it
		return nil, fmt.Errorf("take lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	_, err = lock.TryLockContext(ctx, 10*time.Millisecond)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("lock %s: another process held it for %v: %w", path, patience, err)
	}
	if err != nil {
		return nil, fmt.Errorf("take lock: %w", err)
	}
	return func() { _ = lock.Unlock() }, nil
}
