package users

import (
	"context"
	"slices"
	"sync"
)

// A lane is how much is known about a request that waits for bcrypt. A request in an earlier lane never waits for one
// in a later lane.
type lane int

const (
	verifiedLately lane = iota // the same name and password were right lately: no guesser gets in here
	knownAddress               // a user logged in from this address lately
	stranger                   // nothing is known of the address
	guesser                    // a password from this address was wrong lately
	lanes                      // how many there are
)

// turns lets a fixed number of requests run at a time. It serves the lanes in their order, and the requests of a lane
// in the order in which they came.
type turns struct {
	mu      sync.Mutex // guards the rest; held over no wait
	free    int
	waiting [lanes][]chan struct{} // each is closed when its request gets the turn
}

// take waits for a turn, which done ends. The error is the one of ctx.
func (t *turns) take(ctx context.Context, l lane) error {
	t.mu.Lock()
	if t.free > 0 { // so no request waits
		t.free--
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.waiting[l] = append(t.waiting[l], mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting[l], mine); i >= 0 {
		t.waiting[l] = slices.Delete(t.waiting[l], i, i+1)
	} else {
		t.nextLocked() // this request got the turn in the same moment, and has no use for it
	}
	return ctx.Err()
}

// done gives the turn to the next request.
func (t *turns) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nextLocked()
}

func (t *turns) nextLocked() {
	for l, waiting := range t.waiting {
		if len(waiting) > 0 {
			close(waiting[0])
			t.waiting[l] = waiting[1:]
			return
		}
	}
	t.free++
}
