package serve

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// flights counts the requests that are being answered, by whichever listener they came.
type flights struct {
	mu     sync.Mutex // guards the rest; held over no call
	n      int
	closed bool
	landed chan struct{} // closed when closed and n is 0
}

func newFlights() *flights { return &flights{landed: make(chan struct{})} }

// admit lets requests in until drain.
func (f *flights) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.enter() {
			w.Header().Set("Connection", "close")
			w.Header().Set("Retry-After", "5")
			_ = errcode.ServeJSON(w, errcode.ErrorCodeUnavailable.WithMessage("the registry is shutting down")) // to a client that may have left
			return
		}
		defer f.leave()
		next.ServeHTTP(w, r)
	})
}

func (f *flights) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.n++
	}
	return !f.closed
}

func (f *flights) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	f.endLocked()
}

func (f *flights) endLocked() {
	if f.closed && f.n == 0 {
		close(f.landed)
	}
}

// drain lets nobody in any more, and waits for who is in. It says how many are left.
func (f *flights) drain(ctx context.Context) int {
	f.mu.Lock()
	f.closed = true
	f.endLocked()
	f.mu.Unlock()
	wait(ctx, f.landed)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// lastWords is what is left, once ctx of a Shutdown is over, to handlers whose connections were cut, and to observers
// of what was done until then.
const lastWords = time.Second

// wait waits for something to be done as long as ctx lasts, and a little longer. It says whether it was.
func wait(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
