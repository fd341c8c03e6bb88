package reuse

import (
	"math"
	"math/bits"
	"time"
)

// Distances are counted in sixteen buckets for each doubling, from a block of 4 KiB to 256 TiB. What is less is in the
// first bucket and what is more in the last one.
const (
	firstDoubling, lastDoubling = 12, 48
	perDoubling, subBits        = 16, 4
	distanceBuckets             = (lastDoubling - firstDoubling) * perDoubling
)

// none is the distance of what was never used before.
const none = 1<<16 - 1

// distanceBucket returns the bucket of a number of bytes.
func distanceBucket(bytes float64) int {
	if bytes < 1<<firstDoubling {
		return 0
	}
	if bytes >= 1<<lastDoubling {
		return distanceBuckets - 1
	}
	n := uint64(bytes)
	doubling := bits.Len64(n) - 1
	return (doubling-firstDoubling)*perDoubling + int(n>>(doubling-subBits)&(perDoubling-1)) //nolint:gosec // below 16
}

// distanceBounds are those of a bucket: it has what is at least from, and less than until.
func distanceBounds(bucket int) (from, until float64) {
	width := float64(int64(1) << (firstDoubling + bucket/perDoubling - subBits))
	from = width * float64(perDoubling+bucket%perDoubling)
	if bucket == 0 {
		return 0, from + width
	}
	return from, from + width
}

// ages are the buckets of ages: up to so many hours each has so many. Each ttl that operators are shown ends a bucket,
// since a build of each night is used again after nearly the same time, and one bucket must not have both sides of it.
var ages = []struct{ until, width int }{
	{48, 1}, {7 * 24, 4}, {14 * 24, 8}, {30 * 24, 24}, {90 * 24, 48}, {180 * 24, 240},
}

// ageBuckets is their number, with one for what is older.
const ageBuckets = 48 + 30 + 21 + 16 + 30 + 9 + 1

// ageBucket returns the bucket of a number of seconds: an age that is just as long as a bucket goes is in it.
func ageBucket(seconds float64) (bucket int) {
	hours, from := seconds/3600, 0
	for _, a := range ages {
		if hours <= float64(a.until) {
			return bucket + max(0, int(math.Ceil((hours-float64(from))/float64(a.width)))-1)
		}
		bucket += (a.until - from) / a.width
		from = a.until
	}
	return bucket
}

// ageBounds are those of a bucket, in seconds: it has what is more than from, and at most until.
func ageBounds(bucket int) (from, until float64) {
	hours := 0
	for _, a := range ages {
		n := (a.until - hours) / a.width
		if bucket < n {
			from := hours + bucket*a.width
			return 3600 * float64(from), 3600 * float64(from+a.width)
		}
		bucket -= n
		hours = a.until
	}
	return 3600 * float64(hours), math.Inf(1)
}

// amount is a number of pulls and of bytes, of which each pull of the sample stands for several.
type amount struct{ pulls, bytes float64 }

func (a *amount) add(b amount) { a.pulls, a.bytes = a.pulls+b.pulls, a.bytes+b.bytes }

// part is a share of an amount.
func (a amount) part(share float64) amount { return amount{a.pulls * share, a.bytes * share} }

// beyond sums up what is more than a value, which is in a bucket of these bounds. Within it the values are taken to be
// spread evenly.
func beyond(histogram []amount, bucket int, from, until, value float64) amount {
	sum := histogram[bucket].part(min(1, max(0, (until-value)/(until-from))))
	if math.IsInf(until, 1) {
		sum = histogram[bucket]
	}
	for _, a := range histogram[bucket+1:] {
		sum.add(a)
	}
	return sum
}

// lasts is how long a period lasts. Two are kept, the present one and the one before.
const lasts = 90 * 24 * time.Hour

// period is what was recorded in some time.
type period struct {
	from  int64 // unix time in milliseconds; 0: there was none
	pulls int64 // that found their object, all of them
	bytes int64 // of those

	gone     amount // pulls of what was there once
	first    amount // pulls of what was never used before
	distance [distanceBuckets]amount
	age      [ageBuckets]amount
}

// farther is what a store of so many bytes does not have.
func (p *period) farther(bytes int64) amount {
	bucket := distanceBucket(float64(bytes))
	from, until := distanceBounds(bucket)
	return beyond(p.distance[:], bucket, from, until, float64(bytes))
}

// older is what was unused for more than a time.
func (p *period) older(than time.Duration) amount {
	bucket := ageBucket(than.Seconds())
	from, until := ageBounds(bucket)
	return beyond(p.age[:], bucket, from, until, than.Seconds())
}

// record adds pulls with an age and a distance.
func (p *period) record(a amount, age uint8, distance uint16) {
	if distance == none {
		p.first.add(a)
		return
	}
	p.distance[distance].add(a)
	p.age[age].add(a)
}
