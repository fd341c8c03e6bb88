package ui

import (
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// Column is a column of a Table.
type Column struct {
	Title string
	Right bool // aligned to the right
	// Flexible columns become narrower when the table is too wide, down to Min, the widest first.
	Flexible bool
	Min      int // columns of the screen; default 8
	// Cut shortens a text that does not fit. Nil: Cut, which leaves out its end.
	Cut func(text string, width int) string
	// Drop says that the table can do without the column when it is still too wide. The highest goes
	// first; 0 stays.
	Drop int
	// First columns give way before any other becomes narrower: they are dropped, the highest Drop first,
	// and then made as narrow as Min.
	First bool
}

// Tone says how a cell is meant. Without colour it makes no difference.
type Tone uint8

// The tones.
const (
	Plain Tone = iota
	Faint
	Good
	Warn
	Alert
)

// Cell is a cell of a Table.
type Cell struct {
	Text string
	Tone Tone
}

// Text makes plain cells.
func Text(texts ...string) []Cell {
	cells := make([]Cell, len(texts))
	for i, t := range texts {
		cells[i].Text = t
	}
	return cells
}

// Table is a line of titles, and rows below it in columns.
type Table struct {
	Columns []Column
	Rows    [][]Cell // each with a cell for each column
}

const (
	gap        = 2 // between columns
	defaultMin = 8
)

// Write writes the table so that it fits a width, as far as its columns give way. 0: unlimited.
func (t Table) Write(out io.Writer, width int, colour bool) error {
	w := NewTableWriter(t.Columns)
	for _, row := range t.Rows {
		w.Measure(row)
	}
	if err := w.Begin(out, width, colour); err != nil {
		return err
	}
	for _, row := range t.Rows {
		if err := w.Row(row); err != nil {
			return err
		}
	}
	return nil
}

// TableWriter writes a table whose rows are too many to be kept: each is measured before the first is
// written.
type TableWriter struct {
	columns []Column
	out     io.Writer
	styles  styleSet
	widths  []int // -1: dropped
}

// NewTableWriter begins a table.
func NewTableWriter(columns []Column) *TableWriter {
	w := &TableWriter{columns: columns, widths: make([]int, len(columns))}
	for i, c := range columns {
		w.widths[i] = lipgloss.Width(c.Title)
	}
	return w
}

// Measure makes room for a row.
func (w *TableWriter) Measure(row []Cell) {
	for i, c := range row {
		w.widths[i] = max(w.widths[i], lipgloss.Width(c.Text))
	}
}

// Begin writes the titles. All rows have been measured.
func (w *TableWriter) Begin(out io.Writer, width int, colour bool) error {
	w.out, w.styles = out, styles(out, colour)
	if width > 0 {
		w.fit(width)
	}
	titles := make([]Cell, len(w.columns))
	for i, c := range w.columns {
		titles[i].Text = c.Title
	}
	return w.line(titles, w.styles.title)
}

// Row writes a row.
func (w *TableWriter) Row(row []Cell) error { return w.line(row, nil) }

// fit narrows flexible columns, and drops columns as long as that is not enough.
func (w *TableWriter) fit(width int) {
	first := func(c Column) bool { return c.First }
	for w.total() > width && w.drop(first) {
	}
	for i, c := range w.columns {
		if c.First && w.total() > width {
			w.widths[i] -= w.slack(i)
		}
	}
	for {
		excess := w.total() - width
		slack := 0
		for i := range w.columns {
			slack += w.slack(i)
		}
		if excess <= slack {
			w.shrink(excess)
			return
		}
		if !w.drop(func(Column) bool { return true }) {
			w.shrink(slack)
			return
		}
	}
}

func (w *TableWriter) total() int {
	sum := -gap
	for _, width := range w.widths {
		if width >= 0 {
			sum += width + gap
		}
	}
	return sum
}

// slack is how much a column can give.
func (w *TableWriter) slack(i int) int {
	c := w.columns[i]
	if !c.Flexible || w.widths[i] < 0 {
		return 0
	}
	least := c.Min
	if least == 0 {
		least = defaultMin
	}
	return max(0, w.widths[i]-max(least, lipgloss.Width(c.Title)))
}

func (w *TableWriter) shrink(by int) {
	for ; by > 0; by-- {
		widest := -1
		for i := range w.columns {
			if w.slack(i) > 0 && (widest < 0 || w.widths[i] > w.widths[widest]) {
				widest = i
			}
		}
		w.widths[widest]--
	}
}

// drop drops the column that the table can do without most easily, of those that may be.
func (w *TableWriter) drop(may func(Column) bool) bool {
	last := -1
	for i, c := range w.columns {
		if may(c) && c.Drop > 0 && w.widths[i] >= 0 && (last < 0 || c.Drop > w.columns[last].Drop) {
			last = i
		}
	}
	if last < 0 {
		return false
	}
	w.widths[last] = -1
	return true
}

func (w *TableWriter) line(row []Cell, style func(...string) string) error {
	var b strings.Builder
	var blanks int // owed, so that no line ends with one
	for i, c := range w.columns {
		if w.widths[i] < 0 {
			continue
		}
		text := c.fitted(row[i].Text, w.widths[i])
		pad := w.widths[i] - lipgloss.Width(text)
		if c.Right {
			blanks += pad
			pad = 0
		}
		if text != "" {
			b.WriteString(strings.Repeat(" ", blanks))
			blanks = 0
			b.WriteString(w.styles.render(text, row[i].Tone, style))
		}
		blanks += pad + gap
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w.out, b.String())
	return err
}

func (c Column) fitted(text string, width int) string {
	switch {
	case lipgloss.Width(text) <= width:
		return text
	case c.Cut != nil:
		return c.Cut(text, width)
	}
	return cut(text, width)
}

// styleSet renders plain text when it is empty.
type styleSet struct {
	title func(...string) string
	tones map[Tone]lipgloss.Style
}

func styles(out io.Writer, colour bool) styleSet {
	if !colour {
		return styleSet{}
	}
	// The caller has looked at the terminal; out may be a buffer before it.
	r := lipgloss.NewRenderer(out)
	r.SetColorProfile(termenv.ANSI)
	s := r.NewStyle()
	return styleSet{title: s.Bold(true).Render, tones: map[Tone]lipgloss.Style{
		Faint: s.Faint(true),
		Good:  s.Foreground(lipgloss.Color("2")),
		Warn:  s.Foreground(lipgloss.Color("3")),
		Alert: s.Foreground(lipgloss.Color("1")),
	}}
}

func (s styleSet) render(text string, tone Tone, style func(...string) string) string {
	if style != nil {
		return style(text)
	}
	if st, ok := s.tones[tone]; ok {
		return st.Render(text)
	}
	return text
}
