// Package disk opens, writes and syncs single files and directories, so that a crash or a power loss cannot undo it.
//
// What is always true:
//   - A file appears under its name complete and synced, or not at all.
//   - Once a call that promises durability returned, the name survives a power loss: the file, its
//     directory, and each new parent directory were synced, in that order.
//   - What root creates in a user's directory belongs to that user, so root never locks the owner out.
//   - Only regular files are opened (Open): no call waits for the other end of a pipe.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/jc-lab/docker-cache-server/internal/failpoint"
)

// WriteFile replaces path by a file that holds data, atomically and durably. A file that is replaced
// keeps its owner and mode; a new one gets perm and belongs to the owner of its directory.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	uid, gid, err := ownerFor(path)
	if err != nil {
		return err
	}
	if old, err := os.Stat(path); err == nil {
		perm = old.Mode().Perm()
	}
	tmp, err := Stage(filepath.Dir(path), data, perm, Owner{uid, gid})
	if err != nil {
		return err
	}
	if err := SyncFiles([]string{tmp}); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	failpoint.Step()
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// Owner is the user and group that new files are given to; keep leaves them to those of the process.
type Owner struct{ uid, gid int }

var keep = Owner{-1, -1}

// OwnerOf is the owner of path as far as this process can, and needs to, give files to it.
func OwnerOf(path string) (Owner, error) {
	if os.Geteuid() != 0 {
		return keep, nil // only root can give files away
	}
	fi, err := os.Stat(path)
	if err != nil {
		return keep, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || (st.Uid == 0 && st.Gid == 0) {
		return keep, nil
	}
	return Owner{int(st.Uid), int(st.Gid)}, nil
}

// ownerFor is the owner that a file written at path gets: its own when it exists, else its directory's.
func ownerFor(path string) (uid, gid int, err error) {
	o, err := OwnerOf(path)
	if errors.Is(err, fs.ErrNotExist) {
		o, err = OwnerOf(filepath.Dir(path))
	}
	return o.uid, o.gid, err
}

func (o Owner) Give(path string) error {
	if o == keep {
		return nil
	}
	return os.Lchown(path, o.uid, o.gid)
}

// Stage writes data to a new file in dir and returns its name. Its bytes are not synced.
func Stage(dir string, data []byte, perm fs.FileMode, o Owner) (name string, err error) {
	failpoint.Step()
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", f.Name(), err), os.Remove(f.Name()))
		}
	}()
	failpoint.Step()
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	if err := f.Chmod(perm); err != nil {
		return "", err
	}
	return f.Name(), o.Give(f.Name())
}
