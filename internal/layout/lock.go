package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// Holder is what the holder of the root lock says about itself. Only the lock tells whether it lives:
// its pid may belong to another container's world.
type Holder struct {
	PID   int    `json:"pid"`
	Index string `json:"index,omitempty"` // id of the index that it uses
}

// ErrLocked is any LockedError, for those who cannot name that type.
var ErrLocked = errors.New("data root is in use by another server")

// LockedError says that another server holds the data directory.
type LockedError struct {
	Directory string
	Holder    Holder
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("data root %s is in use by another dcs serve (pid %d)", e.Directory, e.Holder.PID)
}

// Is makes every LockedError an ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// Hint says what the operator can do.
func (e *LockedError) Hint() string {
	return "stop that server, or give this one another --storage.directory"
}

// probeTime is how long a probe by gc may stand in the way of a server that starts; a probe takes microseconds.
const probeTime = time.Second

// RootLock is the lock that a server holds on its data directory for as long as it lives.
type RootLock struct{ fl *flock.Flock }

// Lock takes the root lock of d, which must have its metadata directory. A *LockedError names the holder.
func (d Dir) Lock(ctx context.Context) (*RootLock, error) {
	fl := flock.New(d.LockFile())
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	ok, err := fl.TryLockContext(ctx, 20*time.Millisecond)
	if errors.Is(err, context.DeadlineExceeded) || (err == nil && !ok) {
		return nil, &LockedError{Directory: string(d), Holder: d.readHolder()}
	}
	if err != nil {
		return nil, lockError(d.LockFile(), err)
	}
	return &RootLock{fl: fl}, nil
}

// Announce writes who holds the lock.
func (l *RootLock) Announce(h Holder) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	// In place, not by a rename: the lock is on this inode.
	return os.WriteFile(l.fl.Path(), append(data, '\n'), 0o644)
}

// Unlock gives the data directory back.
func (l *RootLock) Unlock() error { return l.fl.Unlock() }

// Live returns the server that holds d's root lock, or nil when none does.
func (d Dir) Live() (*Holder, error) {
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
	h := d.readHolder()
	return &h, nil
}

// LockGC waits until no other gc works on d. Two would be safe, but each would rebuild the index.
func (d Dir) LockGC(ctx context.Context) (unlock func() error, err error) {
	fl := flock.New(d.GCLock())
	if _, err := fl.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, lockError(d.GCLock(), err)
	}
	return fl.Unlock, nil
}

func (d Dir) readHolder() Holder {
	var h Holder
	data, err := os.ReadFile(d.LockFile())
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil {
		return Holder{} // not announced yet: pid 0
	}
	return h
}

// lockError says what a lock needs. Where the file cannot even be opened, that is not the trouble.
func lockError(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	return fmt.Errorf("lock %s (locks must work on the file system of %s): %w", path, filepath.Dir(path), err)
}
