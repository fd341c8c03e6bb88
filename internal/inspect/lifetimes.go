package inspect

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Times are kept in milliseconds since 1970, as the index does: there may be millions of them.
const never = math.MaxInt64 // when that goes which does not expire

// lifetimes say when things go under a policy.
type lifetimes struct {
	store   index.Store
	now     int64
	names   time.Duration // how long names live
	mortal  bool          // names expire at all
	content time.Duration // how long content lives that nothing names
	held    int64         // nothing goes before
	whole   bool          // the index knows all that is on disk
}

func newLifetimes(ctx context.Context, store index.Store, p index.Policy) (lifetimes, error) {
	l := lifetimes{store: store, now: store.Now().UnixMilli(), content: p.Grace + p.Resolution}
	l.names, l.mortal = policy.Life(p)
	whole, err := store.Whole(ctx)
	if err != nil {
		return l, fmt.Errorf("read the index: %w", err)
	}
	held, err := store.Held(ctx)
	if err != nil {
		return l, fmt.Errorf("read the index: %w", err)
	}
	l.whole = whole
	if !held.IsZero() {
		l.held = held.UnixMilli()
	}
	return l, nil
}

// incomplete is what people read first while the server scans the disk.
const incomplete = "the index is being rebuilt from disk: what follows is incomplete"

// nameDue is when a name goes that was used last at a time.
func (l lifetimes) nameDue(t int64) int64 {
	if !l.mortal {
		return never
	}
	return l.due(t, l.names)
}

// contentDue is when content goes that was used last at a time, if nothing names it.
func (l lifetimes) contentDue(t int64) int64 { return l.due(t, l.content) }

func (l lifetimes) due(t int64, d time.Duration) int64 {
	return max(l.store.Due(time.UnixMilli(t), d).UnixMilli(), l.held)
}

func stampOf(t int64) stamp.Time {
	if t == never {
		return stamp.Time{}
	}
	return stamp.Time(time.UnixMilli(t).UTC())
}
