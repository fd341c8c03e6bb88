package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/reuse"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// WhatIf estimates what clients would have found in a store with another budget or another ttl. Sizes are in bytes.
// Ratios are from 0 to 1.
type WhatIf struct {
	From  stamp.Time `json:"recorded_from"` // null: nothing was recorded
	To    stamp.Time `json:"recorded_to"`
	Pulls int64      `json:"pulls"` // GETs of blobs and manifests; those of what is gone are estimated
	Bytes int64      `json:"bytes"` // that they asked for

	// FirstBytes is the part of the bytes that belonged to what was never used before: every budget and every ttl
	// misses it. MissedBytes is the part that belonged to what had been used before and was gone.
	FirstBytes  float64 `json:"first_bytes_ratio"`
	MissedBytes float64 `json:"missed_bytes_ratio"`

	Present int64   `json:"present_bytes"` // what the store holds now
	Samples int     `json:"samples"`       // blobs, manifests and tags from which this is estimated
	Share   float64 `json:"sampled_ratio"` // of all that clients used
	Dropped int64   `json:"dropped"`       // uses that could not be recorded

	// BySize and ByTTL are empty when nothing was pulled, BySize also when the store holds nothing.
	BySize []BudgetRatio `json:"by_size"`
	ByTTL  []TTLRatio    `json:"by_ttl"`

	recording *reuse.Recording
}

// HitRatio is a part of the pulls, and of the bytes that they asked for.
type HitRatio struct {
	Pulls float64 `json:"hit_ratio"`
	Bytes float64 `json:"byte_hit_ratio"`
}

// BudgetRatio is what a store of a size would have had.
type BudgetRatio struct {
	MaxSize int64 `json:"max_size"`
	HitRatio
	Share float64 `json:"-"` // of the present bytes
}

// TTLRatio is what a store with a ttl would have had.
type TTLRatio struct {
	Seconds int64 `json:"ttl_seconds"`
	HitRatio
}

// The budgets that are judged, as parts of the present bytes, and the ttls.
var (
	budgetShares = []float64{0.25, 0.5, 1, 2, 4}
	judgedTTLs   = []time.Duration{day, 3 * day, week, 2 * week, 30 * day, 90 * day}
)

// Judge estimates from a recording what other budgets would have had, as parts of the present bytes, and other ttls.
// Nil: nothing was recorded.
func Judge(r *reuse.Recording, present int64) WhatIf {
	w := WhatIf{Present: present, BySize: []BudgetRatio{}, ByTTL: []TTLRatio{}}
	if r == nil {
		return w
	}
	w.recording = r
	s := r.Summary()
	w.From, w.To, w.Pulls, w.Bytes = stamp.Time(s.From), stamp.Time(s.To), s.Pulls, s.Bytes
	w.FirstBytes, w.MissedBytes = s.First.Bytes, s.Missed.Bytes
	w.Samples, w.Share, w.Dropped = s.Samples, s.Share, s.Dropped
	if s.Pulls == 0 {
		return w
	}
	for _, share := range budgetShares {
		size := int64(share * float64(present))
		if size == 0 {
			continue
		}
		w.BySize = append(w.BySize, BudgetRatio{size, HitRatio(r.WithBudget(size)), share})
	}
	for _, ttl := range judgedTTLs {
		w.ByTTL = append(w.ByTTL, TTLRatio{int64(ttl / time.Second), HitRatio(r.WithTTL(ttl))})
	}
	return w
}

// BudgetCurve is the part of the bytes that budgets would have had, from the least one that is judged to the largest.
// From each to the next the budget grows by the same factor. It is empty when nothing was pulled.
func (w WhatIf) BudgetCurve(points int) []float64 {
	if len(w.BySize) == 0 {
		return nil // there are no budgets to compare
	}
	least, most := float64(w.BySize[0].MaxSize), float64(w.BySize[len(w.BySize)-1].MaxSize)
	return curve(points, least, most, func(at float64) reuse.Ratio { return w.recording.WithBudget(int64(at)) })
}

// TTLCurve is the part of the bytes that ttls would have had, as BudgetCurve has it of budgets.
func (w WhatIf) TTLCurve(points int) []float64 {
	if len(w.ByTTL) == 0 {
		return nil
	}
	return curve(points, float64(judgedTTLs[0]), float64(judgedTTLs[len(judgedTTLs)-1]),
		func(at float64) reuse.Ratio { return w.recording.WithTTL(time.Duration(at)) })
}

func curve(points int, least, most float64, ratio func(at float64) reuse.Ratio) (all []float64) {
	for i := range points {
		all = append(all, ratio(least*math.Pow(most/least, float64(i)/float64(max(1, points-1)))).Bytes)
	}
	return all
}

// ReadRecording reads what servers of a data directory recorded. Nil: there is nothing.
func ReadRecording(dir tree.Dir) (*reuse.Recording, error) {
	data, err := dir.ReadMetadata(dir.Reuse(), reuse.MostFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := reuse.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir.Reuse(), err)
	}
	return r, nil
}
