package inspect

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// shortDigest is how many characters of a digest a table shows, as docker does, if these tell them apart.
const shortDigest = 12

// digestTitle is the first to become shorter: it leaves out the algorithm then.
var digestTitle = ui.Column{Title: "DIGEST", Flexible: true, Cut: ui.CutDigest, First: true}

var (
	blobTable = []ui.Column{digestTitle, {Title: "KIND"}, {Title: "SIZE", Right: true}, {Title: "LAST ACCESS"}, {Title: "EXPIRES"},
		{Title: "USED BY", Flexible: true, Min: 10, Cut: ui.CutList}}
	imageTable = []ui.Column{{Title: "REPOSITORY", Flexible: true, Min: 10, Cut: ui.CutName}, {Title: "TAG", Flexible: true, Min: 8, Cut: ui.CutList},
		digestTitle, {Title: "SIZE", Right: true}, {Title: "FREES", Right: true, Drop: 1, First: true}, {Title: "LAST ACCESS"}, {Title: "EXPIRES"},
		{Title: "REASON", Drop: 2, First: true}}
)

// digestColumn is where the digests are.
var digestColumn = map[Kind]int{Blobs: 0, Images: 2, Tags: 2}

// tablePrinter renders rows as cells. Columns are as wide as their widest cell, and digests as long as it
// takes to tell them apart.
type tablePrinter struct {
	w       *bufio.Writer
	out     Output
	o       Options
	whole   bool // the index is
	now     time.Time
	table   ui.Table
	nothing bool // matches
	digests telling
}

func newTablePrinter(w *bufio.Writer, out Output, o Options, l lifetimes) *tablePrinter {
	p := &tablePrinter{w: w, out: out, o: o, whole: l.whole, now: time.UnixMilli(l.now), digests: telling{length: shortDigest}}
	p.table.Columns = slices.Clone(map[Kind][]ui.Column{Blobs: blobTable, Images: imageTable, Tags: imageTable[:len(imageTable)-1]}[o.Kind]) // a tag is kept by itself
	return p
}

func (p *tablePrinter) render(r Row) ([]byte, error) {
	p.digests.add(r.dgst().String())
	return packCells(p.cells(r)), nil
}

func (p *tablePrinter) measure(*line) {}

func (p *tablePrinter) cells(r Row) []ui.Cell {
	switch r := r.(type) {
	case Blob:
		return []ui.Cell{{Text: r.Digest.String()}, {Text: r.Kind}, {Text: ui.Bytes(r.Size)},
			ago(r.LastAccess, p.now), in(r.ExpiresAt, p.now), orDash(ui.JoinList(r.Repositories))}
	case Image:
		return []ui.Cell{{Text: r.Repository}, orDash(ui.JoinList(strings.Fields(r.Tag))), {Text: r.Digest.String()}, {Text: ui.Bytes(r.Size)},
			{Text: ui.Bytes(r.UniqueBytes)}, ago(r.LastAccess, p.now), in(r.ExpiresAt, p.now), orDash(r.reason())}[:len(p.table.Columns)]
	}
	return nil
}

func (p *tablePrinter) begin(f Figures) error {
	p.nothing = f.nothing(p.o)
	return beginTable(p.w, p.whole)
}

// beginTable says above a table that it is incomplete, if it is.
func beginTable(w io.Writer, whole bool) error {
	if whole {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s\n\n", incomplete)
	return err
}

func (p *tablePrinter) line(l *line) error {
	cells := unpackCells(l.Text)
	dgst := &cells[digestColumn[p.o.Kind]]
	dgst.Text = ui.ShortDigest(dgst.Text, p.digests.length)
	p.table.Rows = append(p.table.Rows, cells)
	return nil
}

// end writes the table, and below it what the store holds in all, and what will go.
func (p *tablePrinter) end(figures func() (Figures, error)) error {
	if p.nothing {
		return writeNothing(p.w, p.o)
	}
	p.table.Columns[digestColumn[p.o.Kind]].Min = p.digests.length
	if err := p.table.Write(p.w, p.out.Width, p.out.Colour); err != nil {
		return err
	}
	if err := p.w.Flush(); err != nil { // the figures may take a while
		return err
	}
	f, err := figures()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.w, "\n%s\n", summary(f, p.o, int64(len(p.table.Rows)), p.now))
	return err
}

// packCells makes one text of cells: a tone and a text each, between bytes that no text has.
func packCells(cells []ui.Cell) (packed []byte) {
	for _, c := range cells {
		packed = append(append(append(packed, byte(c.Tone)), c.Text...), 0xff)
	}
	return packed
}

func unpackCells(packed []byte) (cells []ui.Cell) {
	for len(packed) > 0 {
		end := bytes.IndexByte(packed, 0xff)
		cells = append(cells, ui.Cell{Tone: ui.Tone(packed[0]), Text: string(packed[1:end])})
		packed = packed[end+1:]
	}
	return cells
}

// telling finds how long digests must be to be told apart, if they come in order.
type telling struct {
	last   string
	length int // characters of the sum
}

func (t *telling) add(d string) {
	if d == t.last {
		return
	}
	algorithm, sum, _ := strings.Cut(d, ":")
	if other, same := strings.CutPrefix(t.last, algorithm+":"); same {
		common := 0
		for common < min(len(sum), len(other)) && sum[common] == other[common] {
			common++
		}
		t.length = max(t.length, common+1)
	}
	t.last = d
}

// nothing says whether there is nothing where the options look.
func (f Figures) nothing(o Options) bool { return o.Repository != "" && f.Totals == index.Totals{} }

func writeNothing(w *bufio.Writer, o Options) error {
	_, err := fmt.Fprintf(w, "no repository matches %q\n", o.Repository)
	return err
}

// summary is what a store holds, and what of it will go if nobody uses it.
func summary(f Figures, o Options, shown int64, now time.Time) string {
	holds := []string{ui.Count(f.Tags, "tag"), ui.Count(f.Manifests, "manifest"), ui.Count(f.Blobs, "blob"), ui.Bytes(f.Bytes)}
	text := strings.Join(holds, ", ")
	rows := ui.Count(f.Rows, strings.TrimSuffix(string(o.Kind), "s"))
	if o.Expiring != nil {
		text += fmt.Sprintf("; %s due for removal %s", rows, within(*o.Expiring))
	}
	if shown < f.Rows {
		text += fmt.Sprintf("; %d of %s shown", shown, rows)
	}
	if f.Bytes == 0 {
		return text
	}
	text += fmt.Sprintf("\ndue for removal within 1 day: %s, within 7 days: %s; untagged: %s",
		ui.Bytes(f.Day), ui.Bytes(f.Week), ui.Bytes(f.Untagged))
	if !o.next.IsZero() {
		text += "\nnext clean-up " + ui.In(o.next, now)
	}
	return text
}

func within(d time.Duration) string {
	if d == 0 {
		return nextCleanUp
	}
	return "within " + ui.Span(d)
}

func orDash(text string) ui.Cell {
	if text == "" {
		return ui.Cell{Text: "-", Tone: ui.Faint}
	}
	return ui.Cell{Text: text}
}

func ago(t stamp.Time, now time.Time) ui.Cell { return ui.Cell{Text: ui.Ago(time.Time(t), now)} }

// nextCleanUp is when that goes which is due.
const nextCleanUp = "at next clean-up"

// in says when something goes, the sooner the louder.
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
