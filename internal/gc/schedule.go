package gc

import (
	"context"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// Scheduler runs a Collector at an interval.
type Scheduler struct {
	*Collector
	// OnRun is called after each run that was allowed to remove something. Nil: it is not called.
	OnRun func(Report, error)
	// Room is where clients wait for room. Nil: the scheduler looks by itself only.
	Room Room
	// OnOver is called, often, with the time since the last call for which more was used than the budget allows. Nil:
	// it is not called.
	OnOver func(time.Duration)

	relief
	unplanned bool      // the index knows that the time of the next run is not known
	last      time.Time // when a run of this scheduler ended: the index may be unable to record it, or be lost
}

// Schedule says by which policy a Scheduler works, and how often.
type Schedule struct {
	Policy   index.Policy
	Interval time.Duration // 0: not at all
}

// Schedule runs until ctx ends. It evicts within a second when there is too little room. A server that is restarted
// often has runs all the same: the first one begins an interval after the last one of any server, and not before the
// gate opens. A schedule from changes replaces the one before.
func (s *Scheduler) Schedule(ctx context.Context, now Schedule, changes <-chan Schedule) {
	for {
		wait, run := s.next(ctx, now.Interval)
		s.announce(ctx, wait, run)
		for due := after(wait); ; {
			select {
			case <-ctx.Done():
				return
			case now = <-changes:
				s.again, s.over = time.Time{}, false
			case <-due:
				if run {
					s.once(ctx, now.Policy)
				}
			case <-s.pressed():
				s.relieve(ctx, now.Policy, true)
				continue
			case <-s.nextLook(now.Policy.Budget):
				s.relieve(ctx, now.Policy, false)
				continue
			}
			break
		}
	}
}

// gatePoll is how often a Scheduler looks whether the gate is open.
const gatePoll = 200 * time.Millisecond

// idle is a wait without end.
const idle = -1

func after(wait time.Duration) <-chan time.Time {
	if wait == idle {
		return nil
	}
	return time.After(wait)
}

// next says how long to wait, and whether to run then or to ask again.
func (s *Scheduler) next(ctx context.Context, interval time.Duration) (wait time.Duration, run bool) {
	if interval == 0 {
		return idle, false
	}
	if open, err := s.Index.GateOpen(ctx); err != nil || !open {
		return gatePoll, false
	}
	now, due := s.Index.Now(), time.Time{}
	if last := s.lastRun(ctx); !last.IsZero() {
		due = last.Add(interval)
	}
	if held, err := s.Index.Held(ctx); err == nil && held.After(due) {
		due = held
	}
	return max(0, due.Sub(now)), true
}

// announce tells other processes, through the index, when the next run is. Nothing but that depends on it.
func (s *Scheduler) announce(ctx context.Context, wait time.Duration, run bool) {
	if !run && s.unplanned {
		return
	}
	var at time.Time
	if run {
		at = s.Index.Now().Add(wait)
	}
	if err := s.Index.SetNextRun(ctx, at); err != nil {
		s.Log.WithError(err).Debug("cannot record when the next clean-up is")
		return
	}
	s.unplanned = !run
}

// lastRun is when a run ended last. An index that cannot be read is not waited for: the run will say what is wrong.
func (s *Scheduler) lastRun(ctx context.Context) time.Time {
	last, err := s.Index.LastRun(ctx)
	if err != nil || s.last.After(last) {
		return s.last
	}
	return last
}

func (s *Scheduler) once(ctx context.Context, policy index.Policy) {
	rep, err := s.Run(ctx, policy, false)
	if ctx.Err() != nil || isNotYet(err) {
		return // next sees to it
	}
	s.last = s.Index.Now()
	if recorded := s.Index.SetLastRun(ctx); recorded != nil && err == nil {
		s.Log.WithError(recorded).Warn("cannot record that a clean-up was done; a restart will do another one")
	}
	s.tell(rep, err)
}

// tell reports a run, unless nothing might be removed yet.
func (s *Scheduler) tell(rep Report, err error) {
	if isNotYet(err) {
		return
	}
	if err != nil {
		s.Log.WithError(err).Error("clean-up failed; the next one goes on")
	}
	if rep.Removed.Any() {
		s.Log.WithFields(logrus.Fields{"images": len(rep.Images), "tags": rep.Removed.Tags,
			"manifests": rep.Removed.Manifests, "blobs": rep.Removed.Blobs, "uploads": rep.Removed.Uploads,
			"bytes": rep.FreedBytes, "duration_ms": rep.DurationMS}).Info(done(rep))
	}
	if s.OnRun != nil {
		s.OnRun(rep, err)
	}
}

func done(rep Report) string {
	return fmt.Sprintf("clean-up done: removed %s, %s",
		count(int64(len(rep.Images)), "image"), count(rep.Removed.Blobs, "blob"))
}

func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
