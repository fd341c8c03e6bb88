package gc

import (
	"context"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// Room is where clients wait until there is room.
type Room interface {
	// Pressed has a value when clients need room at once, and not a second later.
	Pressed() <-chan struct{}
	// Evicting says that an eviction begins. Its ended is called when it ended, and says whether it met its mark: false
	// means that nothing more may go for now. It does not wait.
	Evicting() (ended func(met bool))
}

const (
	// lookInterval is how often a Scheduler looks whether there is too little room.
	lookInterval = time.Second
	// atOnce is how many images one run takes at most for a budget: there is room in a second or two.
	atOnce = 1000
	// maxPause bounds for how long a Scheduler tries no eviction after one that did not reach its mark. Until then more
	// may have left its grace.
	maxPause = time.Minute
	// settleTime bounds for how long a file system may not say yet that bytes are free which are: a btrfs says it after
	// half a minute, and any file system once the last pull of a removed blob has ended.
	settleTime = 30 * time.Second
)

// relief is what a Scheduler knows of the room that there is.
type relief struct {
	looked time.Time // last, by the clock of this process
	over   bool      // then more was used than the budget allows
	again  time.Time // no eviction is tried before
	stuck  bool      // the last one was not enough
	full   bool      // nor was it for MaxSize
	vain   bool      // that MinFree cannot be reached was said

	settled time.Time // until then nothing goes for MinFree, unless the file system said that half of it is free:
	least   int64     // what is used and what is free have to be so much together
	held    bool      // it did not become free in time
}

// pressed is the channel of the room.
func (s *Scheduler) pressed() <-chan struct{} {
	if s.Room == nil {
		return nil
	}
	return s.Room.Pressed()
}

// nextLook is when it is time to look for room: never, if there is no budget.
func (s *Scheduler) nextLook(b rule.Budget) <-chan time.Time {
	if s.Usage == nil || b == (rule.Budget{}) {
		return nil
	}
	return time.After(max(time.Until(s.looked.Add(lookInterval)), 0))
}

// relieve evicts if there is too little room, until there is enough, or nothing more may go. Who waits in the room is
// told what came of it, and also when they pressed in vain.
func (s *Scheduler) relieve(ctx context.Context, p index.Policy, pressed bool) {
	ended := s.evicting()
	e, err := s.demand(ctx, p.Budget)
	now := time.Now()
	if s.over && s.OnOver != nil {
		s.OnOver(now.Sub(s.looked))
	}
	s.looked, s.over = now, err == nil && e.over()
	if err == nil && !s.isFree(e, now) {
		p.Budget.MinFree, e.Demand.Free, e.Demand.Reach = rule.Size{}, 0, 0
	}
	switch {
	case err != nil:
		if ctx.Err() == nil {
			s.Log.WithError(err).Debug("cannot measure what is stored; looking again in a second")
		}
	case !e.Demand.Any():
		if pressed || s.stuck {
			ended(true)
		}
		s.again, s.stuck, s.vain = time.Time{}, false, false
	case now.Before(s.again) && (s.full || e.Demand.Size == 0):
		if pressed {
			ended(e.Demand.Size == 0)
		}
	default:
		if e, ok := s.evict(ctx, p); ok {
			s.warn(e)
			if s.stuck, s.full = !e.Met, !e.Fits; s.stuck {
				s.again = time.Now().Add(pauseAfter(time.Since(now), e.Vain && e.Fits))
			}
			ended(e.Fits)
		}
	}
}

// isFree says whether what the last eviction removed for MinFree is free, as far as the file system says: what is used
// is less by it then, and what is free is more. What clients push and others store in between changes the sum little.
// If it is not free in time, snapshots or open files hold it, and removing more would free nothing: the next try is
// later.
func (s *Scheduler) isFree(e Eviction, now time.Time) bool {
	if e.Disk.Used+e.Disk.Free >= s.least {
		s.held = false
		return true
	}
	if now.Before(s.settled) || s.held {
		return !now.Before(s.settled) // one more try
	}
	s.held, s.settled = true, now.Add(10*maxPause)
	s.Log.WithFields(e.fields()).Warn("what was removed for cache.min_free does not become free: snapshots of the " +
		"disk may hold it, or open files")
	return false
}

// evicting tells the room that an eviction begins.
func (s *Scheduler) evicting() (ended func(met bool)) {
	if s.Room == nil {
		return func(bool) {}
	}
	return s.Room.Evicting()
}

// evict runs until the marks are met, or nothing more may go. For MinFree it runs once: the next look sees what is free
// then. It returns what the last run did; false: ctx ended.
func (s *Scheduler) evict(ctx context.Context, p index.Policy) (e Eviction, ok bool) {
	bounded := *s.Collector
	bounded.AtMost = atOnce
	for e.More = true; e.More; {
		rep, err := bounded.Run(ctx, p, false)
		if ctx.Err() != nil {
			return e, false
		}
		e = rep.Eviction
		s.tell(rep, err)
		if err != nil || e.Demand.Any() && !rep.Removed.Any() { // the next one would do no more
			e.Met, e.More, e.Fits = false, false, e.Demand.Size == 0
		}
		if e.Demand.Free > 0 && !e.Vain {
			s.settled, s.least = time.Now().Add(settleTime), e.Disk.Used+e.Disk.Free-rep.FreedBytes/2
			if s.held {
				s.settled = time.Now().Add(10 * maxPause)
			}
			return e, true
		}
	}
	return e, true
}

// pauseAfter is for how long no eviction is tried after one that was not enough. One that was in vain may have looked
// at all images, and costs a hundredth of a processor.
func pauseAfter(took time.Duration, vain bool) time.Duration {
	if vain {
		return min(max(100*took, lookInterval), 10*maxPause)
	}
	return min(max(10*took, lookInterval), maxPause)
}

// warn says once that what stays free is out of reach.
func (s *Scheduler) warn(e Eviction) {
	if e.Vain && !s.vain {
		fields := e.fields()
		fields["lacks"], fields["frees"] = e.Demand.Reach, e.Freeable
		s.Log.WithFields(fields).Warn("others fill the disk: all images that may go would not reach cache.min_free, " +
			"so none goes for it")
	}
	s.vain = e.Vain
}
