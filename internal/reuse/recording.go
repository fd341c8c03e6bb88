package reuse

import "time"

// Recording is what a sampler knew when it was encoded.
type Recording struct {
	to      int64 // unix time in milliseconds
	skipped int64
	dropped int64
	rate    rate
	periods [2]period
	entries []entry // oldest use first
}

// Ratio is a part of the pulls, and of the bytes that they asked for, from 0 to 1.
type Ratio struct{ Pulls, Bytes float64 }

// Summary says what a recording rests on.
type Summary struct {
	From, To time.Time
	// Pulls and Bytes are those of all GETs, each byte as often as it was sent. Those that found nothing are estimated,
	// and count with all their bytes.
	Pulls, Bytes int64
	// First is the part of what was never used before, which no budget and no ttl has. Missed is the part of what was
	// used before and is gone.
	First, Missed Ratio
	Samples       int     // blobs, manifests and tags that are followed
	Share         float64 // of all those that were used
	Dropped       int64   // uses that were not recorded, since another one was being recorded
}

// Summary sums the recording up.
func (r *Recording) Summary() Summary {
	s := Summary{From: time.UnixMilli(r.from()), To: time.UnixMilli(r.to), Samples: len(r.entries), Share: 1,
		Dropped: r.dropped}
	whole := r.whole()
	s.Pulls, s.Bytes = int64(whole.pulls), int64(whole.bytes)
	s.First = ratio(r.periods[0].first, r.periods[1].first, whole)
	s.Missed = ratio(r.periods[0].gone, r.periods[1].gone, whole)
	var objects float64
	for i := range r.entries {
		objects += 1 / r.entries[i].chance(r.rate)
	}
	if objects > 0 {
		s.Share = min(1, float64(len(r.entries))/objects)
	}
	return s
}

// WithBudget is the part that a store of so many bytes would have found, which removes what was least recently used.
func (r *Recording) WithBudget(bytes int64) Ratio {
	return r.hits(func(p *period) amount { return p.farther(bytes) })
}

// WithTTL is the part that a store would have found which removes what was unused for so long.
func (r *Recording) WithTTL(ttl time.Duration) Ratio {
	return r.hits(func(p *period) amount { return p.older(ttl) })
}

// hits is what was not missed. The misses are estimated and not the hits: a few hot objects have most of the hits, and
// an estimate of these would be good only if the sample had its share of such objects.
func (r *Recording) hits(misses func(*period) amount) Ratio {
	var sum [2]amount
	for i := range r.periods {
		p := &r.periods[i]
		sum[i] = p.first
		sum[i].add(misses(p))
	}
	missed := ratio(sum[0], sum[1], r.whole())
	return Ratio{1 - missed.Pulls, 1 - missed.Bytes}
}

// whole is all that was pulled. What was there is counted, and what was not is estimated.
func (r *Recording) whole() (sum amount) {
	for i := range r.periods {
		p := &r.periods[i]
		sum.add(amount{float64(p.pulls), float64(p.bytes)})
		sum.add(p.gone)
	}
	return sum
}

// ratio is the part that two amounts are of a whole. Estimates may come out as more than that.
func ratio(a, b, whole amount) (r Ratio) {
	a.add(b)
	if whole.pulls > 0 {
		r.Pulls = min(1, max(0, a.pulls/whole.pulls))
	}
	if whole.bytes > 0 {
		r.Bytes = min(1, max(0, a.bytes/whole.bytes))
	}
	return r
}

// from is when the recording began, in milliseconds.
func (r *Recording) from() int64 {
	if earlier := r.periods[1].from; earlier != 0 {
		return earlier
	}
	return r.periods[0].from
}

// each calls f with each entry.
func (r *Recording) each(f func(*entry)) {
	for i := range r.entries {
		f(&r.entries[i])
	}
}

// keep drops the entries that a lower rate does not sample.
func (r *Recording) keep(next rate) {
	kept := r.entries[:0]
	for i := range r.entries {
		if r.entries[i].sampled(next) {
			kept = append(kept, r.entries[i])
		}
	}
	r.rate, r.entries = next, kept
}
