package inspect

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/index"
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
}

// Write lists what a store holds.
func Write(ctx context.Context, store index.Store, p index.Policy, o Options, out Output) error {
	if !slices.Contains(Formats, out.Format) && out.Format != "" {
		return &OptionError{"format", string(out.Format), oneOf(Formats)}
	}
	buffered := bufio.NewWriter(out.To)
	err := Read(ctx, store, p, o, out.sink(buffered))
	return errors.Join(err, buffered.Flush())
}

func (out Output) sink(w io.Writer) Sink {
	switch out.Format {
	case JSON:
		return &jsonSink{w: w}
	case CSV:
		return &csvSink{w: csv.NewWriter(w)}
	}
	return &tableSink{w: w, out: out}
}

// jsonSink writes one object, a row at a time and each on its own line.
type jsonSink struct {
	w    io.Writer
	rows int
}

func (s *jsonSink) Begin(h Head) error {
	summary, err := json.Marshal(h.Summary)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.w, `{"summary":%s,"%s":[`, summary, h.Kind)
	return err
}

func (s *jsonSink) Row(r Row) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	separator := ",\n"
	if s.rows == 0 {
		separator = "\n"
	}
	s.rows++
	_, err = fmt.Fprintf(s.w, "%s%s", separator, data)
	return err
}

func (s *jsonSink) End() error {
	_, err := io.WriteString(s.w, "]}\n")
	return err
}

type csvSink struct{ w *csv.Writer }

func (s *csvSink) Begin(h Head) error {
	if h.Kind == Blobs {
		return s.w.Write(blobColumns)
	}
	return s.w.Write(imageColumns)
}

func (s *csvSink) Row(r Row) error { return s.w.Write(r.record()) }

func (s *csvSink) End() error {
	s.w.Flush()
	return s.w.Error()
}
