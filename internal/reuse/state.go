package reuse

import (
	"time"
	"unsafe"
)

const (
	// forgotten is the age from which an entry may be forgotten. Twice the longest ttl that is judged.
	forgotten = 180 * 24 * time.Hour
	// follows is how long after an offer a pull belongs to it. A client asks for the layers right after the manifest.
	follows = 10 * time.Minute
	// unwatched is the longest time without a server that counts as age, as for the ttl.
	unwatched = time.Hour
)

// state is what a sampler knows. Its time is in seconds, and leaves out long stretches in which no server ran.
type state struct {
	stack
	limit   int // of entries
	periods [2]period
	skipped int64 // seconds that are left out
	dropped int64
	changed bool // since it was encoded
}

// Memory that a sampler may have, in bytes. The least one has room for some hundred entries.
const (
	LeastMemory = 128 << 10
	MostMemory  = 64 << 20
)

// size is how much memory a sampler with so many entries takes, in bytes.
func size(limit int) (sum int64) {
	const page = 8 << 10 // memory is given in these
	sum = 1 << 10        // for what is small
	for _, bytes := range []int{slotsFor(limit) * int(unsafe.Sizeof(entry{})), slotsFor(limit)*8 + 8,
		tableFor(limit) * 4, fileSize(limit), int(unsafe.Sizeof(Sampler{}))} {
		sum += int64((bytes + page - 1) / page * page)
	}
	return sum
}

// limitFor is the largest number of entries for which memory is enough.
func limitFor(memory int64) int {
	low, high := 64, 1<<21
	for low+1 < high {
		if middle := (low + high) / 2; size(middle) <= memory {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// begin goes on with a recording, or with none.
func (s *state) begin(memory int64, r *Recording, now time.Time) {
	s.limit = limitFor(memory)
	s.stack = newStack(s.limit)
	s.periods[0].from = now.UnixMilli()
	if r == nil {
		return
	}
	s.periods, s.dropped, s.skipped = r.periods, r.dropped, r.skipped
	s.rate = r.rate
	if off := now.Sub(time.UnixMilli(r.to)); off > unwatched {
		s.skipped += int64(off / time.Second)
	}
	if len(r.entries) > s.limit {
		s.rate = lower(r.rate, s.limit, r.each)
		r.keep(s.rate)
	}
	for _, e := range r.entries {
		s.use(e)
	}
}

// seconds is a time by the state's clock.
func (s *state) seconds(now time.Time) uint32 {
	return uint32(max(0, now.Unix()-s.skipped)) //nolint:gosec // until 2106
}

// entry is of something that is used now, for the first time as far as is known.
func (s *state) entry(k Key, size int64, kind kind, now time.Time) entry {
	return entry{key: k, size: min(size, MostSize), used: s.seconds(now), kind: kind, distance: none}
}

// pulled records a GET of an object that is there.
func (s *state) pulled(k Key, size, sent int64, now time.Time) {
	e, old := s.found(k, size, now)
	if e.kind == dead {
		return
	}
	s.periods[0].record(amount{1, float64(sent)}.part(1/e.chance(s.rate)), e.age, e.distance)
	s.changed = true
	if old != nil && old.used == e.used {
		old.kind = object
		return
	}
	s.put(e)
}

// offered records that a client was told of an object.
func (s *state) offered(k Key, size int64, now time.Time) {
	e, old := s.found(k, size, now)
	if e.kind == dead || old != nil && old.used == e.used {
		return
	}
	e.kind |= offered
	s.put(e)
}

// pushed records that a client stored an object.
func (s *state) pushed(k Key, size int64, now time.Time) {
	s.put(s.entry(k, size, object, now))
}

// named records a use of a tag. Not all that its image has may be known, so the size may only grow.
func (s *state) named(k Key, size int64, now time.Time) {
	if old := s.lookup(k); old != nil {
		size = max(size, old.size)
	}
	s.put(s.entry(k, size, tag, now))
}

// missed records a GET of what is gone.
func (s *state) missed(k Key, now time.Time) {
	e := s.lookup(k)
	if e == nil || e.is(absent) {
		return
	}
	e.kind |= absent
	a := amount{1, float64(e.size)}.part(1 / e.chance(s.rate))
	age, distance := s.measure(e, s.seconds(now))
	p := &s.periods[0]
	p.gone.add(a)
	p.record(a, age, distance)
	s.changed = true
}

// found returns an entry for a use of an object now, with the age and the distance that it had before, and the entry
// that it has. An object that was used in this very second stays where it is, since little else was used since then.
// Dead: it is not in the sample, since the rate fell a moment ago.
func (s *state) found(k Key, size int64, now time.Time) (e entry, old *entry) {
	if !s.rate.samples(k, size) {
		return e, nil
	}
	e = s.entry(k, size, object, now)
	if old = s.lookup(k); old == nil {
		return e, nil
	}
	switch {
	case old.is(offered) && e.used-old.used <= uint32(follows/time.Second):
		e.age, e.distance = old.age, old.distance
	case old.used == e.used:
		e.distance = uint16(distanceBucket(float64(size))) //nolint:gosec // there are 576
	default:
		e.age, e.distance = s.measure(old, e.used)
	}
	e.used = max(e.used, old.used)
	return e, old
}

// measure finds the age and the distance of an entry: the buckets of both.
func (s *state) measure(e *entry, now uint32) (age uint8, distance uint16) {
	since := float64(now) - float64(e.used)
	return uint8(ageBucket(since)), //nolint:gosec // there are 155
		uint16(distanceBucket(float64(s.above(e.key) + e.size))) //nolint:gosec // there are 576
}

// put uses an entry, if it is in the sample still. It makes room for it if need be.
func (s *state) put(e entry) {
	if s.live == s.limit && s.lookup(e.key) == nil {
		s.makeRoom(e.used)
	}
	if e.sampled(s.rate) {
		s.use(e)
		s.changed = true
	}
}

// makeRoom forgets what was not used for long, or else samples less.
func (s *state) makeRoom(now uint32) {
	old := int64(now) - int64(forgotten/time.Second)
	s.compact(func(e *entry) bool { return int64(e.used) > old })
	if s.live <= s.limit-s.limit/16 {
		return
	}
	s.rate = lower(s.rate, s.limit, s.stack.all)
	s.compact(func(e *entry) bool { return e.sampled(s.rate) })
}

// lower returns a rate that is no more than r, and samples a sixteenth less than the limit, or fewer, of the entries.
func lower(r rate, limit int, each func(func(*entry))) rate {
	var objects, bytes float64
	each(func(e *entry) {
		objects += 1 / e.chance(r)
		bytes += float64(e.weight(r))
	})
	for sample := 2 * float64(limit); ; sample *= 0.95 { // large objects are sampled for certain, so it may be more
		next, n := r.most(sample, objects, bytes), 0
		each(func(e *entry) {
			if e.sampled(next) {
				n++
			}
		})
		if n <= limit-limit/16 {
			return next
		}
	}
}

// turn begins a new period when the present one has lasted long enough.
func (s *state) turn(now time.Time) {
	if at := now.UnixMilli(); at-s.periods[0].from > lasts.Milliseconds() {
		s.periods[1] = s.periods[0]
		s.periods[0] = period{from: at}
	}
}

// count adds what was counted beside the state.
func (s *state) count(pulls, bytes, dropped int64, now time.Time) {
	s.turn(now)
	p := &s.periods[0]
	p.pulls, p.bytes = p.pulls+pulls, p.bytes+bytes
	s.dropped += dropped
}
