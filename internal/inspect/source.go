package inspect

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/store"
)

// Source is a data directory, whether a server runs on it or not. It is only read.
type Source struct{ Store store.Opener }

// List opens the store and writes what is in it.
func (s Source) List(ctx context.Context, o Options, out Output) error {
	return s.with(ctx, func(st *store.Store) error {
		whole, err := st.Index.Whole(ctx)
		if err == nil && !whole && out.Format == CSV { // which has no place for it
			s.Store.Log.Warn(incomplete)
		}
		o.next = nextRun(ctx, st, s.Store.Log)
		return errors.Join(err, Write(ctx, st.Index, st.Policy, o, out))
	})
}

// nextRun is when the server of the store cleans up next. Zero: that is not known, or no server runs.
func nextRun(ctx context.Context, st *store.Store, log logrus.FieldLogger) time.Time {
	if st.Server == nil {
		return time.Time{}
	}
	at, err := st.Index.NextRun(ctx)
	if err != nil {
		log.WithError(err).Debug("cannot read when the next clean-up is")
	}
	return at
}

// with opens the store for as long as look works.
func (s Source) with(ctx context.Context, look func(*store.Store) error) error {
	st, err := s.Store.Look(ctx)
	if err != nil {
		return err
	}
	return errors.Join(look(st), st.Close())
}
