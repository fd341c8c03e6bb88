package serve

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/event"
)

// maxCalls is how many calls observers may be behind: some minutes of a busy registry, in about 150 MB. An observer
// that hangs must not use up the memory of the program.
const maxCalls = 1 << 20

// call is one call of OnBlobAccess or, with deleted, of OnBlobDelete.
type call struct {
	digest  digest.Digest
	size    int64
	deleted bool
}

// callbacks call the observers of a program, one call after another in one goroutine, so that no request waits for an
// observer.
type callbacks struct {
	call  func(call)
	log   logrus.FieldLogger
	limit int           // of queue
	done  chan struct{} // closed when deliver ends

	mu       sync.Mutex // guards the rest; held over no call
	queue    []call
	lost     int  // calls that were dropped since the queue was full
	closed   bool // no more calls are added
	more     *sync.Cond
	observer string // the goroutine that calls observers
}

func newCallbacks(deliver func(call), log logrus.FieldLogger, limit int) *callbacks {
	c := &callbacks{call: deliver, log: log, limit: limit, done: make(chan struct{})}
	c.more = sync.NewCond(&c.mu)
	return c
}

// observing are the calls that options ask for.
func observing(o Options) func(call) {
	return func(c call) {
		if c.deleted {
			o.OnBlobDelete(c.digest.String())
		} else {
			o.OnBlobAccess(c.digest.String(), c.size)
		}
	}
}

// subscriber adds the calls that events ask for, of observers that there are.
func (c *callbacks) subscriber(o Options) func(event.Event) {
	return func(e event.Event) {
		switch {
		case e.Kind == event.Removal && o.OnBlobDelete != nil:
			c.add(call{digest: e.Digest, deleted: true})
		case (e.Kind == event.Push || e.Kind == event.Pull && e.Hit) && o.OnBlobAccess != nil:
			c.add(call{digest: e.Digest, size: e.Size})
		}
	}
}

func (c *callbacks) add(next call) {
	switch overrun, lost := c.push(next); {
	case overrun:
		c.log.WithField("events", c.limit).Error(
			"OnBlobAccess or OnBlobDelete does not keep up; events are dropped until half of the queue was delivered")
	case lost > 0:
		c.log.WithField("lost", lost).Error("OnBlobAccess or OnBlobDelete keeps up again; events were lost")
	}
}

// push reports the first dropped call, or how many were dropped before this one. Once the queue is full, calls are
// dropped until it is half empty, so that the log gets two lines and not one for each call.
func (c *callbacks) push(next call) (overrun bool, lost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false, 0 // of a request that outlived Shutdown
	}
	if n := len(c.queue); n >= c.limit || c.lost > 0 && n > c.limit/2 {
		c.lost++
		return c.lost == 1, 0
	}
	c.queue = append(c.queue, next)
	c.more.Signal()
	lost, c.lost = c.lost, 0
	return false, lost
}

// deliver makes the calls until finish, and then those that were added before.
func (c *callbacks) deliver() {
	defer close(c.done)
	c.mu.Lock()
	c.observer = goroutine()
	c.mu.Unlock()
	for next, ok := c.next(); ok; next, ok = c.next() {
		c.try(next)
	}
}

// next waits for a call. False: there will be none.
func (c *callbacks) next() (next call, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && !c.closed {
		c.more.Wait()
	}
	if len(c.queue) == 0 {
		return call{}, false
	}
	next, c.queue = c.queue[0], c.queue[1:]
	return next, true
}

// try makes a call. It survives an observer that panics, as net/http survives a handler: an observer's error must not
// end the registry.
func (c *callbacks) try(next call) {
	defer func() {
		if p := recover(); p != nil {
			c.log.WithField("digest", next.digest.String()).
				Errorf("OnBlobAccess or OnBlobDelete panicked: %v\n%s", p, debug.Stack())
		}
	}()
	c.call(next)
}

// finish waits until all calls were made, at most until ctx ends. Calls that are left then are never made.
func (c *callbacks) finish(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.more.Broadcast()
	c.mu.Unlock()
	if wait(ctx, c.done) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	left := len(c.queue)
	c.queue = nil
	return fmt.Errorf("OnBlobAccess or OnBlobDelete has not returned; %d more events are not delivered", left)
}

// calling says whether it is called by an observer.
func (c *callbacks) calling() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.observer == goroutine()
}
