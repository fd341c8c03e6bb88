package store

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/pin"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Look opens the store to show what is in it. The index is read where it is, beside a server or without one, also in
// a directory that cannot be written to. Where that is impossible a copy is read. For a directory without an index,
// such as a stock registry's, one is made elsewhere. *tree.NoStoreError, index.ErrOlder.
func (o Opener) Look(ctx context.Context) (_ *Store, err error) {
	if err := o.Dir.Check(); err != nil {
		return nil, err
	}
	s := &Store{Dir: o.Dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	_, err = os.Stat(o.Dir.Index())
	if errors.Is(err, fs.ErrNotExist) {
		return s, o.lookAtTree(ctx, s)
	}
	server, unknown := o.Dir.Live() // a lock that cannot be read does not keep anybody from looking
	served := server != nil || unknown != nil
	err = s.use(sqlite.Open(ctx, o.Dir.Index(), sqlite.Look, o.now()))
	if errors.Is(err, sqlite.ErrNoSharedMemory) || (errors.Is(err, index.ErrOlder) && !served) {
		err = o.openCopy(ctx, s) // no server writes to it
		if err == nil {
			err = o.lookAtPins(ctx, s)
		}
	}
	if err != nil {
		return nil, err
	}
	if server != nil && server.Index == s.Index.ID() {
		s.Server = server
	}
	return s, o.resolve(ctx, s, false)
}

// lookAtTree makes an index elsewhere. Where the tree has links that cannot be followed, it knows not all, and its
// gate stays closed.
func (o Opener) lookAtTree(ctx context.Context, s *Store) error {
	if err := o.openCopy(ctx, s); err != nil {
		return err
	}
	if err := o.lookAtPins(ctx, s); err != nil {
		return err
	}
	if err := o.resolve(ctx, s, false); err != nil {
		return err
	}
	err := o.rebuild(ctx, s)
	var refused *tree.SymlinksError
	if errors.As(err, &refused) {
		o.Log.WithError(refused).Warn("not everything is shown")
		return nil
	}
	if err != nil {
		return err
	}
	return s.OpenGate(ctx)
}

// lookAtPins brings a copy of the index in line with the file of pins, if that can be read.
func (o Opener) lookAtPins(ctx context.Context, s *Store) error {
	err := s.alignPins(ctx)
	if errors.As(err, new(*pin.FileError)) {
		o.Log.WithError(err).Warn("what is pinned is not known")
		return nil
	}
	return err
}

// openCopy opens a copy of the index, or a new one where there is none, in a temporary directory that Close removes.
func (o Opener) openCopy(ctx context.Context, s *Store) error {
	tmp, err := os.MkdirTemp("", "dcs-*")
	if err != nil {
		return err
	}
	s.onClose(func() error { return os.RemoveAll(tmp) })
	return s.use(sqlite.OpenCopy(ctx, o.Dir.Index(), tmp, o.now()))
}
