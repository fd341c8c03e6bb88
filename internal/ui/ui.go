// Package ui writes for people: tables that fit the screen, sizes, ages and digests.
//
// It alone knows how a terminal is styled. What goes elsewhere than to a terminal is plain text, and
// nothing here keeps state that two users of a process would share.
package ui

import (
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

// Width is how many columns out has: COLUMNS when it is set, else the terminal's, else 0, which is
// unlimited.
func Width(out io.Writer, getenv func(string) string) int {
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if f, ok := out.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return 0
}

// Terminal says whether out is one.
func Terminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colour says whether to colour: on a terminal that can, unless NO_COLOR is set.
func Colour(out io.Writer, getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && Terminal(out)
}

// Bytes is a size: "1.5 GiB".
func Bytes(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

// Number is a number with separators: "12,000".
func Number(n int64) string { return humanize.Comma(n) }

// Count is a number of things: "1 tag", "12,000 tags".
func Count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return humanize.Comma(n) + " " + thing + "s"
}

// Ago is a time in the past: "3 days ago". The future is just now, since clocks differ.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if !now.After(t) {
		return justNow
	}
	return humanize.CustomRelTime(t, now, "", "", past)
}

// In is a time to come: "in 4 days". What is due already is "now", and the zero time is "never".
func In(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if !t.After(now) {
		return "now"
	}
	return humanize.CustomRelTime(now, t, "", "", future)
}

// Span is a length of time: "6 hours", "30 days".
func Span(d time.Duration) string {
	return humanize.CustomRelTime(time.Time{}, time.Time{}.Add(d), "", "", spans)
}

// Bar is a part of a whole as a bar of so many columns, or less. Some is at least one.
func Bar(part, whole int64, columns int) string {
	if part <= 0 || whole <= 0 {
		return ""
	}
	return strings.Repeat("#", max(1, int(float64(columns)*float64(part)/float64(whole))))
}

const justNow = "just now"

var past, future, spans = magnitudes("%d ", " ago", justNow), magnitudes("in %d ", "", "in a moment"), magnitudes("%d ", "", "a moment")

// magnitudes keep two digits at least before they go on to the next unit: 47 hours, then 2 days. Less than a second
// is a moment.
func magnitudes(before, after, moment string) []humanize.RelTimeMagnitude {
	const day = humanize.Day
	units := []struct {
		from, until, unit time.Duration
		name              string
	}{
		{time.Second, time.Minute, time.Second, "second"},
		{time.Minute, time.Hour, time.Minute, "minute"},
		{time.Hour, 2 * day, time.Hour, "hour"},
		{2 * day, 100 * day, day, "day"},
		{100 * day, 730 * day, 30 * day, "month"},
		{730 * day, 1<<63 - 1, 365 * day, "year"},
	}
	all := []humanize.RelTimeMagnitude{{D: time.Second, Format: moment, DivBy: time.Second}}
	for _, u := range units {
		if u.from == u.unit { // the only place where there is one of it
			all = append(all, humanize.RelTimeMagnitude{D: 2 * u.unit, Format: before + u.name + after, DivBy: u.unit})
		}
		all = append(all, humanize.RelTimeMagnitude{D: u.until, Format: before + u.name + "s" + after, DivBy: u.unit})
	}
	return all
}

// ShortDigest cuts the sum of a digest to n characters, and keeps its algorithm: "sha256:1a2b3c4d5e6f".
func ShortDigest(dgst string, n int) string {
	algorithm, sum, ok := strings.Cut(dgst, ":")
	if !ok || len(sum) <= n {
		return dgst
	}
	return algorithm + ":" + sum[:n]
}
