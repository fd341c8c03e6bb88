package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/expiry"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
)

// Source is a data directory, whether a server runs on it or not. It is only read.
type Source struct {
	Dir layout.Dir
	Log logrus.FieldLogger
	// TTL and Grace are what the caller wants to suppose. Nil: what the last server promised, else Default.
	TTL, Grace *time.Duration
	Default    index.Policy
	// NameAge is for names in a directory that was never indexed; nil: used now.
	NameAge adopt.Age
}

// NoStoreError says that a directory holds no registry.
type NoStoreError struct{ Directory string }

func (e *NoStoreError) Error() string {
	return fmt.Sprintf("%s is no data directory of a registry", e.Directory)
}

// Hint says what the operator can do.
func (e *NoStoreError) Hint() string {
	return "name the directory of the server: --storage.directory DIR"
}

// List opens the index and writes what is in it.
func (s Source) List(ctx context.Context, o Options, out Output) (err error) {
	ix, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ix.Close()) }()
	p, err := s.policy(ctx, ix)
	if err != nil {
		return err
	}
	return Write(ctx, ix, p, o, out)
}

func (s Source) open(ctx context.Context) (index.Store, error) {
	_, err := os.Stat(s.Dir.Index())
	if !errors.Is(err, fs.ErrNotExist) {
		return sqlite.Open(ctx, s.Dir.Index(), sqlite.Look, time.Now)
	}
	if _, err := os.Stat(s.Dir.Native(layout.Root)); adopt.Missing(err) {
		return nil, &NoStoreError{string(s.Dir)}
	} else if err != nil {
		return nil, err
	}
	return s.index(ctx)
}

// passing is an index that is removed when it is closed.
type passing struct {
	index.Store
	dir string
}

func (p passing) Close() error { return errors.Join(p.Store.Close(), os.RemoveAll(p.dir)) }

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
	if _, err := reconcile.Rebuild(ctx, reconcile.Options{Dir: s.Dir, Index: ix, Log: s.Log, NameAge: s.NameAge}); err != nil {
		return nil, errors.Join(err, made.Close())
	}
	return made, nil
}

// policy is the one by which an expiry run would go, with what servers still owe.
func (s Source) policy(ctx context.Context, ix index.Store) (index.Policy, error) {
	last, owed, promised, err := ix.Promised(ctx)
	if err != nil {
		return last, err
	}
	p := s.Default
	if promised {
		p = last
	}
	if s.TTL != nil {
		p.TTL = *s.TTL
	}
	if s.Grace != nil {
		p.Grace = *s.Grace
	}
	p.Grace = max(p.Grace, owed.Grace)
	p.Resolution = max(expiry.Resolution(p.Grace), owed.Resolution)
	return p, nil
}
