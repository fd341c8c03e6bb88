package inspect

import (
	"bufio"
	"fmt"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// shortDigest is how many characters of a digest a table shows, as docker does, if these tell them apart.
const shortDigest = 12

var (
	blobTable = []ui.Column{{Title: "DIGEST"}, {Title: "KIND"}, {Title: "SIZE", Right: true}, {Title: "LAST ACCESS"}, {Title: "EXPIRES"},
		{Title: "USED BY", Flexible: true, Min: 10}}
	imageTable = []ui.Column{{Title: "REPOSITORY", Flexible: true, Min: 10}, {Title: "TAG", Flexible: true, Min: 8},
		{Title: "DIGEST"}, {Title: "SIZE", Right: true}, {Title: "UNIQUE", Right: true, Drop: 1}, {Title: "LAST ACCESS"}, {Title: "EXPIRES"},
		{Title: "KEPT BY", Drop: 2}}
)

// tablePrinter collects the rows, since columns are as wide as their widest cell, and as digests are long
// enough to be told apart.
type tablePrinter struct {
	w    *bufio.Writer
	out  Output
	kind Kind
	now  time.Time
	rows []Row
}

func newTablePrinter(w *bufio.Writer, out Output, o Options, l lifetimes) *tablePrinter {
	return &tablePrinter{w: w, out: out, kind: o.Kind, now: time.UnixMilli(l.now)}
}

func (p *tablePrinter) begin(index.Totals) error { return nil }

func (p *tablePrinter) render(Row) ([]byte, error) { return nil, nil }

func (p *tablePrinter) line(l *line) error {
	p.rows = append(p.rows, l.row)
	return nil
}

// end writes the table, and below it what the store holds in all, and what will go.
func (p *tablePrinter) end(figures func() (Figures, error)) error {
	t := p.table()
	if err := t.Write(p.w, p.out.Width, p.out.Colour); err != nil {
		return err
	}
	if err := p.w.Flush(); err != nil { // the figures may take a while
		return err
	}
	f, err := figures()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.w, "\n%s\n", summary(f, p.kind, int64(len(p.rows))))
	return err
}

func (p *tablePrinter) table() ui.Table {
	var digests []string
	for _, r := range p.rows {
		digests = append(digests, r.dgst().String())
	}
	short := ui.Shorten(digests, shortDigest)
	t := ui.Table{Columns: map[Kind][]ui.Column{Blobs: blobTable, Images: imageTable, Tags: imageTable[:len(imageTable)-1]}[p.kind]}
	for i, r := range p.rows {
		dgst := ui.Cell{Text: short[i]}
		switch r := r.(type) {
		case Blob:
			t.Rows = append(t.Rows, []ui.Cell{dgst, {Text: r.Kind}, {Text: ui.Bytes(r.Size)},
				ago(r.LastAccess, p.now), in(r.ExpiresAt, p.now), orDash(strings.Join(r.Repositories, ", "))})
		case Image:
			cells := []ui.Cell{{Text: r.Repository}, orDash(r.Tag), dgst, {Text: ui.Bytes(r.Size)},
				{Text: ui.Bytes(r.UniqueBytes)}, ago(r.LastAccess, p.now), in(r.ExpiresAt, p.now), orDash(r.KeptBy)}
			t.Rows = append(t.Rows, cells[:len(t.Columns)]) // a tag is kept by itself
		}
	}
	return t
}

// summary is what a store holds, and what of it will go if nobody uses it.
func summary(f Figures, kind Kind, shown int64) string {
	holds := []string{ui.Count(f.Tags, "tag"), ui.Count(f.Manifests, "manifest"), ui.Count(f.Blobs, "blob"), ui.Bytes(f.Bytes)}
	text := strings.Join(holds, ", ")
	if all := map[Kind]int64{Blobs: f.Blobs, Images: f.Images, Tags: f.Tags}[kind]; shown < all {
		text += fmt.Sprintf("; %d of %s shown", shown, ui.Count(all, strings.TrimSuffix(string(kind), "s")))
	}
	if f.Bytes == 0 {
		return text
	}
	return text + fmt.Sprintf("\nexpiring within a day: %s, within a week: %s; held by no tag: %s",
		ui.Bytes(f.Day), ui.Bytes(f.Week), ui.Bytes(f.Untagged))
}

func orDash(text string) ui.Cell {
	if text == "" {
		return ui.Cell{Text: "-", Tone: ui.Faint}
	}
	return ui.Cell{Text: text}
}

func ago(t stamp.Time, now time.Time) ui.Cell { return ui.Cell{Text: ui.Ago(time.Time(t), now)} }

// in says when something goes, the sooner the louder.
func in(t stamp.Time, now time.Time) ui.Cell {
	c := ui.Cell{Text: ui.In(time.Time(t), now)}
	switch left := time.Time(t).Sub(now); {
	case time.Time(t).IsZero():
		c.Tone = ui.Faint
	case left <= 24*time.Hour:
		c.Tone = ui.Alert
	case left <= 7*24*time.Hour:
		c.Tone = ui.Warn
	}
	return c
}
