package inspect

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Gone is an image that was removed, as the index remembers it.
type Gone struct {
	Repository  string        `json:"repository"`
	Tag         string        `json:"tag"` // empty: untagged
	Digest      digest.Digest `json:"digest"`
	GoneAt      stamp.Time    `json:"gone_at"`
	Reason      string        `json:"reason"`    // one of index's Reason constants
	Rule        int           `json:"rule"`      // the number of the rule that decided, from 1; 0: none did
	RuleName    string        `json:"rule_name"` // that, with what the rule was for
	LastAccess  stamp.Time    `json:"last_access"`
	UniqueBytes *int64        `json:"unique_bytes"` // that no other image had; null: not known
	PushedBy    string        `json:"pushed_by"`    // empty: not known
}

// Run is a run of gc, as the index remembers it. The counts are of what it removed.
type Run struct {
	StartedAt  stamp.Time `json:"started_at"`
	EndedAt    stamp.Time `json:"ended_at"` // null: it is under way, or was killed
	DurationMS int64      `json:"duration_ms"`
	By         string     `json:"by"` // server or gc
	Images     int64      `json:"images"`
	Tags       int64      `json:"tags"`
	Manifests  int64      `json:"manifests"`
	Blobs      int64      `json:"blobs"` // files, manifests included
	Uploads    int64      `json:"uploads"`
	FreedBytes int64      `json:"freed_bytes"`
	Error      string     `json:"error"`   // why it ended early; empty: it did not
	HeldBy     string     `json:"held_by"` // why nothing could be removed; empty: it could
}

// Pulls are the GET requests for manifests and blobs in one hour.
type Pulls struct {
	Hour     stamp.Time `json:"hour"` // its beginning, UTC
	Hits     int64      `json:"hits"`
	Misses   int64      `json:"misses"` // that were answered with 404
	HitRatio float64    `json:"hit_ratio"`
	Bytes    int64      `json:"bytes"` // that were sent
}

// History is what the index remembers of one sort, newest first unless another order was asked for.
type History[T any] struct {
	Rows  []T
	Found int64         // before a limit
	Now   time.Time     // when it was read
	For   time.Duration // how long it is remembered; 0: nothing is
}

// ListGone lists the images that were removed. It heeds Sort, Reverse, Limit and Repository; by default what was
// removed last is first.
func ListGone(ctx context.Context, store index.Store, p index.Policy, o Options) (History[Gone], error) {
	if err := o.CheckGone(); err != nil {
		return History[Gone]{}, err
	}
	h, err := read(ctx, store, p, func(r index.Reader, since time.Time, add func(Gone)) error {
		return r.Removals(since, func(m index.Removal) error {
			if rule.Match(o.Repository, m.Repository) {
				add(goneOf(m))
			}
			return ctx.Err()
		})
	})
	if o.Sort != "" {
		slices.SortStableFunc(h.Rows, func(a, b Gone) int { return compareGone(a, b, o.Sort) })
	}
	return h.cut(o), err
}

// CheckGone returns an *OptionError if ListGone cannot heed the options, or nil.
func (o Options) CheckGone() error {
	if o.Sort == ByCreated || o.Sort == ByExpiry {
		return &OptionError{"sort", string(o.Sort), "is no order of images that are gone"}
	}
	return o.Check()
}

func goneOf(m index.Removal) Gone {
	g := Gone{Repository: m.Repository, Tag: m.Tag, Digest: m.Digest, GoneAt: stamp.Time(m.At), Reason: m.Reason,
		Rule: m.Rule, RuleName: m.RuleName, LastAccess: stamp.Time(m.LastAccess), PushedBy: m.PushedBy}
	if m.UniqueBytes != index.Unmeasured {
		g.UniqueBytes = &m.UniqueBytes
	}
	return g
}

// compareGone orders as Options.compare does: what was used last, what is largest, or A to Z. What is not known is 0.
func compareGone(a, b Gone, by Sort) int {
	size := func(g Gone) int64 {
		if g.UniqueBytes == nil {
			return 0
		}
		return *g.UniqueBytes
	}
	switch by {
	case ByAccess:
		return time.Time(b.LastAccess).Compare(time.Time(a.LastAccess))
	case BySize:
		return cmp.Compare(size(b), size(a))
	}
	return cmp.Or(strings.Compare(a.Repository, b.Repository), strings.Compare(a.Tag, b.Tag))
}

// ListRuns lists the runs of gc that began last. It heeds Reverse and Limit.
func ListRuns(ctx context.Context, store index.Store, p index.Policy, o Options) (History[Run], error) {
	h, err := read(ctx, store, p, func(r index.Reader, since time.Time, add func(Run)) error {
		return r.RunHistory(since, func(n index.Run) error {
			row := Run{StartedAt: stamp.Time(n.StartedAt), DurationMS: n.Took.Milliseconds(), By: n.By,
				Images: n.Images, Tags: n.Tags, Manifests: n.Manifests, Blobs: n.Blobs, Uploads: n.Uploads,
				FreedBytes: n.FreedBytes, Error: n.Error, HeldBy: n.HeldBy}
			if n.Ended {
				row.EndedAt = stamp.Time(n.StartedAt.Add(n.Took))
			}
			add(row)
			return ctx.Err()
		})
	})
	return h.cut(o), err
}

// ListPulls lists pulls by the hour. It heeds Reverse and Limit.
func ListPulls(ctx context.Context, store index.Store, p index.Policy, o Options) (History[Pulls], error) {
	h, err := read(ctx, store, p, func(r index.Reader, since time.Time, add func(Pulls)) error {
		return r.PullHistory(since, func(n index.Pulls) error {
			add(Pulls{Hour: stamp.Time(n.Hour), Hits: n.Hits, Misses: n.Misses, Bytes: n.Bytes,
				HitRatio: float64(n.Hits) / float64(max(n.Hits+n.Misses, 1))})
			return ctx.Err()
		})
	})
	return h.cut(o), err
}

// read reads what is remembered under a policy. What is older is not shown, though the next run may not have forgotten
// it yet.
func read[T any](ctx context.Context, store index.Store, p index.Policy,
	each func(r index.Reader, since time.Time, add func(T)) error) (History[T], error) {
	h := History[T]{Now: store.Now(), For: p.GoneFor, Rows: []T{}}
	if p.GoneFor == 0 {
		return h, nil
	}
	err := store.View(ctx, func(r index.Reader) error {
		return each(r, h.Now.Add(-p.GoneFor), func(row T) { h.Rows = append(h.Rows, row) })
	})
	h.Found = int64(len(h.Rows))
	return h, err
}

// cut turns the order round, if that was asked for, and leaves out what is beyond the limit.
func (h History[T]) cut(o Options) History[T] {
	if o.Reverse {
		slices.Reverse(h.Rows)
	}
	if o.Limit > 0 {
		h.Rows = h.Rows[:min(len(h.Rows), o.Limit)]
	}
	return h
}

// GoneError says that a reference names no image any more, and what became of the one that it named.
type GoneError struct {
	NotFoundError
	Gone Gone
	Now  time.Time // when the index was read
}

// lastRemoval is the last removal of an image that a reference may mean. Nil: none is remembered.
func lastRemoval(ctx context.Context, store index.Store, p index.Policy, ref Reference) (*Gone, error) {
	var last *Gone
	_, err := read(ctx, store, p, func(r index.Reader, since time.Time, _ func(Gone)) error {
		return r.Removals(since, func(m index.Removal) error {
			if last == nil && ref.means(m) {
				g := goneOf(m)
				last = &g
			}
			return ctx.Err()
		})
	})
	return last, err
}

// means says whether a reference may mean an image that is gone.
func (r Reference) means(m index.Removal) bool {
	if start := r.digestAlone(); start != "" && strings.HasPrefix(m.Digest.String(), start) {
		return true
	}
	if m.Repository != r.Repository && m.Repository != withoutHost(r.Repository) {
		return false
	}
	if r.Digest != "" {
		return strings.HasPrefix(m.Digest.String(), r.Digest)
	}
	return m.Tag == r.Tag
}
