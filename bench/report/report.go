// Package report says what was measured, and what it is held against.
//
// A Row is a line of the table: series of samples, one for each server and round, and the checks made of their medians.
// A ratio is that of two medians of one run, since machines differ and days do too.
package report

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// Report is a run.
type Report struct {
	Began   time.Time         `json:"began"`
	Took    float64           `json:"took_seconds"`
	Machine map[string]string `json:"machine"` // and the versions of what was measured
	Rounds  int               `json:"rounds"`
	Scale   string            `json:"scale"`
	Rows    []*Row            `json:"rows"`
	Chart   *Chart            `json:"chart,omitempty"`
}

// Row is what was measured for one line of the table.
type Row struct {
	Name   string   `json:"name"`
	What   string   `json:"what"`
	Series []Series `json:"series"`
	Checks []Check  `json:"checks"`
	Notes  []string `json:"notes,omitempty"`
}

// Series is one server, or one program, over the rounds.
type Series struct {
	Who     string   `json:"who"`
	Unit    string   `json:"unit"` // what Count counts, in the singular
	Samples []Sample `json:"samples"`
}

// Sample is one round.
type Sample struct {
	Count   float64 `json:"count"`
	Bytes   int64   `json:"bytes,omitempty"` // of bodies
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`
	P50     float64 `json:"p50_seconds,omitempty"`
	P99     float64 `json:"p99_seconds,omitempty"`
	Peak    int64   `json:"peak_bytes,omitempty"`
}

// Figures of a sample.
func (s Sample) perSecond() float64 { return s.Count / s.Seconds }
func (s Sample) perCPU() float64    { return s.Count / s.CPU }
func (s Sample) cpuPerGiB() float64 { return s.CPU / gib(s.Bytes) }
func gib(n int64) float64           { return float64(n) / (1 << 30) }

// Median is the middle value, or the mean of the two in the middle; NaN of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Median is that of a figure of the samples.
func (s Series) Median(of func(Sample) float64) float64 {
	var values []float64
	for _, sample := range s.Samples {
		values = append(values, of(sample))
	}
	return Median(values)
}

// PerSecond and the others are medians over the rounds.
func (s Series) PerSecond() float64 { return s.Median(Sample.perSecond) }

// PerCPU is how much one second of CPU does.
func (s Series) PerCPU() float64 { return s.Median(Sample.perCPU) }

// CPUPerGiB is in seconds.
func (s Series) CPUPerGiB() float64 { return s.Median(Sample.cpuPerGiB) }

// Seconds is how long a round took.
func (s Series) Seconds() float64 { return s.Median(func(s Sample) float64 { return s.Seconds }) }

// CPU is what a round cost, in seconds.
func (s Series) CPU() float64 { return s.Median(func(s Sample) float64 { return s.CPU }) }

// P50 and P99 are in seconds.
func (s Series) P50() float64 { return s.Median(func(s Sample) float64 { return s.P50 }) }

// P99 is in seconds.
func (s Series) P99() float64 { return s.Median(func(s Sample) float64 { return s.P99 }) }

// Peak is in bytes.
func (s Series) Peak() float64 { return s.Median(func(s Sample) float64 { return float64(s.Peak) }) }

// Of returns the series of a server. One that was not measured has no samples.
func (r *Row) Of(who string) Series {
	for _, s := range r.Series {
		if s.Who == who {
			return s
		}
	}
	return Series{Who: who}
}

// Add adds a round to the series of a server.
func (r *Row) Add(who, unit string, s Sample) {
	for i := range r.Series {
		if r.Series[i].Who == who {
			r.Series[i].Samples = append(r.Series[i].Samples, s)
			return
		}
	}
	r.Series = append(r.Series, Series{who, unit, []Sample{s}})
}

// Check is a figure with what it has to be.
type Check struct {
	What   string  `json:"what"`
	Value  figure  `json:"value"`
	Limit  float64 `json:"limit"`
	AtMost bool    `json:"at_most"`
	Unit   string  `json:"unit"` // behind the number
}

// figure is a number that may be missing: NaN or infinite, which JSON calls null.
type figure float64

func (f figure) missing() bool { return math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) }

// MarshalJSON implements json.Marshaler.
func (f figure) MarshalJSON() ([]byte, error) {
	if f.missing() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// AtLeast and AtMost hold a figure against a limit.
func (r *Row) AtLeast(limit float64, unit, what string, value float64) {
	r.Checks = append(r.Checks, Check{What: what, Value: figure(value), Limit: limit, Unit: unit})
}

// AtMost holds a figure against its upper limit.
func (r *Row) AtMost(limit float64, unit, what string, value float64) {
	r.Checks = append(r.Checks, Check{What: what, Value: figure(value), Limit: limit, Unit: unit, AtMost: true})
}

// Met says whether it is as it has to be. What could not be measured is not.
func (c Check) Met() bool {
	v := float64(c.Value)
	return !c.Value.missing() && (v == c.Limit || (v < c.Limit) == c.AtMost)
}

// Mark is "met", or by how much it is missed: in hundredths of the limit.
func (c Check) Mark() string {
	missed := math.Abs(c.Limit-float64(c.Value)) / c.Limit
	switch {
	case c.Value.missing():
		return "**not measured**"
	case c.Met():
		return "met"
	case missed < 0.01:
		return "**missed** by less than 1 %"
	case missed >= 10:
		return fmt.Sprintf("**missed**: %.0f times the limit", missed+1)
	}
	return fmt.Sprintf("**missed** by %.0f %%", 100*missed)
}
