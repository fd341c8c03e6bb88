package files

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// publisher gives names in the tree to all that clients push, a group after another:
//
//	take all that waits, claim it in one transaction
//	sync                         the bytes of this group, and the names of the group before
//	answer the group before
//	place this group in one transaction, which looks again
//
// until nothing waits. So an image alone costs two syncs, and under load each sync serves two groups. Nothing has a
// name before its bytes are durable, and no manifest is answered before its name is. A sync that failed is not tried
// again: the kernel may have dropped what it could not write.
type publisher struct {
	*Store
	fs     *disk.FileSystem
	linger time.Duration
	change *tree.Change // what was placed and is not durable; used by run alone
	late   []layout.Key // layers of the group under way that are tried again later; used by run alone

	mu     sync.Mutex // guards the rest; held over no I/O
	queue  []*entry
	due    bool // what waits is published now, and not when it has lingered
	busy   bool // run is running
	closed bool
	timer  *time.Timer // for what lingers; nil: nothing does
	faults int         // syncs that failed

	runs sync.WaitGroup
}

// failures says how many syncs failed. What is written now is not sure if there are more when it is published.
func (p *publisher) failures() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}

// enqueue has an entry published: at once if it has a waiter, and else after the linger time. A layer can be read from
// here on, and no other entry that needs it comes before it. errFault, errEnding.
func (p *publisher) enqueue(e *entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errEnding
	case e.faults != p.faults:
		return errFault
	}
	if e.held != nil {
		p.pending.add(e.held)
	}
	p.queue = append(p.queue, e)
	if e.done != nil {
		p.due = true
	}
	p.wake()
	return nil
}

// await has an entry published, and waits for its end unless it may linger. Its files are the publisher's from now on.
func (p *publisher) await(ctx context.Context, e *entry) error {
	if err := p.enqueue(e); err != nil {
		p.refuse([]*entry{e}, err)
		return err
	}
	if e.done == nil {
		return nil
	}
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errFault says that a sync failed that may have covered the files of an entry.
var errFault = errors.New("the disk refused to store data while this was written")

// errEnding says that the store is being closed.
var errEnding = errors.New("the server is ending")

// wake sees to it that the queue is published. The caller holds mu.
func (p *publisher) wake() {
	switch {
	case p.busy || p.closed || len(p.queue) == 0:
	case p.due:
		p.busy = true
		p.runs.Go(p.run)
	case p.timer == nil:
		p.timer = time.AfterFunc(p.linger, p.lingered)
	}
}

func (p *publisher) lingered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer, p.due = nil, len(p.queue) > 0
	p.wake()
}

// run publishes groups until nothing is due.
func (p *publisher) run() {
	var before group
	for {
		next, more := p.take(before)
		if !more {
			return
		}
		before = p.publish(next, before)
	}
}

// take returns all that waits. False: nothing is due, and run ends.
func (p *publisher) take(before group) ([]*entry, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.due && len(before.entries) == 0 {
		p.busy = false
		p.wake()
		return nil, false
	}
	next := p.queue
	p.queue, p.due = nil, false
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	return next, true
}

// putBack has an entry tried again later.
func (p *publisher) putBack(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, e)
}

// failed takes back all that waits after a sync that failed: it may have covered any of it.
func (p *publisher) failed() []*entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults++
	lost := p.queue
	p.queue, p.due = nil, false
	return lost
}

// errLate says that a layer that was stored before is neither named nor dropped.
var errLate = fmt.Errorf("the layer waits for its name: %w", index.ErrBusy)

// Flush waits until everything that was stored before has its name, or is dropped, or has to wait longer.
func (s *Store) Flush(ctx context.Context) error { return s.settled(ctx, layout.Key{}) }

// settled is Flush. errLate: this layer has to wait longer.
func (s *Store) settled(ctx context.Context, layer layout.Key) error {
	p := s.publisher
	p.mu.Lock()
	idle := !p.busy && len(p.queue) == 0
	e := &entry{layer: layer, done: make(chan error, 1), faults: p.faults}
	p.mu.Unlock()
	if idle || p.enqueue(e) != nil {
		return nil
	}
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close publishes what waits. No other method may be called during it or after it.
func (s *Store) Close() error {
	err := s.Flush(context.Background())
	p := s.publisher
	p.mu.Lock()
	p.closed = true // what could not be recorded waits for the next start
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.runs.Wait()
	if err == nil {
		err = p.fs.Close()
	}
	return err
}
