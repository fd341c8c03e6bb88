package serve

import (
	"context"
	"errors"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
)

// Inspection is a listing in memory.
type Inspection struct {
	Complete bool // false during a rebuild: there may be more than the list has
	Totals   index.Totals
	Rows     []inspect.Row
}

// Inspect lists what is stored.
func (s *Server) Inspect(ctx context.Context, o inspect.Options) (found Inspection, err error) {
	ctx, leave, err := s.calls.begin(ctx)
	if err != nil {
		return found, err
	}
	defer leave()
	if err := s.content.Flush(ctx); err != nil { // a listing reads what has its name
		return found, cause(ctx, err)
	}
	list, err := inspect.List(ctx, s.store.Index, s.policy(), o)
	if err != nil {
		return found, cause(ctx, err)
	}
	found = Inspection{Complete: list.Complete, Totals: list.Totals}
	found.Rows, err = list.All(ctx)
	return found, cause(ctx, errors.Join(err, list.Close()))
}

// Stats counts what is stored, from counters of the index.
func (s *Server) Stats() (t index.Totals, err error) {
	err = s.store.Index.View(context.Background(), func(r index.Reader) error {
		t, err = r.Totals()
		return err
	})
	return t, err
}
