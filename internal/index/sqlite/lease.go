package sqlite

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// leasing gathers the leases that are asked for while others are written: they go into one transaction,
// of which beginning and ending is most of the cost.
type leasing struct {
	mu      sync.Mutex // guards the rest; held over no I/O
	waiting []*lease
	busy    bool // somebody writes, or is about to
}

// lease is what one caller wants to be recorded.
type lease struct {
	keys   []layout.Key
	leased []index.Leased
	err    error
	turn   chan bool // true: it is recorded; false: its caller writes all that wait
}

// maxLeases bounds a transaction, for which others wait.
const maxLeases = 128

// Lease implements index.Store. It does not end with ctx: others may wait for the same transaction.
func (s *Store) Lease(ctx context.Context, ks ...layout.Key) ([]index.Leased, error) {
	l := &lease{keys: ks, leased: make([]index.Leased, len(ks)), turn: make(chan bool, 1)}
	if !s.leasing.join(l) || !<-l.turn {
		s.writeLeases(ctx)
	}
	return l.leased, l.err
}

// join says whether somebody writes already, who will pass the turn on.
func (g *leasing) join(l *lease) (waits bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, l)
	waits, g.busy = g.busy, true
	return waits
}

// take returns who is served now.
func (g *leasing) take() (batch []*lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), maxLeases)
	batch, g.waiting = g.waiting[:n:n], g.waiting[n:]
	return batch
}

// pass gives the turn to the first who came meanwhile.
func (g *leasing) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy = len(g.waiting) > 0; g.busy {
		g.waiting[0].turn <- false
	}
}

// writeLeases records what waits, the caller's own first, in one transaction.
func (s *Store) writeLeases(ctx context.Context) {
	runtime.Gosched() // who is about to ask comes along
	batch := s.leasing.take()
	err := errLost
	defer func() { // also after a panic: nobody waits for ever
		for i, l := range batch {
			if l.err = err; err != nil {
				clear(l.leased)
			}
			if i > 0 { // who is first writes
				l.turn <- true
			}
		}
		s.leasing.pass()
	}()
	err = s.begin(context.WithoutCancel(ctx), func(t *tx) error {
		for _, l := range batch {
			for i, k := range l.keys {
				var err error
				if l.leased[i], err = t.lease(k); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// errLost is for the leases of a transaction that broke off.
var errLost = errors.New("the use was not recorded")

// The statements that record a use. They return the row's last use, whether its file and its blob's were placed, the
// size of the blob, and what a tag points to. The blob is looked up in the same statement: a second one would cost as
// much again.
const (
	leaseBlob = `UPDATE blobs SET accessed_at = max(accessed_at, ?1) WHERE digest = ?2 RETURNING accessed_at, placed, size`

	leaseLayer = `UPDATE layers SET accessed_at = max(accessed_at, ?1), own_at = NULL WHERE digest = ?2 AND repo = ?3
		RETURNING accessed_at, placed AND coalesce((SELECT placed FROM blobs b WHERE b.digest = layers.digest), 0),
			(SELECT size FROM blobs b WHERE b.digest = layers.digest)`

	leaseManifest = `UPDATE manifests SET accessed_at = max(accessed_at, ?1) WHERE digest = ?2 AND repo = ?3
		RETURNING accessed_at, placed AND coalesce((SELECT placed FROM blobs b WHERE b.digest = manifests.digest), 0),
			(SELECT size FROM blobs b WHERE b.digest = manifests.digest)`

	leaseTag = `UPDATE tags SET accessed_at = max(accessed_at, ?1) WHERE repo = ?2 AND name = ?3 RETURNING accessed_at, digest`
)

func (t *tx) lease(k layout.Key) (l index.Leased, err error) {
	l.Digest = k.Digest
	var at int64
	switch k.Kind {
	case layout.Blob:
		l.Found, err = t.one([]any{&at, &l.Placed, &l.Size}, leaseBlob, t.now, packed(k.Digest))
	case layout.Layer:
		l.Found, err = t.one([]any{&at, &l.Placed, &l.Size}, leaseLayer, t.now, packed(k.Digest), repository(k.Repository))
	case layout.Manifest:
		l.Found, err = t.one([]any{&at, &l.Placed, &l.Size}, leaseManifest, t.now, packed(k.Digest), repository(k.Repository))
	default:
		l.Placed = true
		l.Found, err = t.one([]any{&at, (*packed)(&l.Digest)}, leaseTag, t.now, repository(k.Repository), k.Tag)
	}
	if err != nil || !l.Found {
		return index.Leased{}, err
	}
	l.At = millis(at)
	if k.Kind == layout.Tag || k.Kind == layout.Manifest {
		err = t.useSignatures(k.Repository, l.Digest, t.now)
	}
	return l, err
}
