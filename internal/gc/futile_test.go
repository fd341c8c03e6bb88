package gc

import (
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// relieved has a scheduler look once, as one does that an upload pressed.
func (w *world) relieved(s *Scheduler, p index.Policy) (told []bool) {
	w.t.Helper()
	r := room{nil, make(chan bool, 100)}
	s.Collector, s.Room = w.Collector, r
	s.relieve(w.t.Context(), p, true)
	for len(r.told) > 0 {
		told = append(told, <-r.told)
	}
	return told
}

// While a repository cannot be read no blob goes, so an image that went for a budget would free nothing.
func TestNoImageGoesForABudgetWhileARepositoryIsUnread(t *testing.T) {
	w := newWorld(t).budgeted()
	w.image("hidden", "v1", "base", "hidden")
	w.image("open", "v1", "base", "open")
	w.image("open", "v2", "base", "more")
	show := w.hide("repositories/hidden")
	w.compare()
	w.pass(2 * time.Hour)
	rep, err := w.Run(t.Context(), most(1), false)
	if err == nil || rep.Removed.Any() || rep.Eviction.Met {
		t.Errorf("%v, %+v; want nothing to go in vain", err, rep)
	}
	show()
	w.compare()
	w.pass(2 * time.Hour)
	rep, err = w.Run(t.Context(), most(1), false)
	w.must(err)
	if rep.Removed.Tags != 3 {
		t.Errorf("once all can be read: %+v", rep.Removed)
	}
	w.empty()
}

// A server that was started anew with a shorter grace still owes the longer one.
func TestNoImageIsPlannedInAGraceThatIsOwed(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(3)
	long := most(1)
	long.Grace = 24 * time.Hour
	w.must(w.Index.Promise(t.Context(), long))
	w.must(w.Index.Promise(t.Context(), most(1)))
	w.pass(2 * time.Hour)
	plan, err := w.NewPlan(t.Context(), most(1))
	w.must(err)
	if len(plan.Images) > 0 || plan.Eviction.Met {
		t.Errorf("%d images are planned, met is %v", len(plan.Images), plan.Eviction.Met)
	}
	if told := w.relieved(&Scheduler{}, most(1)); len(told) != 1 || told[0] {
		t.Errorf("told %v; want to hear that nothing more may go", told)
	}
}

// That others fill the disk keeps no image that has to go for cache.max_size.
func TestAVainMinFreeDelaysNoMaxSize(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(9)
	w.pass(2 * time.Hour)
	w.Space = func() (int64, int64, error) { return 0, 1 << 40, nil }
	p := most(2_000_000)
	p.Budget.MinFree = rule.Size{Percent: 5}
	var s Scheduler
	w.relieved(&s, p)
	if !s.vain || time.Until(s.again) <= 0 || w.totals().Tags != 9 {
		t.Fatalf("vain %v, again in %s, %d tags are left", s.vain, time.Until(s.again), w.totals().Tags)
	}
	s.again = time.Now().Add(time.Hour)
	p.Budget.MaxSize.Bytes = 1_000_000
	told := w.relieved(&s, p)
	if left := w.totals(); left.Bytes > 900_000 || len(told) != 1 || !told[0] {
		t.Errorf("%d bytes are left, told %v", left.Bytes, told)
	}
}

// A file system may say only later what is free: a btrfs after half a minute, and any after the last pull has ended.
func TestWhatAFileSystemDoesNotSayYetIsNotEvictedTwice(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(9)
	w.pass(2 * time.Hour)
	free := int64(1_750_000)
	w.Space = func() (int64, int64, error) { return free, 10_000_000, nil }
	p := most(0)
	p.Budget.MinFree = rule.Size{Percent: 20}
	var s Scheduler
	for range 3 {
		w.relieved(&s, p)
		if n := w.totals().Tags; n != 5 {
			t.Fatalf("%d images of nine are left, want 5", n)
		}
	}
	s.settled = time.Now() // snapshots may hold it
	for range 3 {
		w.relieved(&s, p)
	}
	if n := w.totals().Tags; n != 5 || !s.held || time.Until(s.settled) < 5*maxPause {
		t.Fatalf("%d images are left, held is %v for %s", n, s.held, time.Until(s.settled))
	}
	free += 220_000 // and others took some
	w.relieved(&s, p)
	if n := w.totals().Tags; n != 3 || s.held {
		t.Errorf("%d images are left, want 3", n)
	}
}

// What clients push between two looks does not hide that what was removed is free.
func TestPushesDoNotDelayTheNextEviction(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(9)
	w.pass(2 * time.Hour)
	used := func() int64 { return w.totals().Bytes }
	rest := used() + 1_750_000
	w.Space = func() (int64, int64, error) { return rest - used(), 10_000_000, nil }
	p := most(0)
	p.Budget.MinFree = rule.Size{Percent: 20}
	var s Scheduler
	w.relieved(&s, p)
	before := w.totals().Tags
	w.image("app", "new", large("new", 400_000))
	w.adopt(false)
	w.relieved(&s, p)
	if n := w.totals().Tags; n != before-3 { // four of 100 kB went, and one came
		t.Errorf("%d images were left, then %d; want three less", before, n)
	}
}

// A time without a budget is none for which more was used than one allows.
func TestATimeWithoutABudgetIsNotOverIt(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(1)
	over := make(chan time.Duration, 100)
	s := &Scheduler{Room: room{make(chan struct{}), make(chan bool, 100)}, OnOver: func(d time.Duration) { over <- d }}
	s.looked, s.over = time.Now().Add(-time.Hour), true
	change := w.relieving(s, 0)
	change <- Schedule{Policy: most(1)}
	for len(s.Room.(room).told) == 0 {
		select {
		case d := <-over:
			if d > time.Minute {
				t.Fatalf("over for %s", d)
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
	if len(over) > 0 {
		t.Errorf("over for %s", <-over)
	}
}
