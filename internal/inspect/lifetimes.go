package inspect

import (
	"math"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/expiry"
	"github.com/jc-lab/docker-cache-server/internal/index"
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
}

func newLifetimes(store index.Store, p index.Policy) lifetimes {
	l := lifetimes{store: store, now: store.Now().UnixMilli(), content: p.Grace + p.Resolution}
	l.names, l.mortal = expiry.Life(p)
	return l
}

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
	return l.store.Due(time.UnixMilli(t), d).UnixMilli()
}

func stampOf(t int64) stamp.Time {
	if t == never {
		return stamp.Time{}
	}
	return stamp.Time(time.UnixMilli(t).UTC())
}
