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
)

// metadataDir is the one directory that ensureDir makes: dcs's own, below the data root.
const metadataDir = ".metadata"

// ensureDir returns an error that wraps os.ErrNotExist unless dir is there, or is a ".metadata" that it could
// make: for its owner alone, who is the owner of the directory above it.
func ensureDir(dir string) error {
	err := checkDir(dir)
	if !errors.Is(err, os.ErrNotExist) || filepath.Base(dir) != metadataDir {
		return err
	}
	parent := filepath.Dir(dir)
	if err := checkDir(parent); err != nil {
		return err
	}
	if err := disk.MkdirPrivate(dir); err != nil {
		if errors.Is(err, os.ErrExist) { // somebody else was faster
			return checkDir(dir)
		}
		return err
	}
	if err := giveTo(parent, func(uid, gid int) error { return os.Lchown(dir, uid, gid) }); err != nil {
		return err
	}
	return disk.SyncDir(parent)
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

// lockFile takes the lock at path, waiting for it no longer than patience. The file stays when the lock is
// released: to remove it would let two holders lock two files of one name.
func lockFile(path string, patience time.Duration) (unlock func(), err error) {
	if err := createLock(path); err != nil {
		return nil, fmt.Errorf("create lock: %w", err)
	}
	if err := disk.CheckRegular(path); err != nil { // to open a pipe would wait for somebody who writes to it
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

// createLock makes the lock file if it is not there. Only a file that it made itself changes hands: the owner
// of the directory could have put a link to any other file in its place.
func createLock(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	return giveTo(filepath.Dir(path), file.Chown)
}

// giveTo calls chown with the owner of dir when this is root: what `sudo dcs users add` makes must not lock
// the server out.
func giveTo(dir string, chown func(uid, gid int) error) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return chown(int(stat.Uid), int(stat.Gid))
}
