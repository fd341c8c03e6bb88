package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/pin"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Served is a store that this process serves. It holds the server lock.
type Served struct {
	Store
	// Secret signs the states of uploads. It outlives restarts, so that a client can go on with its upload.
	Secret string

	log    logrus.FieldLogger
	lock   *tree.ServerLock
	engine *sqlite.Store // Index, which may be lost while it is served
}

// Serve opens the store for a server that promises a policy. The data directory is made when it is missing, and a
// damaged index is put aside. *DirectoryError, *tree.LockedError.
func (o Opener) Serve(ctx context.Context, p index.Policy) (_ *Served, err error) {
	s := &Served{Store: Store{Dir: o.Dir, Policy: p}, log: o.Log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.takeDirectory(ctx); err != nil {
		return nil, directoryError(o.Dir, err)
	}
	if err := s.Tree.Own(o.Dir.LockFile()); err != nil { // at once: a start that fails must not lock the owner out
		return nil, err
	}
	if err := s.lock.Announce(tree.Holder{PID: os.Getpid()}); err != nil { // a gc waits until an index is announced
		return nil, err
	}
	err = s.readIndex(func() (err error) {
		s.engine, err = sqlite.Open(ctx, o.Dir.Index(), sqlite.Serve, o.now())
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.use(s.engine, nil); err != nil {
		return nil, err
	}
	s.onClose(s.leave)
	if err := s.promise(ctx, p); err != nil {
		return nil, err
	}
	if s.Secret, err = s.readSecret(); err != nil {
		return nil, err
	}
	// What a killed process left half-written, or was about to remove.
	return s, errors.Join(s.Tree.EmptyTemp(), s.Tree.EmptyTrash(), s.Tree.KeepBallast())
}

// takeDirectory makes the data directory and takes its lock. *tree.LockedError, *tree.SymlinksError,
// *tree.FileSystemError.
func (s *Served) takeDirectory(ctx context.Context) (err error) {
	if err := os.MkdirAll(string(s.Dir), 0o755); err != nil {
		return err
	}
	if err := s.Dir.CheckSymlinks(); err != nil {
		return err
	}
	if s.Tree, err = tree.Open(s.Dir); err != nil {
		return err
	}
	if s.lock, err = s.Dir.Lock(ctx); err != nil {
		return err
	}
	s.onClose(func() error { return errors.Join(s.lock.Announce(tree.Holder{}), s.lock.Unlock()) })
	return nil
}

// leave records that the server watched the store until now, and closes the gate: what happens from now on is not
// seen.
func (s *Served) leave() error {
	return errors.Join(s.Index.Beat(context.Background()), s.Index.LeaveGate(context.Background()))
}

// promise makes the index the one of this server. An object that is not in it may still be in the tree: the gate is
// closed. It is announced before it gets the pins, since others edit both.
func (s *Served) promise(ctx context.Context, p index.Policy) error {
	if _, err := s.Index.CloseGate(ctx); err != nil {
		return err
	}
	if err := s.announce(); err != nil {
		return err
	}
	if err := s.Promise(ctx, p); err != nil {
		return err
	}
	err := s.alignPins(ctx)
	if errors.As(err, new(*pin.FileError)) {
		s.log.WithError(err).Error("nothing is removed, and no tag can be deleted, until the pins can be read")
		return nil
	}
	return err
}

// announce tells other processes which index this server uses.
func (s *Served) announce() error {
	return s.lock.Announce(tree.Holder{PID: os.Getpid(), Index: s.Index.ID()})
}

// Keep makes again what other processes find the server by, in case an operator removed it. *tree.LockedError:
// another server took the data directory.
func (s *Served) Keep(ctx context.Context) error {
	if err := s.Tree.MkdirAll(s.Dir.Metadata()); err != nil {
		return err
	}
	again, err := s.lock.Keep(ctx)
	if !again || err != nil {
		return err
	}
	return errors.Join(s.Tree.Own(s.Dir.LockFile()), s.announce())
}

// Lost says that the index is damaged, or that its file was deleted or replaced. What is written to it from then on
// will not be found again.
func (s *Served) Lost() bool { return s.engine.Lost() }

// Reopen goes on with the index that is at its place now, or with a new one, and promises a policy. The gate is
// closed: the caller compares the index with the tree.
func (s *Served) Reopen(ctx context.Context, p index.Policy) error {
	aside := []string{"-wal", "-shm"} // of the lost file: SQLite must not play them into another one
	if s.engine.Damaged() {
		aside = append(aside, "")
	}
	if err := s.putAside(aside...); err != nil {
		return err
	}
	if err := s.readIndex(func() error { return s.engine.Reopen(ctx) }); err != nil {
		return err
	}
	return s.promise(ctx, p)
}

// readIndex opens the index. An index that cannot be read is put aside, and a new one is opened, which a comparison
// with the tree fills.
func (s *Served) readIndex(open func() error) error {
	err := s.makeIndex(open)
	if err == nil || !(errors.Is(err, index.ErrCorrupt) || isNoFile(s.Dir.Index())) {
		return err
	}
	s.log.WithError(err).Error(
		"the index cannot be read; it is put aside and rebuilt from disk, and everything counts as used now")
	if err := s.putAside("", "-wal", "-shm"); err != nil {
		return err
	}
	return s.makeIndex(open)
}

// isNoFile says that something else has taken the place of a file, such as a directory.
func isNoFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && !fi.Mode().IsRegular()
}

// makeIndex makes the file of the index, if there is none, and opens it.
func (s *Served) makeIndex(open func() error) error {
	if err := touchIndex(s.Dir); err != nil {
		return err
	}
	return open()
}

// putAside renames files of the index. Files that were put aside before are removed: one copy is enough to look at.
func (s *Served) putAside(suffixes ...string) error {
	for _, suffix := range suffixes {
		path := s.Dir.Index() + suffix
		if err := os.RemoveAll(path + ".broken"); err != nil {
			return err
		}
		if err := os.Rename(path, path+".broken"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readSecret reads the secret, or makes one.
func (s *Served) readSecret() (string, error) {
	data, err := disk.ReadFile(s.Dir.Secret())
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
	return secret, disk.WriteFile(s.Dir.Secret(), []byte(secret+"\n"), 0o600)
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
