package index

import (
	"sync"
	"time"
)

// Gap is a stretch of time that is not counted: no server or gc watched the store, or the clock was set.
type Gap struct {
	End    time.Time     `json:"end"`
	Length time.Duration `json:"length"`
}

// Heartbeat is when the store was last watched: by the store's clock, and by the wall clock then.
type Heartbeat struct {
	Time time.Time `json:"time"`
	Wall time.Time `json:"wall"`
}

const (
	// BeatInterval is how often a server records that it watches. It bounds what a restart can lose.
	BeatInterval = 5 * time.Second
	// unwatched is the longest downtime that counts as time. A longer one is a gap: a server that was
	// off for a month, or a clock that was wrong at the start, must not expire a store at once.
	unwatched = time.Hour
	// step is the largest forward correction of the wall clock that is taken for a correction.
	step = 2 * time.Second
	// maxGaps bounds the list of gaps; older ones merge. They matter for one ttl only.
	maxGaps = 64
)

// Clock is the time of a store. It follows the machine's monotonic clock while the process lives, and
// never goes behind the last heartbeat. An engine stores the Heartbeat and the gaps.
type Clock struct {
	wall func() time.Time

	mu    sync.Mutex // guards the rest; held over no I/O
	start time.Time  // a reading of wall, monotonic part included
	base  time.Time  // the store's time at start
	gaps  []Gap      // oldest first
}

// NewClock continues from the last heartbeat. With beside, another process watches the store and its
// heartbeats are recent; else the time since the last one was unwatched. wall is time.Now, but in tests.
func NewClock(wall func() time.Time, last *Heartbeat, gaps []Gap, beside bool) *Clock {
	start := wall()
	c := &Clock{wall: wall, start: start, base: start.Round(0), gaps: gaps}
	if last == nil {
		return c
	}
	elapsed := c.base.Sub(last.Wall)
	switch {
	case beside && (elapsed < 0 || elapsed > 2*BeatInterval):
		c.base = last.Time // the clock stepped since the server's last beat: wait for its next
	case beside:
		c.base = last.Time.Add(elapsed)
	case !c.base.After(last.Time):
		c.base = last.Time // the clock went back
	case c.base.Sub(last.Time) > unwatched:
		c.addGap(c.base, c.base.Sub(last.Time))
	}
	return c
}

// Now is the store's time, in whole milliseconds, UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowLocked().Truncate(time.Millisecond)
}

func (c *Clock) nowLocked() time.Time {
	return c.base.Add(c.wall().Sub(c.start)).UTC()
}

// Beat compares with the wall clock and returns what an engine stores. A forward step, such as that of
// a machine that was suspended, moves the store's time but counts as a gap.
func (c *Clock) Beat() (Heartbeat, []Gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, reading := c.nowLocked(), c.wall()
	if ahead := reading.Round(0).Sub(now); ahead > 0 {
		c.start, c.base = reading, reading.Round(0)
		if ahead > step {
			c.addGap(c.base.UTC(), ahead)
		}
	}
	return Heartbeat{Time: c.nowLocked(), Wall: reading.Round(0).UTC()}, append([]Gap(nil), c.gaps...)
}

func (c *Clock) addGap(end time.Time, length time.Duration) {
	c.gaps = append(c.gaps, Gap{End: end, Length: length})
	if len(c.gaps) > maxGaps {
		c.gaps[1].Length += c.gaps[0].Length
		c.gaps = c.gaps[1:]
	}
}

// Back returns the time that lies d of watched time before Now.
func (c *Clock) Back(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.nowLocked().Truncate(time.Millisecond).Add(-d)
	for i := len(c.gaps) - 1; i >= 0; i-- {
		if g := c.gaps[i]; g.End.After(t) {
			t = t.Add(-g.Length)
		}
	}
	return t
}

// Due returns when t will lie d of watched time back, as far as is known now: the inverse of Back.
func (c *Clock) Due(t time.Time, d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.gaps) - 1; i >= 0 && c.gaps[i].End.After(t); i-- {
		g := c.gaps[i]
		if !t.Before(g.End.Add(-g.Length)) {
			return g.End.Add(d).UTC() // used while the store was not watched; later gaps are in d
		}
		d += g.Length
	}
	return t.Add(d).UTC()
}
