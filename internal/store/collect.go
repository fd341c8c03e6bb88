package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/pin"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// ErrStarting says that a server has just taken the data directory and has not opened its index yet.
var ErrStarting = errors.New("a server is opening this data directory")

// WrongIndexError says that a server uses another index than the one in its data directory.
type WrongIndexError struct{ tree.LockedError }

func (e *WrongIndexError) Error() string {
	return fmt.Sprintf("the index of %s was replaced while its server runs (pid %d)", e.Directory, e.Holder.PID)
}

// BarredError says that the gate stays closed until an operator has mended something.
type BarredError struct{ index.Bar }

func (e *BarredError) Error() string {
	return "the server could not compare its index with the disk, so nothing may be removed: " + e.Why
}

// Collect opens the store for a gc. It waits for another gc, for a server that starts, and for a server that compares
// its index with the tree. Where there is no server it compares the two itself, since a stock registry or a crash may
// have changed the tree: unless that is as the last gc left it. *tree.NoStoreError, *GraceError, *WrongIndexError,
// *BarredError, *pin.FileError.
func (o Opener) Collect(ctx context.Context) (_ *Store, err error) {
	if err := o.Dir.Check(); err != nil {
		return nil, err
	}
	s := &Store{Dir: o.Dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.Tree, err = tree.Open(o.Dir); err != nil {
		return nil, err
	}
	if err := o.queue(ctx, s); err != nil {
		return nil, err
	}
	if _, err := os.Stat(o.Dir.Index()); errors.Is(err, fs.ErrNotExist) && !o.Asked.Known() {
		if err := o.resolve(ctx, s, true); err != nil { // before an index is made, in which nothing would be seen
			return nil, err
		}
	}
	if err := o.join(ctx, s); err != nil {
		return nil, err
	}
	if err := s.alignPins(ctx); err != nil {
		return nil, err
	}
	if s.Server == nil {
		return s, o.openAlone(ctx, s)
	}
	if err := o.awaitGate(ctx, s.Index); err != nil {
		return nil, err
	}
	return s, o.resolve(ctx, s, true)
}

// queue waits until no other gc works on the data directory.
func (o Opener) queue(ctx context.Context, s *Store) error {
	o.wait(ForGC)
	unlock, err := o.Dir.LockGC(ctx)
	if err != nil {
		return err
	}
	s.onClose(unlock)
	return s.Tree.Own(o.Dir.GCLock())
}

// join opens the index beside the server that there is, or alone. A server may start or end at any time: when that
// happened before the index was open, join begins again.
func (o Opener) join(ctx context.Context, s *Store) error {
	for {
		server, err := o.awaitServer(ctx)
		if err != nil {
			return err
		}
		ix, err := o.openIndex(ctx, server)
		if err != nil {
			return err
		}
		now, err := o.Dir.Live()
		if err == nil && same(now, server) {
			s.Server = server
			return s.use(ix, nil)
		}
		if err := errors.Join(err, ix.Close()); err != nil {
			return err
		}
	}
}

func same(a, b *tree.Holder) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}

// poll is how often a gc looks whether a server has opened its index, or the gate.
const poll = 200 * time.Millisecond

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(poll):
		return nil
	}
}

// awaitServer returns the server of the data directory, nil where there is none. A server that has just taken the
// lock does not say yet which index it uses, and may still close the gate.
func (o Opener) awaitServer(ctx context.Context) (*tree.Holder, error) {
	for {
		server, err := o.Dir.Live()
		if err != nil || server == nil || server.Index != "" {
			return server, err
		}
		o.wait(ForServer)
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

func (o Opener) openIndex(ctx context.Context, server *tree.Holder) (index.Store, error) {
	if server != nil {
		return o.openServers(ctx, server, sqlite.Beside)
	}
	if err := touchIndex(o.Dir); err != nil {
		return nil, err
	}
	return sqlite.OpenAlone(ctx, o.Dir.Index(), o.now(), func() (bool, error) {
		server, err := o.Dir.Live()
		return server != nil, err
	})
}

// openServers opens the index that a server uses. *WrongIndexError: another index has taken its place.
func (o Opener) openServers(ctx context.Context, server *tree.Holder, mode sqlite.Mode) (index.Store, error) {
	wrong := &WrongIndexError{tree.LockedError{Directory: string(o.Dir), Holder: *server}}
	ix, err := sqlite.Open(ctx, o.Dir.Index(), mode, o.now())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, wrong
	case err != nil:
		return nil, err
	case ix.ID() != server.Index:
		return nil, errors.Join(wrong, ix.Close())
	}
	return ix, nil
}

// awaitGate waits for a server that compares its index with the tree. *BarredError.
func (o Opener) awaitGate(ctx context.Context, ix index.Store) error {
	for told := false; ; told = true {
		open, err := ix.GateOpen(ctx)
		if open || err != nil {
			return err
		}
		bar, err := ix.Barred(ctx)
		if err != nil {
			return err
		}
		if bar != nil {
			return &BarredError{*bar}
		}
		if !told {
			o.Log.Info("waiting for the server to finish scanning the disk")
			o.wait(ForServer)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// openAlone compares the index with the tree where that is necessary, and opens the gate unless images were adopted
// with the dates of their files.
func (o Opener) openAlone(ctx context.Context, s *Store) error {
	if err := o.resolve(ctx, s, true); err != nil {
		return err
	}
	if err := o.compare(ctx, s); err != nil {
		return err
	}
	if err := s.Index.Beat(ctx); err != nil {
		return err
	}
	for _, u := range s.rebuilt.Unread {
		o.Log.WithError(u.Err).Error("a part of the tree cannot be read")
	}
	s.Imported = s.rebuilt.Adopted > 0 && o.NameAge != nil
	if s.Imported {
		o.Log.WithField("files", s.rebuilt.Adopted).Info(
			"found files new to dcs and started their clocks; nothing is removed in this run")
		return nil
	}
	return s.OpenGate(ctx)
}

// Rehearse opens the store for the dry run of a gc, and waits for no other process. Beside a server it reads the
// server's index as it is. Without one the comparison that comes first in a run happens on a copy of the index,
// elsewhere. ErrStarting; otherwise the errors of Collect but *BarredError.
func (o Opener) Rehearse(ctx context.Context) (_ *Store, err error) {
	if err := o.Dir.Check(); err != nil {
		return nil, err
	}
	server, err := o.Dir.Live()
	if err != nil {
		return nil, err
	}
	if server != nil && server.Index == "" {
		return nil, ErrStarting
	}
	s := &Store{Dir: o.Dir, Server: server}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if server == nil {
		if err := o.openCopy(ctx, s); err != nil {
			return nil, err
		}
		if err := s.alignPins(ctx); err != nil {
			return nil, err
		}
		return s, o.openAlone(ctx, s)
	}
	if err := s.use(o.openServers(ctx, server, sqlite.Look)); err != nil {
		return nil, err
	}
	if _, _, err := pin.Read(o.Dir.Pins()); err != nil {
		return nil, err
	}
	return s, o.resolve(ctx, s, true)
}
