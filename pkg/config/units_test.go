package config

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	tests := []struct {
		text string
		want time.Duration
		fail bool
	}{
		{text: "0", want: 0},
		{text: "-0", want: 0},
		{text: "0d", want: 0},
		{text: "30d", want: 720 * time.Hour},
		{text: "1w2d3h", want: (7*24 + 2*24 + 3) * time.Hour},
		{text: "3h1w", want: (7*24 + 3) * time.Hour},
		{text: "1.5d", want: 36 * time.Hour},
		{text: ".5w", want: 84 * time.Hour},
		{text: "1.h", want: time.Hour},
		{text: "1d1.5s", want: 24*time.Hour + 1500*time.Millisecond},
		{text: "1d1µs", want: 24*time.Hour + time.Microsecond},
		{text: "1d1μs", want: 24*time.Hour + time.Microsecond},
		{text: "1h30m", want: 90 * time.Minute},
		{text: "-1d", want: -24 * time.Hour},
		{text: "+1d", want: 24 * time.Hour},
		{text: "106751d", want: 106751 * 24 * time.Hour},
		{text: "-9223372036854775808ns", want: math.MinInt64},
		{text: "106752d", fail: true},
		{text: "106751d24h", fail: true},
		{text: "15251w", fail: true},
		{text: "99999999999999999999d", fail: true},
		{text: "", fail: true},
		{text: "-", fail: true},
		{text: "--1d", fail: true},
		{text: "5", fail: true},
		{text: "1d5", fail: true},
		{text: "d", fail: true},
		{text: ".d", fail: true},
		{text: "1.2.3d", fail: true},
		{text: "1D", fail: true},
		{text: "1 d", fail: true},
		{text: "1d-1h", fail: true},
		{text: "1mo", fail: true},
	}
	for _, tt := range tests {
		got, err := ParseDuration(tt.text)
		if got != tt.want || (err != nil) != tt.fail {
			t.Errorf("%q: got %v, %v", tt.text, got, err)
		}
		if e, ok := errors.AsType[*Error](err); tt.fail && (!ok || e.Hint() == "" || e.Value != tt.text) {
			t.Errorf("%q: error %#v", tt.text, err)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	tests := map[time.Duration]string{
		0: "0", 720 * time.Hour: "30d", 90 * time.Minute: "1h30m", time.Hour: "1h", 30 * time.Second: "30s",
		1500 * time.Millisecond: "1.5s", 100 * time.Millisecond: "100ms", -time.Hour: "-1h",
		25*time.Hour + 1: "1d1h1ns",
	}
	for d, want := range tests {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestEveryDurationSurvivesItsText(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	durations := []time.Duration{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64}
	for range 10_000 {
		durations = append(durations, time.Duration(random.Uint64()>>random.IntN(64)))
	}
	for _, d := range durations {
		if got, err := ParseDuration(FormatDuration(d)); err != nil || got != d {
			t.Fatalf("seed %d: %d became %s became %d, %v", seed, d, FormatDuration(d), got, err)
		}
	}
}

// Whatever the time package reads, ParseDuration reads alike; whatever it reads has a text that it reads again.
func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"", "0", "1w2d3h", "1.5d", "-1d", "1d1µs", "9223372036854775807ns", ".", "1.d.2h",
		"106751d23h47m16.8s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if std, stdErr := time.ParseDuration(text); stdErr == nil && (err != nil || d != std) {
			t.Fatalf("%q: got %v, %v, the time package %v", text, d, err, std)
		}
		if again, againErr := ParseDuration(FormatDuration(d)); againErr != nil || again != d {
			t.Fatalf("%q: %v became %v, %v", text, d, again, againErr)
		}
	})
}

func TestParseSize(t *testing.T) {
	tests := []struct {
		text string
		want int64
		fail bool
	}{
		{text: "0", want: 0},
		{text: "1048576", want: 1 << 20},
		{text: "500GiB", want: 500 << 30},
		{text: "1.5TB", want: 1_500_000_000_000},
		{text: "20 GB", want: 20_000_000_000},
		{text: "5k", want: 5000},
		{text: "5Ki", want: 5120},
		{text: "5mib", want: 5 << 20},
		{text: "7B", want: 7},
		{text: "1PB", want: 1e15},
		{text: "1EiB", want: 1 << 60},
		{text: ".5KiB", want: 512},
		{text: "9223372036854775807", want: math.MaxInt64},
		{text: "9223372036854775808", fail: true},
		{text: "8EiB", fail: true},
		{text: "8.0EiB", fail: true},
		{text: "9.3EB", fail: true},
		{text: "", fail: true},
		{text: ".", fail: true},
		{text: "1.2.3GB", fail: true},
		{text: "-1", fail: true},
		{text: "GB", fail: true},
		{text: "1iB", fail: true},
		{text: "1KMB", fail: true},
		{text: "1XB", fail: true},
		{text: "1GBB", fail: true},
		{text: "1e3", fail: true},
		{text: "NaN", fail: true},
	}
	for _, tt := range tests {
		got, err := ParseSize(tt.text)
		if got != tt.want || (err != nil) != tt.fail {
			t.Errorf("%q: got %v, %v", tt.text, got, err)
		}
		if e, ok := errors.AsType[*Error](err); tt.fail && (!ok || e.Hint() == "" || e.Value != tt.text) {
			t.Errorf("%q: error %#v", tt.text, err)
		}
	}
}
