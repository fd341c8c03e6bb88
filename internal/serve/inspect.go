package serve

import (
	"context"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
)

// Inspect lists what is stored. whole is false during a rebuild: there may be more than the list has.
func (s *Server) Inspect(ctx context.Context, o inspect.Options) (list inspect.Listing, whole bool, err error) {
	ctx, leave, err := s.calls.begin(ctx)
	if err != nil {
		return list, false, err
	}
	defer leave()
	if whole, err = s.store.Index.Whole(ctx); err == nil {
		list, err = inspect.List(ctx, s.store.Index, s.policy(), o)
	}
	return list, whole, cause(ctx, err)
}

// Stats counts what is stored, from counters of the index.
func (s *Server) Stats() (t index.Totals, err error) {
	err = s.store.Index.View(context.Background(), func(r index.Reader) error {
		t, err = r.Totals()
		return err
	})
	return t, err
}
