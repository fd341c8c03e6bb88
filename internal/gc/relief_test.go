package gc

import (
	"context"
	"testing"
	"time"
)

// room is one in which clients wait.
type room struct {
	pressed chan struct{}
	told    chan bool // whether a mark was met
}

func (r room) Pressed() <-chan struct{} { return r.pressed }
func (r room) Evicting() func(bool)     { return func(met bool) { r.told <- met } }

// relieving runs a scheduler without an interval under a budget, until the test ends.
func (w *world) relieving(s *Scheduler, bytes int64) (change chan<- Schedule) {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	changes, ended := make(chan Schedule), make(chan struct{})
	s.Collector = w.Collector
	go func() {
		s.Schedule(ctx, Schedule{Policy: most(bytes)}, changes)
		close(ended)
	}()
	w.t.Cleanup(func() {
		stop()
		<-ended
	})
	return changes
}

// Clients that need room are told whether there is some, or whether nothing more may go.
func TestWhoWaitsForRoomIsToldWhetherThereIsSome(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(9)
	w.pass(2 * time.Hour)
	w.image("app", "new", large("new", 300_000))
	w.adopt(false)
	r := room{make(chan struct{}), make(chan bool, 100)}
	change := w.relieving(&Scheduler{Room: r}, 1_000_000)
	if !<-r.told { // it looks by itself
		t.Error("the mark is not met")
	}
	if left := w.totals(); left.Bytes > 900_000 {
		t.Errorf("%d bytes are left", left.Bytes)
	}
	change <- Schedule{Policy: most(100_000)}
	if met := <-r.told; met || w.totals().Tags != 1 {
		t.Errorf("%d tags are left, met is %v; want to hear that nothing more may go", w.totals().Tags, met)
	}
	change <- Schedule{Policy: most(2_000_000)}
	for !<-r.told { // not only those who find no room
	}
}

// A server evicts at once when clients need room, not at its next look.
func TestWhoNeedsRoomIsHeard(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(9)
	w.pass(2 * time.Hour)
	r := room{make(chan struct{}), make(chan bool, 100)}
	s := &Scheduler{Room: r}
	s.looked = time.Now().Add(time.Hour) // so it does not look by itself
	w.relieving(s, 500_000)
	r.pressed <- struct{}{}
	if met := <-r.told; !met || w.totals().Bytes > 450_000 {
		t.Errorf("%d bytes are left, met is %v", w.totals().Bytes, met)
	}
}

func TestAPauseFollowsAnEvictionThatWasNotEnough(t *testing.T) {
	for _, c := range []struct {
		took time.Duration
		vain bool
		want time.Duration
	}{{time.Millisecond, false, lookInterval}, {3 * time.Second, false, 30 * time.Second},
		{time.Hour, false, maxPause}, {3 * time.Second, true, 5 * time.Minute}, {time.Hour, true, 10 * maxPause}} {
		if got := pauseAfter(c.took, c.vain); got != c.want {
			t.Errorf("after %s, in vain %v: %s; want %s", c.took, c.vain, got, c.want)
		}
	}
}
