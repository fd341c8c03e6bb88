package users

import (
	"context"
	"sync"
)

// queues lets so many requests of each client through at a time; the others of that client wait behind them.
type queues struct {
	mu sync.Mutex // guards of, and the numbers in it; held over no wait
	of map[string]*queue
}

type queue struct {
	in     chan struct{} // holds one for each that is through
	people int           // who is in it, or waits
}

// enter waits until there is room for one more of a client. Its error is the one of ctx.
func (l *queues) enter(ctx context.Context, client string, width int) (leave func(), err error) {
	own := l.join(client, width)
	select {
	case <-ctx.Done():
		l.quit(client)
		return nil, ctx.Err()
	case own.in <- struct{}{}:
	}
	return func() {
		<-own.in
		l.quit(client)
	}, nil
}

func (l *queues) join(client string, width int) *queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = make(map[string]*queue)
	}
	own := l.of[client]
	if own == nil {
		own = &queue{in: make(chan struct{}, width)}
		l.of[client] = own
	}
	own.people++
	return own
}

// quit forgets a client whom nobody stands for any more.
func (l *queues) quit(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[client].people--; l.of[client].people == 0 {
		delete(l.of, client)
	}
}
