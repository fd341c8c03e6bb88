package serve

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
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

// events tells observers one thing after another in one goroutine, so that no request waits for them.
type events struct {
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

func newEvents(observe func(event), log logrus.FieldLogger, limit int) *events {
	e := &events{observe: observe, log: log, limit: limit, done: make(chan struct{})}
	e.more = sync.NewCond(&e.mu)
	return e
}

func (e *events) add(ev event) {
	switch overrun, lost := e.push(ev); {
	case overrun:
		e.log.WithField("events", e.limit).Error("OnBlobAccess or OnBlobDelete does not keep up; nothing more is told until half of what waits was")
	case lost > 0:
		e.log.WithField("lost", lost).Error("OnBlobAccess or OnBlobDelete keeps up again; events were lost")
	}
}

// push says whether this event is the first of some that are lost, or how many were lost before it. Losing
// goes on until half of the queue was told: else the log would fill in its place.
func (e *events) push(ev event) (overrun bool, lost int) {
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
func (e *events) deliver() {
	defer close(e.done)
	e.mu.Lock()
	e.observer = goroutine()
	e.mu.Unlock()
	for ev, ok := e.next(); ok; ev, ok = e.next() {
		e.tell(ev)
	}
}

func (e *events) next() (ev event, ok bool) {
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
func (e *events) tell(ev event) {
	defer func() {
		if p := recover(); p != nil {
			e.log.WithField("digest", ev.digest.String()).Errorf("OnBlobAccess or OnBlobDelete panicked: %v\n%s", p, debug.Stack())
		}
	}()
	e.observe(ev)
}

// finish waits until everything was told, as long as ctx lasts. What is left then is told to nobody.
func (e *events) finish(ctx context.Context) error {
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
func (e *events) calling() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.observer == goroutine()
}

// goroutine names the goroutine that calls it, for comparison only: "goroutine 18 [running]:" is how its
// stack begins. The runtime tells it in no other way.
func goroutine() string {
	buf := make([]byte, 64)
	name, _, _ := bytes.Cut(buf[:runtime.Stack(buf, false)], []byte(" ["))
	return string(name)
}
