package serve

import (
	"context"
	"net/http"
	"sync"
)

// ClosedError says that a server was shut down. It is an http.ErrServerClosed.
type ClosedError struct{}

func (ClosedError) Error() string { return "the server was shut down" }

// Is makes it what net/http's servers return.
func (ClosedError) Is(target error) bool { return target == http.ErrServerClosed }

// ErrClosed is any ClosedError.
var ErrClosed error = ClosedError{}

// calls are what runs on the store beside the requests because somebody asked for it. Shutdown ends them.
type calls struct {
	ctx    context.Context // ends with the server
	mu     sync.Mutex      // guards closed, and that none begins after end; held over no call
	closed bool
	all    sync.WaitGroup
}

// begin lets a call in, and gives it a context that ends with the server, too. leave has to follow.
func (c *calls) begin(ctx context.Context) (_ context.Context, leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ClosedError{}
	}
	c.all.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(ClosedError{}) })
	return ctx, func() {
		stop()
		cancel(nil)
		c.all.Done()
	}, nil
}

// end lets nobody in any more, and waits for who is in. Their contexts have ended before.
func (c *calls) end() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.all.Wait()
}
