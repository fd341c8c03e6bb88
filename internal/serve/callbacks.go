package serve

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/registry"
)

// maxEvents is how far observers may be behind: some minutes of a busy registry, in about 150 MB. One that
// hangs must not take the memory of the whole program.
const maxEvents = 1 << 20

// event is what an observer is told about a blob.
type event struct {
	digest  digest.Digest
	size    int64
	deleted bool
}

// callbacks tell the observers of a program about one event after another in one goroutine, so that no request waits
// for an observer.
type callbacks struct {
	observe func(event)
	log     logrus.FieldLogger
	limit   int           // of queue
	done    chan struct{} // closed when deliver ends

	mu       sync.Mutex // guards the rest; held over no call
	queue    []event
	lost     int  // since the queue was full
	closed   bool // nothing comes any more
	more     *sync.Cond
	observer string // the goroutine that calls observers
}

func newCallbacks(observe func(event), log logrus.FieldLogger, limit int) *callbacks {
	e := &callbacks{observe: observe, log: log, limit: limit, done: make(chan struct{})}
	e.more = sync.NewCond(&e.mu)
	return e
}

func (e *callbacks) add(ev event) {
	switch overrun, lost := e.push(ev); {
	case overrun:
		e.log.WithField("events", e.limit).Error("OnBlobAccess or OnBlobDelete does not keep up; nothing more is told until half of what waits was")
	case lost > 0:
		e.log.WithField("lost", lost).Error("OnBlobAccess or OnBlobDelete keeps up again; events were lost")
	}
}

// push says whether this event is the first of some that are lost, or how many were lost before it. Losing
// goes on until half of the queue was told: else the log would fill in its place.
func (e *callbacks) push(ev event) (overrun bool, lost int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false, 0 // of a request that outlived Shutdown
	}
	if n := len(e.queue); n >= e.limit || e.lost > 0 && n > e.limit/2 {
		e.lost++
		return e.lost == 1, 0
	}
	e.queue = append(e.queue, ev)
	e.more.Signal()
	lost, e.lost = e.lost, 0
	return false, lost
}

// deliver runs until finish, and until everything that was added before has been told.
func (e *callbacks) deliver() {
	defer close(e.done)
	e.mu.Lock()
	e.observer = goroutine()
	e.mu.Unlock()
	for ev, ok := e.next(); ok; ev, ok = e.next() {
		e.tell(ev)
	}
}

func (e *callbacks) next() (ev event, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.queue) == 0 && !e.closed {
		e.more.Wait()
	}
	if len(e.queue) == 0 {
		return event{}, false
	}
	ev, e.queue = e.queue[0], e.queue[1:]
	return ev, true
}

// tell survives an observer that panics, as net/http survives a handler: its error is no reason to take
// the registry down.
func (e *callbacks) tell(ev event) {
	defer func() {
		if p := recover(); p != nil {
			e.log.WithField("digest", ev.digest.String()).Errorf("OnBlobAccess or OnBlobDelete panicked: %v\n%s", p, debug.Stack())
		}
	}()
	e.observe(ev)
}

// finish waits until everything was told, as long as ctx lasts. What is left then is told to nobody.
func (e *callbacks) finish(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.more.Broadcast()
	e.mu.Unlock()
	if wait(ctx, e.done) {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	left := len(e.queue)
	e.queue = nil
	return fmt.Errorf("OnBlobAccess or OnBlobDelete has not returned; %d more events are not told", left)
}

// calling says whether an observer is who asks.
func (e *callbacks) calling() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.observer == goroutine()
}

// accessed passes what was served or stored on to an observer; nil: there is none.
func (s *Server) accessed() func(digest.Digest, int64) {
	if s.opts.OnBlobAccess == nil {
		return nil
	}
	return func(d digest.Digest, size int64) { s.callbacks.add(event{digest: d, size: size}) }
}

// deleted passes what gc removed on to an observer; nil: there is none.
func (s *Server) deleted() func(digest.Digest) {
	if s.opts.OnBlobDelete == nil {
		return nil
	}
	return func(d digest.Digest) { s.callbacks.add(event{digest: d, deleted: true}) }
}

func (s *Server) observe(e event) {
	if e.deleted {
		s.opts.OnBlobDelete(e.digest.String())
	} else {
		s.opts.OnBlobAccess(e.digest.String(), e.size)
	}
}

// requested measures a request and writes its line.
func (s *Server) requested(r *http.Request, e registry.Exchange) {
	s.metrics.request(r.Method, e)
	s.requestLog.request(r, e)
}
