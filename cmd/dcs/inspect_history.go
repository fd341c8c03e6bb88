package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// chronicle is one sort of history in each form: the name of its array in JSON, the keys of its rows, and its table.
type chronicle[T any] struct {
	name    string
	keys    []string
	record  func(T) []string
	columns []ui.Column
	cells   func(row T, now time.Time) []ui.Cell
	count   func(n int64) string // of rows, in words
	list    func(context.Context, index.Store, index.Policy, inspect.Options) (inspect.History[T], error)
}

var goneImages = chronicle[inspect.Gone]{
	name: "gone",
	keys: []string{"repository", "tag", "digest", "gone_at", "reason", "rule", "rule_name", "last_access",
		"unique_bytes", "pushed_by"},
	record: func(g inspect.Gone) []string {
		bytes := "" // not known
		if g.UniqueBytes != nil {
			bytes = decimal(*g.UniqueBytes)
		}
		return []string{g.Repository, g.Tag, g.Digest.String(), g.GoneAt.String(), g.Reason, strconv.Itoa(g.Rule),
			g.RuleName, g.LastAccess.String(), bytes, g.PushedBy}
	},
	columns: []ui.Column{
		{Title: "IMAGE", Flexible: true, Min: 20, Cut: ui.CutName}, {Title: "DIGEST", Drop: 1, First: true},
		{Title: "GONE"}, {Title: "WHY", Flexible: true, Min: 10}, {Title: "LAST ACCESS"},
		{Title: "FREED", Right: true, Drop: 2, First: true},
	},
	cells: func(g inspect.Gone, now time.Time) []ui.Cell {
		dgst := ui.ShortDigest(g.Digest.String(), shortDigest)
		freed := "-"
		if g.UniqueBytes != nil {
			freed = ui.Bytes(*g.UniqueBytes)
		}
		return []ui.Cell{{Text: goneName(g)}, {Text: dgst, Tone: ui.Faint}, ago(g.GoneAt, now), {Text: goneWhy(g)},
			ago(g.LastAccess, now), {Text: freed}}
	},
	count: func(n int64) string { return ui.Count(n, "removed image") },
	list:  inspect.ListGone,
}

// goneName is the name by which an image was known that is gone.
func goneName(g inspect.Gone) string {
	if g.Tag == "" {
		return g.Repository + "@" + ui.ShortDigest(g.Digest.String(), shortDigest)
	}
	return g.Repository + ":" + g.Tag
}

// goneWhy is a reason as gc prints it.
func goneWhy(g inspect.Gone) string {
	if g.Rule == 0 {
		return g.Reason
	}
	return g.Reason + " " + g.RuleName
}

// becameOf says what became of an image that is gone.
func becameOf(e *inspect.GoneError) string {
	because := map[string]string{
		index.ReasonTTL: "unused for the ttl", index.ReasonUntagged: "untagged, and unused for the ttl",
		index.ReasonRule:    "unused for the time of rule " + e.Gone.RuleName,
		index.ReasonSize:    "there was too little room, and it was unused for longest",
		index.ReasonDeleted: "a client deleted it",
		index.ReasonMissing: "its file was missing from the disk",
	}[e.Gone.Reason]
	if because == "" {
		because = e.Gone.Reason
	}
	return fmt.Sprintf("%s was removed %s (%s); its last use was %s: dcs inspect --gone --repository %s",
		goneName(e.Gone), ui.Ago(time.Time(e.Gone.GoneAt), e.Now), because,
		ui.Ago(time.Time(e.Gone.LastAccess), e.Now), e.Gone.Repository)
}

var pastRuns = chronicle[inspect.Run]{
	name: "runs",
	keys: []string{"started_at", "ended_at", "duration_ms", "by", "images", "tags", "manifests", "blobs", "uploads",
		"freed_bytes", "error", "held_by"},
	record: func(r inspect.Run) []string {
		return []string{r.StartedAt.String(), r.EndedAt.String(), decimal(r.DurationMS), r.By, decimal(r.Images),
			decimal(r.Tags), decimal(r.Manifests), decimal(r.Blobs), decimal(r.Uploads), decimal(r.FreedBytes), r.Error,
			r.HeldBy}
	},
	columns: []ui.Column{
		{Title: "STARTED"}, {Title: "TOOK", Right: true}, {Title: "BY"}, {Title: "IMAGES", Right: true},
		{Title: "BLOBS", Right: true, Drop: 1}, {Title: "FREED", Right: true},
		{Title: "RESULT", Flexible: true, Min: 12},
	},
	cells: func(r inspect.Run, _ time.Time) []ui.Cell {
		took := ui.Cell{Text: "-", Tone: ui.Faint}
		if !time.Time(r.EndedAt).IsZero() {
			took = ui.Cell{Text: (time.Duration(r.DurationMS) * time.Millisecond).String()}
		}
		return []ui.Cell{{Text: localMinute(r.StartedAt)}, took, {Text: r.By}, {Text: ui.Number(r.Images)},
			{Text: ui.Number(r.Blobs)}, {Text: ui.Bytes(r.FreedBytes)}, runResult(r)}
	},
	count: func(n int64) string { return ui.Count(n, "clean-up") },
	list:  inspect.ListRuns,
}

// runResult says how a run ended.
func runResult(r inspect.Run) ui.Cell {
	switch {
	case time.Time(r.EndedAt).IsZero():
		return ui.Cell{Text: "did not end", Tone: ui.Warn}
	case r.Error != "":
		return ui.Cell{Text: r.Error, Tone: ui.Alert}
	case r.HeldBy != "":
		return ui.Cell{Text: "held by " + r.HeldBy, Tone: ui.Warn}
	}
	return ui.Cell{Text: "ok"}
}

var pastPulls = chronicle[inspect.Pulls]{
	name: "pulls",
	keys: []string{"hour", "hits", "misses", "hit_ratio", "bytes"},
	record: func(p inspect.Pulls) []string {
		return []string{p.Hour.String(), decimal(p.Hits), decimal(p.Misses),
			strconv.FormatFloat(p.HitRatio, 'f', -1, 64), decimal(p.Bytes)}
	},
	columns: []ui.Column{{Title: "HOUR"}, {Title: "HITS", Right: true}, {Title: "MISSES", Right: true},
		{Title: "HIT RATIO", Right: true}, {Title: "SENT", Right: true}},
	cells: func(p inspect.Pulls, _ time.Time) []ui.Cell {
		return ui.Text(localMinute(p.Hour), ui.Number(p.Hits), ui.Number(p.Misses),
			fmt.Sprintf("%.1f %%", 100*p.HitRatio), ui.Bytes(p.Bytes))
	},
	count: func(n int64) string { return ui.Count(n, "hour") + " with pulls" },
	list:  inspect.ListPulls,
}

// localMinute is a time for people, who may compare several.
func localMinute(t stamp.Time) string { return time.Time(t).Local().Format("2006-01-02 15:04") }

// show writes what the index of a store remembers.
func (c chronicle[T]) show(ctx context.Context, opener store.Opener, o inspect.Options, format string, to display) (
	err error) {
	st, err := opener.Look(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	h, err := c.list(ctx, st.Index, st.Policy, o)
	if err != nil {
		return err
	}
	switch format {
	case formatJSON:
		return jsonRows(to.to, "", c.name, all(h.Rows))
	case formatCSV:
		return csvRows(to.to, c.keys, all(h.Rows), c.record)
	}
	return c.table(h, to)
}

// all are rows that are read already.
func all[T any](rows []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// table writes the rows, and below them how many there are.
func (c chronicle[T]) table(h inspect.History[T], to display) error {
	if h.For == 0 {
		_, err := fmt.Fprintln(to.to, "nothing is remembered: cache.gone_for is 0")
		return err
	}
	t := ui.Table{Columns: c.columns}
	for _, row := range h.Rows {
		t.Rows = append(t.Rows, c.cells(row, h.Now))
	}
	if err := t.Write(to.to, to.width, to.colour); err != nil {
		return err
	}
	text := c.count(h.Found) + " in the last " + ui.Span(h.For)
	if n := int64(len(h.Rows)); n < h.Found {
		text += "; " + ui.Number(n) + " shown"
	}
	_, err := fmt.Fprintf(to.to, "\n%s\n", text)
	return err
}
