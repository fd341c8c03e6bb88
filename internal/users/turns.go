package users

import (
	"context"
	"slices"
	"sync"
)

// A lane is how much is known of who asks. Who is in an earlier lane never waits for one in a later.
type lane int

const (
	verifiedLately lane = iota // the same name and password were right lately: no guesser gets in here
	knownAddress               // somebody logged in from there lately
	stranger
	guesser // a password from there was wrong lately
	lanes
)

// turns lets so many through at a time: by lanes, and within a lane in the order in which they came.
type turns struct {
	mu      sync.Mutex // guards the rest; held over no wait
	free    int
	waiting [lanes][]chan struct{} // each is closed when it is its turn
}

// take waits for a turn, which done ends. Its error is the one of ctx.
func (t *turns) take(ctx context.Context, l lane) error {
	t.mu.Lock()
	if t.free > 0 { // so nobody waits
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
		t.nextLocked() // it was given the turn meanwhile
	}
	return ctx.Err()
}

// done gives the turn to the next.
func (t *turns) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nextLocked()
}

func (t *turns) nextLocked() {
	for l, w := range t.waiting {
		if len(w) > 0 {
			close(w[0])
			t.waiting[l] = w[1:]
			return
		}
	}
	t.free++
}
