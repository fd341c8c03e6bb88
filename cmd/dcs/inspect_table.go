package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// shortDigest is how many characters of a digest people see, as with docker.
const shortDigest = 12

// digestColumn is the first column that becomes narrower. It then leaves out the algorithm.
var digestColumn = ui.Column{Title: "DIGEST", Flexible: true, Min: shortDigest, Cut: ui.CutDigest, First: true}

var (
	repositoryColumn = ui.Column{Title: "REPOSITORY", Flexible: true, Min: 10, Cut: ui.CutName}
	sizeColumn       = ui.Column{Title: "SIZE", Right: true}
	freesColumn      = ui.Column{Title: "FREES", Right: true, Drop: 1, First: true}
	accessColumn     = ui.Column{Title: "LAST ACCESS"}
	expiresColumn    = ui.Column{Title: "EXPIRES"}

	tagColumns = []ui.Column{repositoryColumn, {Title: "TAG", Flexible: true, Min: 8, Cut: ui.CutList}, digestColumn,
		sizeColumn, freesColumn,
		accessColumn, expiresColumn}
)

// tableColumns are those of each kind. A tag is kept by itself, so it has no reason.
var tableColumns = map[inspect.Kind][]ui.Column{
	inspect.Blobs: {digestColumn, {Title: "KIND"}, sizeColumn, accessColumn, expiresColumn,
		{Title: "USED BY", Flexible: true, Min: 10, Cut: ui.CutList}},
	inspect.Images: append(tagColumns[:len(tagColumns):len(tagColumns)],
		ui.Column{Title: "REASON", Drop: 2, First: true}),
	inspect.Tags:         tagColumns,
	inspect.Repositories: {repositoryColumn, {Title: "IMAGES", Right: true}, sizeColumn, freesColumn, accessColumn},
}

// writeTable writes the rows, and below them what the store holds in all and what of it is removed soon. The figures
// may take seconds, so the rows do not wait for them.
func (l listed) writeTable(ctx context.Context, to display) error {
	if err := writeIncomplete(to.to, l.Complete); err != nil {
		return err
	}
	if l.nothing() {
		return l.writeNothing(to.to)
	}
	t := ui.Table{Columns: tableColumns[l.Kind]}
	for row, err := range l.Rows(ctx) {
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, cells(row, l.Now))
	}
	if err := t.Write(to.to, to.width, to.colour); err != nil {
		return err
	}
	return l.writeFigures(ctx, to.to, int64(len(t.Rows)))
}

// cells returns the cells of a row in the order of tableColumns.
func cells(row inspect.Row, now time.Time) []ui.Cell {
	switch r := row.(type) {
	case inspect.Blob:
		return []ui.Cell{digestCell(r.Digest.String()), {Text: r.Kind}, {Text: ui.Bytes(r.Size)},
			ago(r.LastAccess, now), in(r.ExpiresAt, now),
			orDash(ui.JoinList(r.Repositories))}
	case inspect.Repository:
		return []ui.Cell{{Text: r.Repository}, {Text: ui.Number(r.Images)}, {Text: ui.Bytes(r.Size)},
			{Text: ui.Bytes(r.UniqueBytes)},
			ago(r.LastAccess, now)}
	case inspect.Image:
		row := []ui.Cell{{Text: r.Repository}, orDash(ui.JoinList(strings.Fields(r.Tag))),
			digestCell(r.Digest.String()), {Text: ui.Bytes(r.Size)},
			{Text: ui.Bytes(r.UniqueBytes)}, ago(r.LastAccess, now), in(r.ExpiresAt, now)}
		if r.Tags != nil { // it is an image, not a tag
			row = append(row, orDash(reason(r)))
		}
		return row
	}
	return nil
}

// reason says in words why an image is kept. A tagged image expires all the same.
func reason(i inspect.Image) string {
	switch i.KeptBy {
	case inspect.KeptByTag:
		return "tagged"
	case inspect.KeptByParent:
		return "part of an index"
	case inspect.KeptBySubject:
		return "attached to an image"
	case inspect.KeptByGrace:
		if time.Time(i.LastAccess).Sub(time.Time(i.CreatedAt)) < time.Minute {
			return "just pushed"
		}
		return "just used"
	case inspect.KeptByTTL:
		return "used within the ttl"
	case inspect.KeptByRule:
		return "kept by a rule"
	case inspect.KeptByPin:
		return "pinned"
	}
	return ""
}

// writeIncomplete says above a table that it is incomplete, if it is.
func writeIncomplete(w io.Writer, complete bool) error {
	if complete {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s\n\n", incomplete)
	return err
}

// nothing says whether --repository was given and no repository matches it.
func (l listed) nothing() bool { return l.options.Repository != "" && l.Totals == index.Totals{} }

// writeNothing says that no repository matches, in place of an empty table.
func (l listed) writeNothing(w io.Writer) error {
	_, err := fmt.Fprintf(w, "no repository matches %q\n", l.options.Repository)
	return err
}

// writeFigures writes what the store holds, and what of it is removed soon if it is not used.
func (l listed) writeFigures(ctx context.Context, w io.Writer, shown int64) error {
	f, err := l.Figures(ctx)
	if err != nil {
		return err
	}
	holds := []string{ui.Count(f.Tags, "tag"), ui.Count(f.Manifests, "manifest"), ui.Count(f.Blobs, "blob"),
		ui.Bytes(f.Bytes)}
	text := strings.Join(holds, ", ")
	rows := count(f.Rows, l.Kind)
	if l.options.Expiring != nil {
		text += fmt.Sprintf("; %s due for removal %s", rows, dueWithin(*l.options.Expiring))
	}
	if shown < f.Rows {
		text += fmt.Sprintf("; %d of %s shown", shown, rows)
	}
	if f.Bytes > 0 {
		text += fmt.Sprintf("\ndue for removal within 1 day: %s, within 7 days: %s; untagged: %s",
			ui.Bytes(f.Day), ui.Bytes(f.Week), ui.Bytes(f.Untagged))
		if !l.next.IsZero() {
			text += "\nnext clean-up " + ui.In(l.next, l.Now)
		}
	}
	_, err = fmt.Fprintf(w, "\n%s\n", text)
	return err
}

// count counts rows of a kind.
func count(n int64, kind inspect.Kind) string {
	if kind != inspect.Repositories {
		return ui.Count(n, strings.TrimSuffix(string(kind), "s"))
	}
	if n == 1 {
		return "1 repository"
	}
	return ui.Number(n) + " repositories"
}

// dueWithin puts the value of --expiring into words. Zero means what the next run removes.
func dueWithin(d time.Duration) string {
	if d == 0 {
		return nextCleanUp
	}
	return "within " + ui.Span(d)
}

// digestCell shortens a digest to shortDigest characters, without its algorithm.
func digestCell(d string) ui.Cell { return ui.Cell{Text: ui.ShortDigest(d, shortDigest)} }

// orDash replaces an empty text by a dash, so that each cell of a table has a text.
func orDash(text string) ui.Cell {
	if text == "" {
		return ui.Cell{Text: "-", Tone: ui.Faint}
	}
	return ui.Cell{Text: text}
}

// ago says how long ago something happened.
func ago(t stamp.Time, now time.Time) ui.Cell { return ui.Cell{Text: ui.Ago(time.Time(t), now)} }

// nextCleanUp says when a row that has expired is removed.
const nextCleanUp = "at next clean-up"

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// in says when something expires: the sooner, the louder.
func in(t stamp.Time, now time.Time) ui.Cell {
	c := ui.Cell{Text: ui.In(time.Time(t), now)}
	switch left := time.Time(t).Sub(now); {
	case time.Time(t).IsZero():
		c.Tone = ui.Faint
	case left <= 0:
		c = ui.Cell{Text: nextCleanUp, Tone: ui.Alert}
	case left <= day:
		c.Tone = ui.Alert
	case left <= week:
		c.Tone = ui.Warn
	}
	return c
}
