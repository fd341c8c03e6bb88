package inspect

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// Age is what was used last between two times.
type Age struct {
	From  int64  `json:"from_seconds"`  // since the last use, at least
	Until *int64 `json:"until_seconds"` // and less than this; null: without end
	Blobs int64  `json:"blobs"`
	Bytes int64  `json:"bytes"`
}

// ages are where one bar of the histogram ends and the next begins: by hours at first, where the promises
// of a grace end, then by days, and by months where only a long ttl keeps things.
var ages = [...]time.Duration{time.Hour, 6 * time.Hour, day, 2 * day, 4 * day, week, 2 * week, 30 * day, 60 * day, 90 * day, 180 * day, 365 * day}

func ageOf(since time.Duration) int {
	for i, end := range ages {
		if since < end {
			return i
		}
	}
	return len(ages)
}

func (a *Age) add(bytes int64) {
	a.Blobs++
	a.Bytes += bytes
}

// histogram returns the bars, without those behind the oldest blob.
func (f Figures) histogram() []Age {
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

func writeHistogram(ctx context.Context, l lifetimes, o Options, out Output, w *bufio.Writer) error {
	var f Figures
	err := l.store.View(ctx, func(r index.Reader) error {
		s, err := takeSurvey(ctx, r, l, o, func(*survey, *blobUse) error { return nil })
		if err == nil {
			f = s.figures
		}
		return err
	})
	if err != nil {
		return err
	}
	switch out.Format {
	case JSON:
		return json.NewEncoder(w).Encode(struct {
			Summary   jsonSummary `json:"summary"`
			Histogram []Age       `json:"histogram"`
		}{jsonSummary{f, stamp.Time(o.next), l.whole}, f.histogram()})
	case CSV:
		return csvHistogram(csv.NewWriter(w), f)
	}
	if err := beginTable(w, l.whole); err != nil {
		return err
	}
	if f.nothing(o) {
		return writeNothing(w, o)
	}
	return tableHistogram(w, f, o, out, time.UnixMilli(l.now))
}

func csvHistogram(w *csv.Writer, f Figures) error {
	records := [][]string{{"from_seconds", "until_seconds", "blobs", "bytes"}}
	for _, a := range f.histogram() {
		until := "" // without end
		if a.Until != nil {
			until = decimal(*a.Until)
		}
		records = append(records, []string{decimal(a.From), until, decimal(a.Blobs), decimal(a.Bytes)})
	}
	return w.WriteAll(records)
}

const (
	longestBar, shortestBar = 40, 8 // columns of the screen
	besideBar               = 50    // what the other columns take at most
)

// tableHistogram draws a bar for each age, the longest as long as there is room.
func tableHistogram(w *bufio.Writer, f Figures, o Options, out Output, now time.Time) error {
	room := longestBar
	if out.Width > 0 {
		room = min(longestBar, max(shortestBar, out.Width-besideBar))
	}
	bars := f.histogram()
	var most int64
	for _, a := range bars {
		most = max(most, a.Bytes)
	}
	t := ui.Table{Columns: []ui.Column{{Title: "LAST ACCESS"}, {Title: "BLOBS", Right: true}, {Title: "SIZE", Right: true}, {Title: ""}}}
	for _, a := range bars {
		t.Rows = append(t.Rows, ui.Text(a.text(), ui.Number(a.Blobs), ui.Bytes(a.Bytes), ui.Bar(a.Bytes, most, room)))
	}
	if err := t.Write(w, out.Width, out.Colour); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", summary(f, o, 0, now))
	return err
}

// text is the age in words.
func (a Age) text() string {
	from := ui.Span(time.Duration(a.From) * time.Second)
	switch {
	case a.Until == nil:
		return from + " and more"
	case a.From == 0:
		return "less than " + ui.Span(time.Duration(*a.Until)*time.Second)
	}
	return from + " to " + ui.Span(time.Duration(*a.Until)*time.Second)
}
