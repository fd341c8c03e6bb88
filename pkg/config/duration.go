package config

import (
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// ParseDuration reads everything that time.ParseDuration reads, and the units d (24h) and w (7d), mixed in any order:
// "30d", "1w2d3h", "1.5d", "0". The error is an *Error.
func ParseDuration(s string) (time.Duration, error) {
	d, err := parseDuration(s)
	if err != nil {
		return 0, about(err, "", s)
	}
	return d, nil
}

func parseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, nil
	}
	rest, negative := strings.CutPrefix(s, "-")
	if !negative {
		rest = strings.TrimPrefix(s, "+")
	}
	if rest == "" {
		return 0, problem(durationHint, "is not a duration")
	}
	var sum time.Duration
	for rest != "" {
		var d time.Duration
		var err error
		if d, rest, err = firstDuration(rest); err != nil {
			return 0, err
		}
		if sum > math.MaxInt64-d {
			return 0, tooLong()
		}
		sum += d
	}
	if negative {
		return -sum, nil
	}
	return sum, nil
}

// firstDuration reads the number and unit that s begins with, and returns what follows them.
func firstDuration(s string) (d time.Duration, rest string, err error) {
	isNumber := func(r rune) bool { return r == '.' || '0' <= r && r <= '9' }
	number := s[:len(s)-len(strings.TrimLeftFunc(s, isNumber))]
	rest = s[len(number):]
	unit := rest
	if i := strings.IndexFunc(rest, isNumber); i >= 0 {
		unit = rest[:i]
	}
	switch {
	case number == "":
		return 0, "", problem(durationHint, "is not a duration")
	case unit == "":
		return 0, "", problem("give a unit, for example 30d", "has no unit")
	}
	d, err = unitDuration(number, unit)
	return d, rest[len(unit):], err
}

// unitDuration reads a number in a unit. The time package, which has no unit above the hour, reads the number.
func unitDuration(number, unit string) (time.Duration, error) {
	std, factor := unit, time.Duration(1)
	switch unit {
	case "d":
		std, factor = "h", day/time.Hour
	case "w":
		std, factor = "h", week/time.Hour
	case "ns", "us", "µs", "μs", "ms", "s", "m", "h":
	default:
		return 0, problem(durationHint, "has the unknown unit %.20q", unit)
	}
	if number == "." || strings.Count(number, ".") > 1 {
		return 0, problem(durationHint, "is not a duration")
	}
	d, err := time.ParseDuration(number + std)
	if err != nil || d > math.MaxInt64/factor {
		return 0, tooLong()
	}
	return d * factor, nil
}

const durationHint = "write numbers with the units w, d, h, m, s, ms, us, ns, for example 30d or 1h30m"

func tooLong() error {
	return problem("use 0 where no limit is meant", "is longer than 292 years")
}

// FormatDuration is the reverse of ParseDuration. Days are the largest unit, as in every default of dcs. Units that are
// zero are left out: "30d", "1h30m", "1.5s", "0".
func FormatDuration(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d == math.MinInt64: // has no positive counterpart
		return d.String()
	case d < 0:
		return "-" + FormatDuration(-d)
	}
	var b strings.Builder
	for _, u := range []struct {
		size time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if n := d / u.size; n > 0 {
			b.WriteString(strconv.Itoa(int(n)) + u.name)
		}
		d %= u.size
	}
	if d > 0 {
		b.WriteString(d.String())
	}
	return b.String()
}
