package serve

import (
	"context"
	"sync"
	"time"
)

// tasks own the goroutines that run beside the requests, from New to Shutdown: the rebuild, the heartbeat, the
// scheduler, the saving of the sample. Every one is begun by begin, ends with ctx, and is awaited by end.
//
// Three other kinds of goroutines are owned elsewhere: what a program or a scrape asks for by calls, the delivery to
// observers by callbacks, and the listeners by Start.
type tasks struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newTasks() *tasks {
	ctx, cancel := context.WithCancel(context.Background())
	return &tasks{ctx: ctx, cancel: cancel}
}

// begin runs a task in a goroutine of its own. After end only a task may call it.
func (t *tasks) begin(task func(context.Context)) {
	t.running.Go(func() { task(t.ctx) })
}

// end ends the context of all tasks and waits until they have returned.
func (t *tasks) end() {
	t.cancel()
	t.running.Wait()
}

// every calls f once an interval until ctx ends.
func every(ctx context.Context, interval time.Duration, f func(context.Context)) {
	ticker := time.NewTimer(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f(ctx)
			ticker.Reset(interval)
		}
	}
}
