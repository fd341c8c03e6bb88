package inspect

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Source is a data directory, whether a server runs on it or not. It is only read.
type Source struct {
	Dir tree.Dir
	Log logrus.FieldLogger
	// Asked is the policy to suppose.
	Asked policy.Request
	// NameAge is for names in a directory that was never indexed; nil: used now.
	NameAge adopt.Age
}

// List opens the index and writes what is in it.
func (s Source) List(ctx context.Context, o Options, out Output) error {
	return s.with(ctx, func(ix index.Store, p index.Policy) error {
		whole, err := ix.Whole(ctx)
		if err == nil && !whole && out.Format == CSV { // which has no place for it
			s.Log.Warn(incomplete)
		}
		o.next = s.nextRun(ctx, ix)
		return errors.Join(err, Write(ctx, ix, p, o, out))
	})
}

// nextRun is when the server of the directory cleans up next. Zero: nobody knows, such as where no server runs.
func (s Source) nextRun(ctx context.Context, ix index.Store) time.Time {
	if live, err := s.Dir.Live(); err != nil || live == nil || live.Index != ix.ID() {
		return time.Time{}
	}
	at, err := ix.NextRun(ctx)
	if err != nil {
		s.Log.WithError(err).Debug("cannot read when the next clean-up is")
	}
	return at
}

// with opens the index for as long as look works.
func (s Source) with(ctx context.Context, look func(index.Store, index.Policy) error) (err error) {
	ix, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ix.Close()) }()
	p, err := s.policy(ctx, ix)
	if err != nil {
		return err
	}
	return look(ix, p)
}

func (s Source) open(ctx context.Context) (index.Store, error) {
	if err := s.Dir.Check(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(s.Dir.Index()); errors.Is(err, fs.ErrNotExist) {
		return s.index(ctx)
	}
	ix, err := sqlite.Open(ctx, s.Dir.Index(), sqlite.Look, time.Now)
	if errors.Is(err, sqlite.ErrNoSharedMemory) {
		return s.copied(ctx)
	}
	if errors.Is(err, index.ErrOlder) {
		if live, failed := s.Dir.Live(); failed == nil && live == nil { // nobody writes while it is copied
			return s.copied(ctx)
		}
	}
	return ix, err
}

// passing is an index that is removed when it is closed.
type passing struct {
	index.Store
	dir string
}

func (p passing) Close() error { return errors.Join(p.Store.Close(), os.RemoveAll(p.dir)) }

// copied is for a directory that cannot be written to, and in which a server was killed: what it wrote
// last can only be read with a file beside it. And for an index that an older version left.
func (s Source) copied(ctx context.Context) (index.Store, error) {
	tmp, err := os.MkdirTemp("", "dcs-inspect-*")
	if err != nil {
		return nil, err
	}
	ix, err := sqlite.OpenCopy(ctx, s.Dir.Index(), tmp, time.Now)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	return passing{ix, tmp}, nil
}

// index makes an index elsewhere for a directory that has none, such as a stock registry's.
func (s Source) index(ctx context.Context) (_ index.Store, err error) {
	tmp, err := os.MkdirTemp("", "dcs-inspect-*")
	if err != nil {
		return nil, err
	}
	ix, err := sqlite.Open(ctx, filepath.Join(tmp, "index.db"), sqlite.Alone, time.Now)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	made := passing{ix, tmp}
	res, err := reconcile.Rebuild(ctx, reconcile.Options{Dir: s.Dir, Index: ix, Log: s.Log, NameAge: s.NameAge, Hold: s.hold()})
	var refused *tree.LinksError
	switch {
	case err == nil:
		_, err = ix.OpenGate(ctx, res.Token, res.Repositories()...) // it knows everything now
	case errors.As(err, &refused):
		s.Log.WithError(refused).Warn("not everything is shown")
		err = nil
	}
	if err != nil {
		return nil, errors.Join(err, made.Close())
	}
	return made, nil
}

// hold is how long a server, or a run of gc, would remove nothing after it had adopted the same.
func (s Source) hold() time.Duration {
	if !s.Dir.Served() {
		return 0
	}
	p := s.Asked.Resolve(index.Policy{}, index.Policy{}, false)
	return p.Grace + p.Resolution
}

// policy is the one by which an expiry run would go, with what servers still owe.
func (s Source) policy(ctx context.Context, ix index.Store) (index.Policy, error) {
	last, owed, promised, err := ix.Promised(ctx)
	if err != nil {
		return last, err
	}
	return s.Asked.Resolve(last, owed, promised), nil
}
