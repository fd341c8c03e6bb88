// Package ui writes for people. It alone knows how a terminal is styled; pipes and files get plain text.
//
//   - Table: titled columns over rows of cells, made to fit the screen. Write prints it.
//   - Tree: a row with rows below it. Rows makes rows of a Table of it, drawn as BranchesFor chooses.
//   - Facts: names below each other, and a text beside each. Write prints them.
//   - Progress: one line at the bottom of a terminal that says how far a command is.
//   - Bytes, Number, Count, Ago, In, Span, Bar, ShortDigest: figures as words.
//
// Width and Colour say what a stream can show. Write takes both, so a caller asks once and may write to a buffer first.
// A width of 0 is unlimited: that is what a pipe has. Cells carry a Tone, which says how a text is meant and shows in
// colour only. Nothing here keeps state that two callers in one process would share.
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

// Width returns how many columns out has: COLUMNS if it is set, else the terminal's width, else 0, which is unlimited.
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

// Terminal says whether out is a terminal.
func Terminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colour says whether to write in colour: on a terminal that can, unless NO_COLOR is set.
func Colour(out io.Writer, getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && Terminal(out)
}

// Bytes writes a size: "1.5 GiB".
func Bytes(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

// Number writes a number with separators: "12,000".
func Number(n int64) string { return humanize.Comma(n) }

// Count writes a number with its noun, whose plural ends in s: "1 tag", "12,000 tags".
func Count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(n) + " " + noun + "s"
}

// Ago writes a time in the past: "3 days ago". A time in the future is "just now", since clocks differ. The zero time
// is "never".
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if !now.After(t) {
		return justNow
	}
	return humanize.CustomRelTime(t, now, "", "", past)
}

// In writes a time to come: "in 4 days". A time that has passed is "now", and the zero time is "never".
func In(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if !t.After(now) {
		return "now"
	}
	return humanize.CustomRelTime(now, t, "", "", future)
}

// Span writes a length of time: "6 hours", "30 days".
func Span(d time.Duration) string {
	return humanize.CustomRelTime(time.Time{}, time.Time{}.Add(d), "", "", spans)
}

// Bar draws a part of a whole, whose bar has so many columns. A part that is not 0 has one column at least.
func Bar(part, whole int64, columns int) string {
	if part <= 0 || whole <= 0 {
		return ""
	}
	return strings.Repeat("#", max(1, int(float64(columns)*float64(part)/float64(whole))))
}

const justNow = "just now"

var (
	past   = magnitudes("%d ", " ago", justNow)
	future = magnitudes("in %d ", "", "in a moment")
	spans  = magnitudes("%d ", "", "a moment")
)

// magnitudes are the units of humanize. A unit is used until the next one says enough with its first number: 47 hours,
// then 2 days. A time below a second is a moment.
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
		if u.from == u.unit { // longer units begin at two
			all = append(all, humanize.RelTimeMagnitude{D: 2 * u.unit, Format: before + u.name + after, DivBy: u.unit})
		}
		all = append(all, humanize.RelTimeMagnitude{D: u.until, Format: before + u.name + "s" + after, DivBy: u.unit})
	}
	return all
}

// ShortDigest cuts the sum of a digest to n characters and keeps the algorithm: "sha256:1a2b3c4d5e6f".
func ShortDigest(dgst string, n int) string {
	algorithm, sum, ok := strings.Cut(dgst, ":")
	if !ok || len(sum) <= n {
		return dgst
	}
	return algorithm + ":" + sum[:n]
}
