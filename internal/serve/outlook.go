package serve

import (
	"context"
	"sync"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
)

// outlook keeps the figures that need a pass over all of the store: how many bytes are due when. A scrape gets the last
// figures, and begins a new pass when they are old.
type outlook struct {
	look  func(context.Context) (figures inspect.Figures, whole bool, err error)
	calls *calls
	// patience is how long a scrape waits for the first figures. A small store has them by then.
	patience time.Duration

	mu      sync.Mutex // guards the rest; held over no look
	figures inspect.Figures
	known   bool
	stale   time.Time     // from then on a scrape begins a new pass
	looking chan struct{} // closed when the running pass ends; nil: none runs
}

// A pass begins at most once a minute, and passes take at most a hundredth of the time.
const (
	outlookPause = time.Minute
	outlookShare = 100
)

// last returns the figures of the last pass; false: there was none yet.
func (o *outlook) last() (inspect.Figures, bool) {
	o.mu.Lock()
	if o.looking == nil && time.Now().After(o.stale) {
		o.beginLocked()
	}
	looking, known, patience := o.looking, o.known, o.patience
	o.mu.Unlock()
	if !known && looking != nil {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-looking:
		case <-timer.C:
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.figures, o.known
}

func (o *outlook) beginLocked() {
	ctx, leave, err := o.calls.begin(context.Background())
	if err != nil {
		return // the server is being shut down
	}
	looking := make(chan struct{})
	o.looking = looking
	go func() {
		defer leave()
		defer close(looking)
		began := time.Now()
		figures, whole, err := o.look(ctx)
		took := time.Since(began)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.looking = nil
		if err != nil || !whole {
			return // the next scrape tries again
		}
		o.figures, o.known, o.stale = figures, true, time.Now().Add(max(outlookPause, outlookShare*took))
	}()
}

// sum makes a pass over the store, unless the gate is closed: then the index does not know everything.
func (s *Server) sum(ctx context.Context) (figures inspect.Figures, whole bool, err error) {
	if whole, err = s.store.Index.GateOpen(ctx); err != nil || !whole {
		return figures, false, err
	}
	figures, err = inspect.Sum(ctx, s.store.Index, s.policy())
	return figures, true, err
}
