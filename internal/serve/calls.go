package serve

import (
	"context"
	"sync"
)

// calls are what a program or a scrape asks of the store beside the requests. Shutdown ends them.
type calls struct {
	ctx    context.Context // ends with the server
	mu     sync.Mutex      // guards closed, and that no call begins after end; held over no call
	closed bool
	all    sync.WaitGroup
}

// begin admits a call. Its context ends with ctx or with the server. The caller must call leave at the end.
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

// end admits no more calls and waits for those that run. Their contexts have ended before.
func (c *calls) end() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.all.Wait()
}

// cause is why a call failed: when its context ended, the reason for that says it best.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
