package inspect

import (
	"context"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// Figures sum up a store, or those of its repositories that were asked for. Sizes are in bytes.
type Figures struct {
	index.Totals
	Day      int64 `json:"expiring_1d_bytes"` // of blobs that are removed within a day if they are not used
	Week     int64 `json:"expiring_7d_bytes"`
	Untagged int64 `json:"untagged_bytes"` // of blobs that no tag holds

	Images int64              `json:"-"` // counted for other kinds of rows than blobs
	Files  int64              `json:"-"` // blobs that are manifests; a manifest of several repositories is one
	Rows   int64              `json:"-"` // that were asked for, before a limit
	Ages   [len(ages) + 1]Age `json:"-"` // see Histogram
}

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// Age is the blobs whose last use lies in a range.
type Age struct {
	From  int64  `json:"from_seconds"`  // since the last use, at least
	Until *int64 `json:"until_seconds"` // and less than this; null: without end
	Blobs int64  `json:"blobs"`
	Bytes int64  `json:"bytes"`
}

// ages are where one bar of the histogram ends and the next begins: by hours at first, where a grace ends, then by
// days, and by months where only a long ttl keeps blobs.
var ages = [...]time.Duration{time.Hour, 6 * time.Hour, day, 2 * day, 4 * day, week, 2 * week, 30 * day, 60 * day,
	90 * day, 180 * day, 365 * day}

// ageOf returns the number of the range in which an age lies. The last range has no end.
func ageOf(since time.Duration) int {
	for i, end := range ages {
		if since < end {
			return i
		}
	}
	return len(ages)
}

// add counts a blob of so many bytes.
func (a *Age) add(bytes int64) {
	a.Blobs++
	a.Bytes += bytes
}

// Histogram returns the bytes by age, youngest first, as far as the oldest blob.
func (f Figures) Histogram() []Age {
	used := 0
	for i := range f.Ages {
		a := &f.Ages[i]
		if i > 0 {
			a.From = int64(ages[i-1] / time.Second)
		}
		if i < len(ages) {
			until := int64(ages[i] / time.Second)
			a.Until = &until
		}
		if a.Blobs > 0 {
			used = i + 1
		}
	}
	return f.Ages[:used]
}

// Sum sums up a store as it would live under a policy, in one pass over it.
func Sum(ctx context.Context, store index.Store, p index.Policy) (Figures, error) {
	l, err := List(ctx, store, p, Options{Limit: 1})
	if err != nil {
		return Figures{}, err
	}
	return l.Figures(ctx)
}
