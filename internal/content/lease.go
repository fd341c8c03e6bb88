package content

import (
	"context"
	"sync"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// leases records uses in the index. A lease is written through only when the last one of its row is
// older than the resolution, so the hot path makes no database call.
type leases struct {
	store      index.Store
	dir        layout.Dir
	resolution time.Duration

	mu     sync.Mutex              // guards the rest; held over no I/O
	last   map[index.Key]time.Time // when the row was last written, at the earliest
	pruned time.Time               // when outdated entries of last were dropped
}

func newLeases(opts Options) *leases {
	return &leases{store: opts.Index, dir: opts.Dir, resolution: opts.Resolution, last: map[index.Key]time.Time{}}
}

// fresh says whether a use was written down within the resolution.
func (l *leases) fresh(k index.Key) bool {
	now := l.store.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.last[k]
	return ok && now.Sub(at) < l.resolution
}

// take records a use, and others along with it. False: the index has no row for the first.
func (l *leases) take(ctx context.Context, ks ...index.Key) (bool, error) {
	now := l.store.Now() // before the write, so that memory is never younger than the row
	found, err := l.store.Lease(ctx, ks...)
	if err != nil {
		return false, err
	}
	for i, k := range ks {
		if found[i] {
			l.remember(k, now)
		}
	}
	return found[0], nil
}

func (l *leases) remember(k index.Key, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.Sub(l.pruned) > l.resolution {
		for key, t := range l.last {
			if at.Sub(t) >= l.resolution {
				delete(l.last, key)
			}
		}
		l.pruned = at
	}
	l.last[k] = at
}

// forget is for rows that a client deleted: the next use must write again.
func (l *leases) forget(keys ...index.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		delete(l.last, k)
	}
}

// adopt records content that is on disk and unknown, looking again inside the transaction. False: it
// is gone.
func (l *leases) adopt(ctx context.Context, k index.Key) (bool, error) {
	there := false
	look := adopt.Look(l.dir, k, adopt.Now)
	now := l.store.Now()
	err := l.store.Adopt(ctx, func() (index.Adoption, bool, error) {
		a, ok, err := look()
		there = ok
		return a, ok, err
	})
	if err == nil && there {
		l.remember(k, now)
	}
	return there, err
}
