package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// machine is a wall clock with a monotonic part, as time.Now has it. Both move by run, only the wall
// clock by step: that of a machine that was suspended, or set.
type machine struct {
	t time.Time
}

func (m *machine) now() time.Time { return m.t }

func (m *machine) run(d time.Duration) { m.t = m.t.Add(d) }

// step moves the wall clock by whole seconds. Package time has no such thing, so this reaches into the
// 33 bits of seconds of a time.Time.
func (m *machine) step(d time.Duration) {
	was := m.t
	*(*uint64)(unsafe.Pointer(&m.t)) += uint64(int64(d/time.Second)) << 30
	if m.t.Sub(was) != 0 || m.t.Round(0).Sub(was.Round(0)) != d {
		panic("time.Time is not what it was: the step moved " + m.t.Sub(was).String())
	}
}

func newRunning() (*machine, *Clock) {
	m := &machine{time.Now()}
	return m, NewClock(m.now, nil, nil, false)
}

func wantTime(t *testing.T, what string, got, want time.Time) {
	t.Helper()
	if d := got.Sub(want.Truncate(time.Millisecond)); d < -time.Millisecond || d > time.Millisecond {
		t.Errorf("%s: %v, want %v, which is %v off", what, got, want, d)
	}
}

func TestAClockThatNeverBeatStartsAtTheWallClock(t *testing.T) {
	m, c := newRunning()
	wantTime(t, "now", c.Now(), m.t.Round(0))
	if now := c.Now(); now.Location() != time.UTC || now.Nanosecond()%1e6 != 0 {
		t.Errorf("now is %v, want whole milliseconds of UTC", now)
	}
	m.run(90 * time.Minute)
	wantTime(t, "now", c.Now(), m.t.Round(0))
	wantTime(t, "an hour ago", c.Back(time.Hour), m.t.Round(0).Add(-time.Hour))
}

func TestTheWallClockSetBackDoesNotMoveARunningClock(t *testing.T) {
	m, c := newRunning()
	was := m.t.Round(0)
	m.run(time.Minute)
	m.step(-24 * time.Hour)
	hb, gaps := c.Beat()
	wantTime(t, "now", c.Now(), was.Add(time.Minute))
	wantTime(t, "heartbeat", hb.Time, was.Add(time.Minute))
	wantTime(t, "wall of the heartbeat", hb.Wall, was.Add(time.Minute-24*time.Hour))
	if len(gaps) != 0 {
		t.Errorf("gaps %v, want none", gaps)
	}
}

func TestAForwardStepCountsAsAGapOnceItIsSeen(t *testing.T) {
	m, c := newRunning()
	was := m.t.Round(0)
	m.run(time.Minute)
	m.step(24 * time.Hour)
	wantTime(t, "now before a beat", c.Now(), was.Add(time.Minute))
	_, gaps := c.Beat()
	wantTime(t, "now", c.Now(), m.t.Round(0))
	if len(gaps) != 1 || gaps[0].Length < 24*time.Hour-time.Second || gaps[0].Length > 24*time.Hour+time.Second {
		t.Fatalf("gaps %v, want one of a day", gaps)
	}
	m.run(time.Minute)
	wantTime(t, "half a minute ago", c.Back(30*time.Second), m.t.Round(0).Add(-30*time.Second))
	wantTime(t, "90 seconds ago", c.Back(90*time.Second), was.Add(30*time.Second))
	_, gaps = c.Beat()
	if len(gaps) != 1 {
		t.Errorf("gaps %v after another beat, want one", gaps)
	}
}

func TestASmallCorrectionIsNoGap(t *testing.T) {
	m, c := newRunning()
	m.step(2 * time.Second)
	_, gaps := c.Beat()
	wantTime(t, "now", c.Now(), m.t.Round(0))
	if len(gaps) != 0 {
		t.Errorf("gaps %v, want none", gaps)
	}
}

func TestRestart(t *testing.T) {
	for _, tt := range []struct {
		name     string
		downtime time.Duration
		now      time.Duration // since the last heartbeat
		gap      time.Duration
	}{
		{"a short downtime counts as time", 10 * time.Minute, 10 * time.Minute, 0},
		{"an hour still counts", time.Hour, time.Hour, 0},
		{"a longer one is a gap", time.Hour + time.Second, time.Hour + time.Second, time.Hour + time.Second},
		{"a month is a gap", 30 * 24 * time.Hour, 30 * 24 * time.Hour, 30 * 24 * time.Hour},
		{"a clock that went back waits for nothing and goes on", -time.Hour, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, c := newRunning()
			m.run(time.Minute)
			hb, gaps := c.Beat()
			m.step(tt.downtime)
			c = NewClock(m.now, &hb, gaps, false)
			wantTime(t, "now", c.Now(), hb.Time.Add(tt.now))
			_, gaps = c.Beat()
			var length time.Duration
			for _, g := range gaps {
				length += g.Length
			}
			if (length - tt.gap).Abs() > time.Millisecond {
				t.Errorf("gaps of %v, want %v", length, tt.gap)
			}
			m.run(time.Second)
			wantTime(t, "a second later", c.Now(), hb.Time.Add(tt.now+time.Second))
			wantTime(t, "two seconds back", c.Back(2*time.Second), hb.Time.Add(tt.now-tt.gap-time.Second))
		})
	}
}

func TestBesideAServer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		since time.Duration // of the server's last heartbeat, by the wall clock
		ahead time.Duration // of the server's time
		want  time.Duration // since the heartbeat
	}{
		{"time goes on from the heartbeat", 3 * time.Second, 0, 3 * time.Second},
		{"time is the server's, which is ahead of the wall clock", 3 * time.Second, time.Hour, 3 * time.Second},
		{"a wall clock that was set back since waits at the heartbeat", -time.Hour, 0, 0},
		{"a wall clock that was set forward since waits at the heartbeat", time.Hour, 0, 0},
		{"two beats are the longest that a heartbeat is recent", 2 * BeatInterval, 0, 2 * BeatInterval},
		{"a clock that is further ahead waits at the heartbeat: it may have been set",
			2*BeatInterval + time.Second, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := newRunning()
			hb := Heartbeat{Time: m.t.Round(0).Add(tt.ahead), Wall: m.t.Round(0)}
			m.step(tt.since)
			c := NewClock(m.now, &hb, nil, true)
			wantTime(t, "now", c.Now(), hb.Time.Add(tt.want))
			if len(c.gaps) != 0 {
				t.Errorf("gaps %v, want none", c.gaps)
			}
		})
	}
}

func TestBackLeavesGapsOut(t *testing.T) {
	m, _ := newRunning()
	now := m.t.Round(0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	gaps := []Gap{{ago(10 * time.Hour), 5 * time.Hour}, {ago(2 * time.Hour), time.Hour}}
	for _, tt := range []struct {
		name       string
		back, want time.Duration
	}{
		{"nothing", 0, 0},
		{"after the gaps", time.Hour, time.Hour},
		{"just to the end of a gap", 2*time.Hour - time.Second, 2*time.Hour - time.Second},
		{"just beyond the end of a gap", 2*time.Hour + time.Second, 3*time.Hour + time.Second},
		{"to where a gap would be", 2*time.Hour + 30*time.Minute, 3*time.Hour + 30*time.Minute},
		{"before one gap", 5 * time.Hour, 6 * time.Hour},
		{"just to the end of the older gap", 9*time.Hour - time.Second, 10*time.Hour - time.Second},
		{"before both", 20 * time.Hour, 26 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hb := Heartbeat{Time: now, Wall: now}
			c := NewClock(m.now, &hb, gaps, false)
			wantTime(t, "back", c.Back(tt.back), ago(tt.want))
		})
	}
}

func TestDueIsTheInverseOfBack(t *testing.T) {
	m, _ := newRunning()
	now := m.t.Round(0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	gaps := []Gap{{ago(10 * time.Hour), 5 * time.Hour}, {ago(2 * time.Hour), time.Hour}}
	c := NewClock(m.now, &Heartbeat{Time: now, Wall: now}, gaps, false)
	for _, tt := range []struct {
		name       string
		used, keep time.Duration
		want       time.Duration // after the use
	}{
		{"used after the gaps", time.Hour, 4 * time.Hour, 4 * time.Hour},
		{"used before a gap", 4 * time.Hour, 8 * time.Hour, 9 * time.Hour},
		{"used before both", 20 * time.Hour, 40 * time.Hour, 46 * time.Hour},
		{"used while nobody watched, which counts from the end of that",
			2*time.Hour + 30*time.Minute, 4 * time.Hour, 4*time.Hour + 30*time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			due := c.Due(ago(tt.used), tt.keep)
			wantTime(t, "due", due, ago(tt.used).Add(tt.want))
			later := *m
			later.run(due.Sub(now) + time.Second)
			at := NewClock(later.now, nil, gaps, false)
			if !at.Back(tt.keep).After(ago(tt.used)) {
				t.Errorf("a second after it is due, %v ago is %v", tt.keep, at.Back(tt.keep))
			}
			later.run(-2 * time.Second)
			if at.Back(tt.keep).After(ago(tt.used)) {
				t.Errorf("a second before it is due, %v ago is %v", tt.keep, at.Back(tt.keep))
			}
		})
	}
}

func TestManyGapsMergeAndHideNoTime(t *testing.T) {
	m, c := newRunning()
	first := c.Now()
	for range 100 {
		m.run(time.Minute)
		m.step(time.Hour)
		c.Beat()
	}
	hb, gaps := c.Beat()
	if len(gaps) > maxGaps {
		t.Errorf("%d gaps, want at most %d", len(gaps), maxGaps)
	}
	var length time.Duration
	for _, g := range gaps {
		length += g.Length
	}
	if (length - 100*time.Hour).Abs() > time.Second {
		t.Errorf("gaps of %v, want 100 hours", length)
	}
	if !slices.IsSortedFunc(gaps, func(a, b Gap) int { return a.End.Compare(b.End) }) {
		t.Errorf("gaps are not in order: %v", gaps)
	}
	wantTime(t, "before all of them", c.Back(100*time.Minute), first)
	wantTime(t, "among the last", c.Back(150*time.Second), hb.Time.Add(-150*time.Second-3*time.Hour))
	if back := c.Back(99 * time.Minute); back.After(first.Add(time.Minute + time.Second)) {
		t.Errorf("99 minutes ago is %v, which is too late: a merged gap expires things early", back)
	}
}

func TestABeatGivesItsGapsAway(t *testing.T) {
	m, c := newRunning()
	m.step(time.Hour)
	_, gaps := c.Beat()
	gaps[0].Length = 0
	_, gaps = c.Beat()
	if gaps[0].Length == 0 {
		t.Error("the caller of Beat changed the clock")
	}
}

// A clock that lives through anything never goes back, and Back counts exactly the time that was watched.
func TestClockThroughRandomLives(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	for range 200 {
		liveRandomly(t, r)
		if t.Failed() {
			return
		}
	}
}

func liveRandomly(t *testing.T, r *rand.Rand) {
	m, c := newRunning()
	seconds := func(n int) time.Duration { return time.Duration(r.IntN(n)) * time.Second }
	var log []string
	var watched time.Duration
	last, event, eventAt := c.Now(), c.Now(), time.Duration(0)
	for range 40 { // fewer than maxGaps
		switch r.IntN(5) {
		case 0:
			d := 10*time.Second + seconds(1e6)
			log = append(log, fmt.Sprint("the wall clock steps by ", d))
			m.step(d)
			c.Beat()
		case 1:
			d := -seconds(1e6)
			log = append(log, fmt.Sprint("the wall clock steps by ", d))
			m.step(d)
			c.Beat()
		case 2:
			hb, gaps := c.Beat()
			d := seconds(20000) - 5000*time.Second
			log = append(log, fmt.Sprint("a restart after ", d))
			m.step(d)
			c = NewClock(m.now, &hb, gaps, false)
			if passed := m.t.Round(0).Sub(hb.Time); passed > 0 && passed <= unwatched {
				watched += passed
			}
		default:
			d := seconds(7200)
			log = append(log, fmt.Sprint("running for ", d))
			m.run(d)
			watched += d
			c.Beat()
		}
		now := c.Now()
		if now.Before(last) {
			t.Fatalf("now is %v, behind %v\n%q", now, last, log)
		}
		// A little to each side, since an event at a gap is as far away as both of its ends.
		ago := watched - eventAt
		if older, younger := c.Back(ago+step), c.Back(ago-step); older.After(event) || younger.Before(event) {
			t.Fatalf("an event at %v, %v of watched time ago, is not between %v and %v\n%q",
				event, ago, older, younger, log)
		}
		last = now
		if r.IntN(4) == 0 {
			event, eventAt = now, watched
		}
	}
}
