package serve

import "sync"

// events calls observers one after another in one goroutine, so that no request waits for them.
type events struct {
	mu     sync.Mutex // guards the rest; held over no call
	queue  []func()
	closed bool
	more   *sync.Cond
}

func newEvents() *events {
	e := &events{}
	e.more = sync.NewCond(&e.mu)
	return e
}

func (e *events) add(call func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, call)
	e.more.Signal()
}

// deliver runs until close, and until everything that was added before has been told.
func (e *events) deliver() {
	for {
		e.mu.Lock()
		for len(e.queue) == 0 && !e.closed {
			e.more.Wait()
		}
		queue := e.queue
		e.queue = nil
		e.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, call := range queue {
			call()
		}
	}
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.more.Broadcast()
}
