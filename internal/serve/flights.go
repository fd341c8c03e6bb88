package serve

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// flights counts the requests that are being answered, whichever listener they came from.
type flights struct {
	mu     sync.Mutex // guards the rest; held over no call
	n      int
	closed bool
	landed chan struct{} // closed when closed is set and n is 0
}

func newFlights() *flights { return &flights{landed: make(chan struct{})} }

// admit lets requests in until drain, and answers those that come later with 503.
func (f *flights) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.enter() {
			w.Header().Set("Connection", "close")
			w.Header().Set("Retry-After", "5")
			closing := errcode.ErrorCodeUnavailable.WithMessage("the registry is shutting down")
			_ = errcode.ServeJSON(w, closing) // to a client that may have left
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

// count is how many requests are being answered.
func (f *flights) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func (f *flights) endLocked() {
	if f.closed && f.n == 0 {
		close(f.landed)
	}
}

// drain lets no more requests in and waits for those that are in. It returns how many are left when ctx is over.
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

// lastWords is the time that handlers whose connections were cut, and observers, still get once ctx of a Shutdown is
// over.
const lastWords = time.Second

// wait waits for done until ctx is over, and lastWords longer. It says whether done was closed.
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
