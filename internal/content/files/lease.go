package files

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// leases records uses in the index. A lease is written only if the last one of its row is older than the resolution, so
// the hot path makes no database call.
type leases struct {
	store      index.Store
	resolution time.Duration

	mu     sync.Mutex          // guards the rest; held over no I/O
	last   map[layout.Key]used // what was written last
	pruned time.Time           // when outdated entries of last were dropped

	count struct{ fresh, written, failed atomic.Int64 }
}

// Leases counts the uses so far.
func (s *Store) Leases() content.Leases {
	c := &s.leases.count
	return content.Leases{Fresh: c.fresh.Load(), Written: c.written.Load(), Failed: c.failed.Load()}
}

// used is a row whose use was written down.
type used struct {
	at    time.Time // at the earliest; zero: only its bytes were read
	bytes time.Time // at the earliest, as a read of its bytes or of those beside it; zero: it was none
	state
}

// state is what the index knows of a key that a client asks for.
type state struct {
	placed bool  // its file is on disk, and that of its blob
	size   int64 // of its blob; 0: unknown
}

func newLeases(opts Options) *leases {
	return &leases{store: opts.Index, resolution: opts.Resolution, last: map[layout.Key]used{}}
}

// fresh says whether a use was written down within the resolution, and what the index knew then.
func (l *leases) fresh(k layout.Key) (state, bool) {
	now := l.store.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	u, ok := l.last[k]
	return u.state, ok && now.Sub(u.at) < l.resolution
}

// freshBytes says so of a read of a layer's bytes, which a HEAD of the layer is not: only a read keeps an image.
func (l *leases) freshBytes(k layout.Key) (state, bool) {
	now := l.store.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	u, ok := l.last[k]
	return u.state, ok && now.Sub(u.bytes) < l.resolution
}

// takeBytes records that the bytes of a layer are read, and returns what the index knows of it. The other layers of the
// image that is used by that can be read from then on as well, unless meet fails: it looks for symbolic links on the
// ways to them, which a read that memory answers for does not.
func (l *leases) takeBytes(ctx context.Context, k layout.Key, meet func(context.Context, ...layout.Key) error) (
	state, error) {
	now := l.store.Now() // before the write, so that memory is never younger than the row
	leased, err := l.store.LeaseBytes(ctx, k.Repository, k.Digest, now.Add(-l.resolution))
	if err != nil || !leased[0].Found {
		return state{}, err
	}
	others := make([]layout.Key, 0, len(leased)-1)
	for _, of := range leased[1:] {
		others = append(others, layout.LayerKey(k.Repository, of.Digest))
	}
	if meet(ctx, others...) != nil {
		leased = leased[:1] // each of the others is met when it is read
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(now)
	for _, of := range leased {
		k.Digest = of.Digest
		u := l.last[k]
		u.state = state{of.Placed, of.Size}
		if at := earlier(now, of.At); at.After(u.bytes) {
			u.bytes = at
		}
		l.last[k] = u
	}
	return state{leased[0].Placed, leased[0].Size}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// take records a use, and others along with it, and returns what the index knows of the first: nothing when
// it has no row.
func (l *leases) take(ctx context.Context, ks ...layout.Key) (state, error) {
	now := l.store.Now() // before the write, so that memory is never younger than the row
	leased, err := l.store.Lease(ctx, ks...)
	if err != nil {
		return state{}, err
	}
	for i, k := range ks {
		if leased[i].Found {
			l.remember(k, now, state{leased[i].Placed, leased[i].Size})
		}
	}
	return state{leased[0].Placed, leased[0].Size}, nil
}

// known reads what the index knows.
func (l *leases) known(ctx context.Context, ks ...layout.Key) (states []state, err error) {
	err = l.store.View(ctx, func(r index.Reader) error {
		states = states[:0]
		for _, k := range ks {
			row, err := r.Row(k)
			if err != nil {
				return err
			}
			st := state{placed: row != nil && row.Placed}
			if row != nil && k.Kind != layout.Tag {
				if row, err = r.Row(layout.BlobKey(k.Digest)); err != nil {
					return err
				}
				st.placed = st.placed && row != nil && row.Placed
				if row != nil {
					st.size = row.Size
				}
			}
			states = append(states, st)
		}
		return nil
	})
	return states, err
}

// remember keeps a use. One that read no bytes leaves the last one that did.
func (l *leases) remember(k layout.Key, at time.Time, st state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(at)
	l.last[k] = used{at, l.last[k].bytes, st}
}

// prune drops the uses that are over, once a resolution.
func (l *leases) prune(now time.Time) {
	if now.Sub(l.pruned) <= l.resolution {
		return
	}
	for key, u := range l.last {
		if now.Sub(u.at) >= l.resolution && now.Sub(u.bytes) >= l.resolution {
			delete(l.last, key)
		}
	}
	l.pruned = now
}

// learn remembers what an adoption found. Being found counts as a use only for a key that was unknown.
func (l *leases) learn(k layout.Key, at time.Time, st state) {
	l.mu.Lock()
	u, known := l.last[k]
	if u.state = st; known {
		l.last[k] = u
	}
	l.mu.Unlock()
	if !known && st.placed {
		l.remember(k, at, st)
	}
}

// forget is for rows that a client deleted: their next use must be written again.
func (l *leases) forget(keys ...layout.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		delete(l.last, k)
	}
}
