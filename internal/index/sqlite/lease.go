package sqlite

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// leasing gathers the leases that callers ask for while a transaction writes others. They share the next transaction,
// of which beginning and ending is most of the cost.
type leasing struct {
	mu      sync.Mutex // guards the rest; held over no I/O
	waiting []*lease
	busy    bool // a caller writes, or is about to
}

// lease is what one caller wants to have recorded.
type lease struct {
	keys   []layout.Key
	bytes  bool  // the bytes of the one key are read
	after  int64 // and an image that was used after this needs no write
	leased []index.Leased
	err    error
	turn   chan bool // true: it is recorded; false: its caller writes all that are waiting
}

// maxLeases bounds a transaction: other writers wait for it.
const maxLeases = 128

// Lease implements index.Store. It does not end with ctx: other callers may share the transaction.
func (s *Store) Lease(ctx context.Context, ks ...layout.Key) ([]index.Leased, error) {
	return s.lease(ctx, &lease{keys: ks})
}

// LeaseBytes implements index.Store.
func (s *Store) LeaseBytes(ctx context.Context, repo string, d digest.Digest, after time.Time) ([]index.Leased, error) {
	return s.lease(ctx, &lease{keys: []layout.Key{layout.LayerKey(repo, d)}, bytes: true, after: after.UnixMilli()})
}

func (s *Store) lease(ctx context.Context, l *lease) ([]index.Leased, error) {
	l.turn = make(chan bool, 1)
	if !s.leasing.join(l) || !<-l.turn {
		s.writeLeases(ctx)
	}
	return l.leased, l.err
}

// join adds a lease to those that wait. True: another caller writes already, and will pass the turn on.
func (g *leasing) join(l *lease) (waits bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, l)
	waits, g.busy = g.busy, true
	return waits
}

// take returns the leases that are written next.
func (g *leasing) take() (batch []*lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), maxLeases)
	batch, g.waiting = g.waiting[:n:n], g.waiting[n:]
	return batch
}

// pass gives the turn to the first caller that waits.
func (g *leasing) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy = len(g.waiting) > 0; g.busy {
		g.waiting[0].turn <- false
	}
}

// writeLeases records the leases that wait, the caller's own first, in one transaction.
func (s *Store) writeLeases(ctx context.Context) {
	runtime.Gosched() // requests that are about to lease join this batch
	batch := s.leasing.take()
	err := errLost
	defer func() { // also after a panic: no caller waits for ever
		for i, l := range batch {
			if l.err = err; err != nil {
				l.leased = nil
			}
			if i > 0 { // the first is the one that writes
				l.turn <- true
			}
		}
		s.leasing.pass()
	}()
	err = s.begin(context.WithoutCancel(ctx), func(t *tx) error {
		for _, l := range batch {
			if err := s.record(t, l); err != nil {
				return err
			}
		}
		return nil
	})
}

// record records what one caller wants.
func (s *Store) record(t *tx, l *lease) (err error) {
	if l.bytes {
		l.leased, err = s.leaseBytes(t, l.keys[0], l.after)
		return err
	}
	l.leased = make([]index.Leased, len(l.keys))
	for i, k := range l.keys {
		if l.leased[i], err = t.lease(k); err != nil {
			return err
		}
	}
	return nil
}

// errLost is the error of leases whose transaction did not end.
var errLost = errors.New("the use was not recorded")

// The statements that record a use. They return the row's last use, whether its file and its blob's are placed, and the
// size of the blob. The blob is looked up in the same statement: a second one would cost as much again.
const (
	leaseBlob = `UPDATE blobs SET accessed_at = max(accessed_at, ?1) WHERE digest = ?2
		RETURNING accessed_at, placed, size`

	leaseLayer = `UPDATE layers SET accessed_at = max(accessed_at, ?1), own_at = NULL WHERE digest = ?2 AND repo = ?3
		RETURNING accessed_at, placed AND coalesce((SELECT placed FROM blobs b WHERE b.digest = layers.digest), 0),
			(SELECT size FROM blobs b WHERE b.digest = layers.digest)`

	leaseManifest = `UPDATE manifests SET accessed_at = max(accessed_at, ?1) WHERE digest = ?2 AND repo = ?3
		RETURNING accessed_at, placed AND coalesce((SELECT placed FROM blobs b WHERE b.digest = manifests.digest), 0),
			(SELECT size FROM blobs b WHERE b.digest = manifests.digest), family`

	leaseTag = `UPDATE tags SET accessed_at = max(accessed_at, ?1) WHERE repo = ?2 AND name = ?3
		RETURNING accessed_at, digest`
)

// lease records a use of one key, and of what lives with it. A key without a row leases nothing.
func (t *tx) lease(k layout.Key) (index.Leased, error) {
	switch k.Kind {
	case layout.Blob:
		return t.leaseContent(k, leaseBlob, t.now, packed(k.Digest))
	case layout.Layer:
		return t.leaseContent(k, leaseLayer, t.now, packed(k.Digest), repository(k.Repository))
	case layout.Manifest:
		return t.leaseManifest(k)
	}
	return t.leaseTag(k)
}

// leaseContent records a use of a blob or of a link. Nothing else is used with it.
func (t *tx) leaseContent(k layout.Key, statement string, args ...any) (l index.Leased, err error) {
	var at int64
	found, err := t.one([]any{&at, &l.Placed, &l.Size}, statement, args...)
	if err != nil || !found {
		return index.Leased{}, err
	}
	l.Found, l.At, l.Digest = true, millis(at), k.Digest
	return l, nil
}

// leaseManifest records a use of a manifest and of all that lives with it, once in a transaction: a tag is often leased
// together with its manifest.
func (t *tx) leaseManifest(k layout.Key) (l index.Leased, err error) {
	if l, known := t.leased[k]; known {
		return l, nil
	}
	var at int64
	m := raisedManifest{digest: k.Digest}
	found, err := t.one([]any{&at, &l.Placed, &l.Size, &m.hasFamily}, leaseManifest, t.now, packed(k.Digest),
		repository(k.Repository))
	if err != nil || !found {
		return index.Leased{}, err
	}
	l.Found, l.At, l.Digest = true, millis(at), k.Digest
	if t.leased == nil {
		t.leased = map[layout.Key]index.Leased{}
	}
	t.leased[k] = l
	return l, t.spread(k.Repository, m, t.now)
}

// leaseTag records a use of a tag and of its manifest.
func (t *tx) leaseTag(k layout.Key) (l index.Leased, err error) {
	var at int64
	found, err := t.one([]any{&at, (*packed)(&l.Digest)}, leaseTag, t.now, repository(k.Repository), k.Tag)
	if err != nil || !found {
		return index.Leased{}, err
	}
	l.Found, l.At, l.Placed = true, millis(at), true
	_, err = t.leaseManifest(layout.ManifestKey(k.Repository, l.Digest))
	return l, err
}
