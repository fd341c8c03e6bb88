package tree

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/jc-lab/docker-cache-server/internal/disk"
)

// Holder is what the holder of the server lock says about itself. Only the lock tells whether it runs: its pid may be
// that of another process in another container.
type Holder struct {
	PID   int    `json:"pid"`
	Index string `json:"index,omitempty"` // id of the index that it uses
	// Directory is the data directory by the holder's name for it, and Inode that of its metadata directory:
	// a lock that is a hard link to another directory's says so. A directory has no second name.
	Directory string `json:"directory,omitempty"`
	Inode     uint64 `json:"inode,omitempty"`
	// Process tells the holder's process from others.
	Process string `json:"process,omitempty"`
}

// process is random: a pid may be that of a process in another container, too.
var process = sync.OnceValue(rand.Text)

// ErrLocked is any LockedError, for packages that cannot name that type.
var ErrLocked = errors.New("data directory is in use by another server")

// LockedError says that another server holds the data directory.
type LockedError struct {
	Directory string
	Holder    Holder
}

func (e *LockedError) Error() string {
	if e.here() {
		return fmt.Sprintf("data directory %s is in use by another server of this process", e.Directory)
	}
	return fmt.Sprintf("data directory %s is in use by another dcs serve (pid %d)", e.Directory, e.Holder.PID)
}

// here says whether this process holds the lock itself, for another server.
func (e *LockedError) here() bool { return e.Holder.Process == process() }

// Is makes every LockedError an ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// ElsewhereError says that a lock, and with it the index, is a hard link to that of another directory.
type ElsewhereError struct{ LockedError }

func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("the index of %s is a hard link to that of %s, which a dcs serve uses (pid %d)",
		e.Directory, e.Holder.Directory, e.Holder.PID)
}

// Unwrap makes every ElsewhereError a LockedError.
func (e *ElsewhereError) Unwrap() error { return &e.LockedError }

// probeTime is how long a server that starts waits for a gc that probes the lock. A probe takes microseconds.
const probeTime = time.Second

// ServerLock is the lock that a server holds on its data directory for as long as it runs.
type ServerLock struct {
	dir Dir
	fl  *flock.Flock
}

// Lock takes the server lock of d, which must have its metadata directory. A *LockedError names the holder.
func (d Dir) Lock(ctx context.Context) (*ServerLock, error) {
	if err := disk.CheckRegular(d.LockFile()); err != nil {
		return nil, lockError(d.LockFile(), err)
	}
	fl := flock.New(d.LockFile())
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	ok, err := fl.TryLockContext(ctx, 20*time.Millisecond)
	if errors.Is(err, context.DeadlineExceeded) || (err == nil && !ok) {
		h, err := d.holder()
		if err == nil {
			err = &LockedError{string(d), *h}
		}
		return nil, err
	}
	if err != nil {
		return nil, lockError(d.LockFile(), err)
	}
	return &ServerLock{d, fl}, nil
}

// Keep takes the lock again if its file was removed or replaced, so that no other server finds the directory unlocked.
// again: it did, and the caller has to announce the holder. *LockedError: another server took it.
func (l *ServerLock) Keep(ctx context.Context) (again bool, err error) {
	if there, err := l.there(); there || err != nil {
		return false, err
	}
	taken, err := l.dir.Lock(ctx)
	if err != nil {
		return false, err
	}
	err = l.fl.Unlock()
	l.fl = taken.fl
	return true, err
}

// there says whether the locked file is still the one that others find.
func (l *ServerLock) there() (bool, error) {
	mine, err := l.fl.Stat()
	if err != nil {
		return false, err
	}
	found, err := os.Stat(l.dir.LockFile())
	return err == nil && os.SameFile(mine, found), nil
}

// Announce writes who holds the lock, and where. In a file that is not the locked one, another server may say so.
func (l *ServerLock) Announce(h Holder) error {
	if there, err := l.there(); !there || err != nil {
		return err
	}
	inode, err := l.dir.inode()
	if err != nil {
		return err
	}
	h.Directory, h.Inode = string(l.dir), inode
	if h.PID != 0 { // 0: the lock is given up
		h.Process = process()
	}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	// In place, not by a rename: the lock is on this inode.
	return os.WriteFile(l.fl.Path(), append(data, '\n'), 0o644)
}

// Unlock gives the data directory back.
func (l *ServerLock) Unlock() error { return l.fl.Unlock() }

// Live returns the server that holds d's server lock, or nil when none does. *ElsewhereError.
func (d Dir) Live() (*Holder, error) {
	if err := disk.CheckRegular(d.LockFile()); err != nil {
		return nil, lockError(d.LockFile(), err)
	}
	if _, err := os.Stat(d.LockFile()); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	fl := flock.New(d.LockFile(), flock.SetFlag(os.O_RDONLY))
	ok, err := fl.TryRLock()
	if err != nil {
		return nil, lockError(d.LockFile(), err)
	}
	if ok {
		return nil, fl.Unlock()
	}
	return d.holder()
}

// holder reads who holds the lock. *ElsewhereError.
func (d Dir) holder() (*Holder, error) {
	h := d.readHolder()
	if h.Inode == 0 {
		return &h, nil // not announced yet, or by an older version
	}
	here, err := d.inode()
	if err == nil && here != h.Inode {
		err = &ElsewhereError{LockedError{string(d), h}}
	}
	return &h, err
}

// inode is that of the metadata directory.
func (d Dir) inode() (uint64, error) {
	fi, err := os.Stat(d.Metadata())
	if err != nil {
		return 0, err
	}
	return fi.Sys().(*syscall.Stat_t).Ino, nil
}

// LockGC waits until no other gc works on d. Two would be safe, but each would rebuild the index.
func (d Dir) LockGC(ctx context.Context) (unlock func() error, err error) {
	return lockAlone(ctx, d.GCLock(), 50*time.Millisecond)
}

// LockPins waits until no other process edits the pins of d, or brings an index in line with them. That takes
// milliseconds.
func (d Dir) LockPins(ctx context.Context) (unlock func() error, err error) {
	return lockAlone(ctx, d.PinsLock(), 5*time.Millisecond)
}

// lockAlone takes the lock at a path, and asks for it so often.
func lockAlone(ctx context.Context, path string, every time.Duration) (unlock func() error, err error) {
	if err := disk.CheckRegular(path); err != nil {
		return nil, lockError(path, err)
	}
	fl := flock.New(path)
	if _, err := fl.TryLockContext(ctx, every); err != nil {
		return nil, lockError(path, err)
	}
	return fl.Unlock, nil
}

func (d Dir) readHolder() Holder {
	var h Holder
	data, err := disk.ReadFile(d.LockFile())
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil {
		return Holder{} // not announced yet: pid 0
	}
	return h
}

// lockError says what a lock needs, unless the file could not even be opened.
func lockError(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	return fmt.Errorf("lock %s (locks must work on the file system of %s): %w", path, filepath.Dir(path), err)
}
