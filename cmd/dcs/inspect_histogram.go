package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// writeHistogram writes the bytes by age in place of the rows.
func (l listed) writeHistogram(ctx context.Context, format string, to display) error {
	s, err := l.summary(ctx)
	if err != nil {
		return err
	}
	switch format {
	case formatJSON:
		return json.NewEncoder(to.to).Encode(struct {
			Summary   listSummary   `json:"summary"`
			Histogram []inspect.Age `json:"histogram"`
		}{s, s.Histogram()})
	case formatCSV:
		return histogramCSV(to.to, s.Histogram())
	}
	if err := writeIncomplete(to.to, l.Complete); err != nil {
		return err
	}
	if l.nothing() {
		return l.writeNothing(to.to)
	}
	if err := histogramTable(s.Histogram(), to.width).Write(to.to, to.width, to.colour); err != nil {
		return err
	}
	return l.writeFigures(ctx, to.to, s.Rows)
}

// histogramCSV writes a line for each age. The oldest age has no end, so that cell is empty.
func histogramCSV(to io.Writer, ages []inspect.Age) error {
	records := [][]string{{"from_seconds", "until_seconds", "blobs", "bytes"}}
	for _, a := range ages {
		until := "" // without end
		if a.Until != nil {
			until = decimal(*a.Until)
		}
		records = append(records, []string{decimal(a.From), until, decimal(a.Blobs), decimal(a.Bytes)})
	}
	return csv.NewWriter(to).WriteAll(records) // which flushes
}

const (
	longestBar, shortestBar = 40, 8 // columns of the screen
	besideBar               = 50    // what the other columns take at most
)

// histogramTable draws a bar for each age, the longest as long as there is room.
func histogramTable(ages []inspect.Age, width int) ui.Table {
	room := longestBar
	if width > 0 {
		room = min(longestBar, max(shortestBar, width-besideBar))
	}
	var most int64
	for _, a := range ages {
		most = max(most, a.Bytes)
	}
	t := ui.Table{Columns: []ui.Column{{Title: "LAST ACCESS"}, {Title: "BLOBS", Right: true}, sizeColumn, {Title: ""}}}
	for _, a := range ages {
		t.Rows = append(t.Rows, ui.Text(ageText(a), ui.Number(a.Blobs), ui.Bytes(a.Bytes), ui.Bar(a.Bytes, most, room)))
	}
	return t
}

// ageText is an age in words.
func ageText(a inspect.Age) string {
	from := ui.Span(time.Duration(a.From) * time.Second)
	switch {
	case a.Until == nil:
		return from + " and more"
	case a.From == 0:
		return "less than " + ui.Span(time.Duration(*a.Until)*time.Second)
	}
	return from + " to " + ui.Span(time.Duration(*a.Until)*time.Second)
}
