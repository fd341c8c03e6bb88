package users

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// queues gives each client a queue of its own: of the client's requests only a few pass at a time, in the order in
// which they came.
type queues struct {
	mu sync.Mutex        // guards of, and the numbers of users in it; held over no wait
	of map[string]*queue // by client; only those that a request uses
}

type queue struct {
	room  *semaphore.Weighted
	users int // requests that wait, or have passed and not left
}

// enter waits until one more request of the client may pass; width is how many may at a time. The request must call
// leave. The error is the one of ctx.
func (q *queues) enter(ctx context.Context, client string, width int) (leave func(), err error) {
	own := q.join(client, width)
	if err := own.room.Acquire(ctx, 1); err != nil {
		q.quit(client)
		return nil, err
	}
	return func() {
		own.room.Release(1)
		q.quit(client)
	}, nil
}

func (q *queues) join(client string, width int) *queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.of == nil {
		q.of = make(map[string]*queue)
	}
	own := q.of[client]
	if own == nil {
		own = &queue{room: semaphore.NewWeighted(int64(width))}
		q.of[client] = own
	}
	own.users++
	return own
}

// quit forgets the queue of a client when no request uses it any more.
func (q *queues) quit(client string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.of[client].users--; q.of[client].users == 0 {
		delete(q.of, client)
	}
}
