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
	keys  []layout.Key
	found []bool
	err   error
	turn  chan bool // true: it is recorded; false: its caller writes all that wait
}

// maxLeases bounds a transaction, for which others wait.
const maxLeases = 128

// Lease implements index.Store. It does not end with ctx: others may wait for the same transaction.
func (s *Store) Lease(ctx context.Context, ks ...layout.Key) (found []bool, err error) {
	l := &lease{keys: ks, found: make([]bool, len(ks)), turn: make(chan bool, 1)}
	if !s.leasing.join(l) || !<-l.turn {
		s.writeLeases(ctx)
	}
	return l.found, l.err
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
				clear(l.found)
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
				if l.found[i], err = t.lease(k); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// errLost is for the leases of a transaction that broke off.
var errLost = errors.New("the use was not recorded")

func (t *tx) lease(k layout.Key) (found bool, err error) {
	table, cond, args := where(k)
	own := ""
	if k.Kind == layout.Layer {
		own = ", own_at = NULL"
	}
	found, err = t.changed("UPDATE "+table+" SET accessed_at = max(accessed_at, ?)"+own+" WHERE "+cond, append([]any{t.now}, args...)...)
	if err != nil || !found {
		return false, err
	}
	switch k.Kind {
	case layout.Manifest:
		err = t.useSignatures(k.Repository, k.Digest, t.now)
	case layout.Tag:
		var r *index.Row
		if r, err = t.row(k); err == nil {
			err = t.useSignatures(k.Repository, r.Digest, t.now)
		}
	}
	return err == nil, err
}
