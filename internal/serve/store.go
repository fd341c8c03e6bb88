package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// store is a data directory that this server holds, with its lock and its index.
type store struct {
	dir    tree.Dir
	tree   *tree.Tree
	lock   *tree.RootLock
	index  *sqlite.Store
	secret string
}

// openStore takes a data directory, which is made when it is missing. The gate is closed: what happened
// while no server ran is not known yet.
func openStore(ctx context.Context, dir tree.Dir, policy index.Policy, now func() time.Time, log logrus.FieldLogger) (_ *store, err error) {
	if err := os.MkdirAll(string(dir), 0o755); err != nil {
		return nil, directoryError(dir, err)
	}
	if err := dir.CheckLinks(); err != nil {
		return nil, directoryError(dir, err)
	}
	s := &store{dir: dir}
	if s.tree, err = tree.Open(dir); err != nil {
		return nil, directoryError(dir, err)
	}
	if s.lock, err = dir.Lock(ctx); err != nil {
		return nil, directoryError(dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.tree.Own(dir.LockFile()); err != nil { // at once: a start that fails must not lock the owner out
		return nil, err
	}
	// No index yet: a gc waits until the gate is closed.
	if err := s.lock.Announce(tree.Holder{PID: os.Getpid()}); err != nil {
		return nil, err
	}
	err = s.readIndex(log, func() (err error) {
		s.index, err = sqlite.Open(ctx, dir.Index(), sqlite.Serve, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.promise(ctx, policy); err != nil {
		return nil, err
	}
	if s.secret, err = s.readSecret(); err != nil {
		return nil, err
	}
	// What a killed process left half-written, or was about to remove.
	return s, errors.Join(s.tree.EmptyTemp(), s.tree.EmptyTrash(), s.tree.KeepBallast(dir.Ballast()))
}

// promise makes the index the one of this server. What is not in it is not known to be gone: the gate is
// closed.
func (s *store) promise(ctx context.Context, policy index.Policy) error {
	if _, err := s.index.CloseGate(ctx); err != nil {
		return err
	}
	if err := s.lock.Announce(tree.Holder{PID: os.Getpid(), Index: s.index.ID()}); err != nil {
		return err
	}
	return s.index.Promise(ctx, policy)
}

// keep sees to it that what others find the server by is there, though somebody removed it.
func (s *store) keep(ctx context.Context) error {
	if err := s.tree.MkdirAll(s.dir.Metadata()); err != nil {
		return err
	}
	again, err := s.lock.Keep(ctx)
	if !again || err != nil {
		return err
	}
	return errors.Join(s.tree.Own(s.dir.LockFile()), s.lock.Announce(tree.Holder{PID: os.Getpid(), Index: s.index.ID()}))
}

// reopenIndex goes on with the index that is there now, or with a new one. The write-ahead log beside it
// belongs to the lost one: it must not be played into another file.
func (s *store) reopenIndex(ctx context.Context, policy index.Policy, log logrus.FieldLogger) error {
	files := []string{"-wal", "-shm"}
	if s.index.Damaged() {
		files = append(files, "")
	}
	if err := s.putAside(files...); err != nil {
		return err
	}
	if err := s.readIndex(log, func() error { return s.index.Reopen(ctx) }); err != nil {
		return err
	}
	return s.promise(ctx, policy)
}

// readIndex opens the index. One that cannot be read is put aside: it is rebuilt from disk.
func (s *store) readIndex(log logrus.FieldLogger, open func() error) error {
	path := s.dir.Index()
	err := s.tree.Touch(path) // SQLite's other files get the owner of this one
	if err == nil {
		err = open()
	}
	if fi, serr := os.Stat(path); errors.Is(err, index.ErrCorrupt) || (err != nil && serr == nil && !fi.Mode().IsRegular()) {
		log.WithError(err).Error("the index cannot be read; it is put aside and rebuilt from disk, and everything counts as used now")
		if err := s.putAside("", "-wal", "-shm"); err != nil {
			return err
		}
		if err = s.tree.Touch(path); err == nil {
			err = open()
		}
	}
	return err
}

// putAside moves files of the index out of the way. Those of the time before are removed: nobody needs
// two, and nobody looked at them.
func (s *store) putAside(suffixes ...string) error {
	for _, suffix := range suffixes {
		path := s.dir.Index() + suffix
		if err := os.RemoveAll(path + ".broken"); err != nil {
			return err
		}
		if err := os.Rename(path, path+".broken"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readSecret reads the key that signs upload states, or makes one. It outlives restarts, so that a
// client can go on with its upload.
func (s *store) readSecret() (string, error) {
	data, err := disk.ReadFile(s.dir.Secret())
	if secret := strings.TrimSpace(string(data)); err == nil && len(secret) >= 32 {
		return secret, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	secret := hex.EncodeToString(b)
	return secret, disk.WriteFile(s.dir.Secret(), []byte(secret+"\n"), 0o600)
}

func (s *store) close() error {
	var errs []error
	if s.index != nil {
		// What happens from now on is not seen: nobody expires before the next comparison with the disk.
		errs = append(errs, s.index.LeaveGate(context.Background()), s.index.Close())
	}
	return errors.Join(append(errs, s.lock.Announce(tree.Holder{}), s.lock.Unlock())...)
}

// DirectoryError says why a data directory cannot be used.
type DirectoryError struct {
	Directory string
	Err       error
}

func (e *DirectoryError) Error() string {
	return fmt.Sprintf("data directory %s cannot be used: %v", e.Directory, e.Err)
}

// Unwrap is for errors.As.
func (e *DirectoryError) Unwrap() error { return e.Err }

func directoryError(dir tree.Dir, err error) error {
	var locked *tree.LockedError
	if errors.As(err, &locked) {
		return err
	}
	return &DirectoryError{string(dir), err}
}
