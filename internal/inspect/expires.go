package inspect

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Times are in milliseconds since 1970, as in the index: there may be millions of them.
const never = math.MaxInt64 // the time of expiry of what does not expire

// expiry says when rows expire under a policy.
type expiry struct {
	store       index.Store
	policy      index.Policy
	now         int64
	life        rule.Life     // of images and tags, after their last use, if neither a rule nor a pin decides
	contentLife time.Duration // of content that no manifest refers to
	held        int64         // nothing is removed before
	whole       bool          // the index knows all that is on disk
	ruled       map[layout.Key]ruled
}

// ruled is when a tag or a manifest expires that does not expire as it would without rules and pins.
type ruled struct {
	due    int64
	kept   bool // a rule keeps it for longer
	pinned bool // a pin keeps it for longer
}

// newExpiry reads from the index what an expiry depends on besides the policy: the clock, the hold, and whether the
// index knows everything.
func newExpiry(ctx context.Context, store index.Store, p index.Policy) (expiry, error) {
	x := expiry{store: store, policy: p, now: store.Now().UnixMilli(), life: policy.Life(p),
		contentLife: p.Grace + p.Resolution, ruled: map[layout.Key]ruled{}}
	whole, err := store.Whole(ctx)
	if err != nil {
		return x, fmt.Errorf("read the index: %w", err)
	}
	held, err := store.Held(ctx)
	if err != nil {
		return x, fmt.Errorf("read the index: %w", err)
	}
	x.whole = whole
	if !held.IsZero() {
		x.held = held.UnixMilli()
	}
	return x, nil
}

// imageDue is when a tag or a manifest expires that was last used at t.
func (x expiry) imageDue(k layout.Key, t int64) int64 {
	if r, is := x.ruled[k]; is {
		return r.due
	}
	return x.plainDue(t)
}

// plainDue is when an image expires that was last used at t, if neither a rule nor a pin decides.
func (x expiry) plainDue(t int64) int64 {
	if x.life.Forever() {
		return never
	}
	return x.due(t, x.life.TTL)
}

// contentDue is when content expires that was last used at t, if no manifest refers to it.
func (x expiry) contentDue(t int64) int64 { return x.due(t, x.contentLife) }

// due is when something expires that was last used at t and lives for so long in watched time. While a hold stands
// nothing expires before its end.
func (x expiry) due(t int64, life time.Duration) int64 {
	return max(x.store.Due(time.UnixMilli(t), life).UnixMilli(), x.held)
}

// stampOf is a time for output: null for what never expires.
func stampOf(t int64) stamp.Time {
	if t == never {
		return stamp.Time{}
	}
	return stamp.Time(time.UnixMilli(t).UTC())
}
