package inspect

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Format says how the rows are written.
type Format string

// The formats.
const (
	Table Format = "table" // for people
	JSON  Format = "json"  // one object: the summary, then an array named after the kind
	CSV   Format = "csv"   // the keys of JSON, then a line for each row; lists are joined by a space
)

// Output says where to and how.
type Output struct {
	To     io.Writer
	Format Format // default Table
	Width  int    // of tables, in columns of the screen; 0: unlimited
	Colour bool
	// OnProgress is called now and then while a store is looked through, which may take seconds; and with
	// done and total equal at the end. Nil: nobody waits.
	OnProgress func(done, total int64)
}

func (out Output) check() error {
	if out.Format != "" && !slices.Contains(Formats, out.Format) {
		return &OptionError{"format", string(out.Format), oneOf(Formats)}
	}
	return nil
}

// printer writes a list in a format.
type printer interface {
	// render makes a line of a row, so that rows need not stay in memory. All rows are rendered before the
	// first line is written, in the order of their digests.
	render(Row) ([]byte, error)
	// measure is called with each line that will be written, in no order, before begin.
	measure(*line)
	// begin is told what is known by now: of a listing of the most recent the totals alone.
	begin(Figures) error
	line(*line) error
	// end sums up. Figures are asked for by those who print them only, since they may take a while.
	end(func() (Figures, error)) error
}

func (out Output) printer(w *bufio.Writer, o Options, l lifetimes) printer {
	switch out.Format {
	case JSON:
		return &jsonPrinter{w: w, o: o, whole: l.whole}
	case CSV:
		return newCSVPrinter(w, o.Kind)
	}
	return newTablePrinter(w, out, o, l)
}

// jsonPrinter writes one object, a row at a time and each on its own line.
type jsonPrinter struct {
	w     *bufio.Writer
	o     Options
	whole bool
	rows  int
}

// jsonSummary sums up a store.
type jsonSummary struct {
	Figures
	Next     stamp.Time `json:"next_cleanup_at,omitzero"`
	Complete bool       `json:"complete"` // the index knows all that is on disk
}

func (p *jsonPrinter) begin(f Figures) error {
	summary, err := json.Marshal(jsonSummary{f, stamp.Time(p.o.next), p.whole})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.w, `{"summary":%s,"%s":[`, summary, p.o.Kind)
	return err
}

func (p *jsonPrinter) render(r Row) ([]byte, error) { return json.Marshal(r) }

func (p *jsonPrinter) measure(*line) {}

func (p *jsonPrinter) line(l *line) error {
	separator := ",\n"
	if p.rows == 0 {
		separator = "\n"
	}
	p.rows++
	_, err := p.w.WriteString(separator)
	if err == nil {
		_, err = p.w.Write(l.Text)
	}
	return err
}

func (p *jsonPrinter) end(func() (Figures, error)) error {
	_, err := p.w.WriteString("]}\n")
	return err
}

// csvPrinter writes the keys of JSON, then a line for each row.
type csvPrinter struct {
	w      *bufio.Writer
	kind   Kind
	record bytes.Buffer
	enc    *csv.Writer // to record
}

func newCSVPrinter(w *bufio.Writer, kind Kind) *csvPrinter {
	p := &csvPrinter{w: w, kind: kind}
	p.enc = csv.NewWriter(&p.record)
	return p
}

func (p *csvPrinter) begin(Figures) error {
	text, err := p.encode(map[Kind][]string{Blobs: blobColumns, Images: imageColumns, Tags: tagColumns}[p.kind])
	if err == nil {
		_, err = p.w.Write(text)
	}
	return err
}

func (p *csvPrinter) render(r Row) ([]byte, error) { return p.encode(r.record()) }

func (p *csvPrinter) encode(record []string) ([]byte, error) {
	p.record.Reset()
	err := p.enc.Write(record)
	p.enc.Flush()
	return bytes.Clone(p.record.Bytes()), err
}

func (p *csvPrinter) measure(*line) {}

func (p *csvPrinter) line(l *line) error {
	_, err := p.w.Write(l.Text)
	return err
}

func (p *csvPrinter) end(func() (Figures, error)) error { return nil }
