package ui

import (
	"bufio"
	"cmp"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// Column is a column of a Table. Its widths are counted in columns of the screen.
type Column struct {
	Title string
	Right bool // the text is aligned to the right
	// Flexible columns become narrower when the table is too wide, down to Min, the widest first.
	Flexible bool
	Min      int // default 8; the title always fits
	// Cut shortens a text to a width. Nil cuts off the end.
	Cut func(text string, width int) string
	// Drop is not 0 if the column may be left out when the table is still too wide: the highest first.
	Drop int
	// First columns give way before any other becomes narrower: they are left out, the highest Drop first, and then
	// made as narrow as Min.
	First bool
}

// Tone says how a text is meant. It shows in colour only.
type Tone uint8

// The tones.
const (
	Plain Tone = iota
	Faint      // of less interest
	Good
	Warn
	Alert
	title // of a column
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

// Table is a line of titles, and rows below it in columns. It keeps its rows in memory.
//
// It is laid out here and not by lipgloss/table, for two reasons. That one knows a single way to make a table narrower:
// it cuts the ends of the widest cells, and neither leaves out a column nor cuts a name in its middle. And it takes
// 90 microseconds a row against 4 here, which is a minute and a half for the table of a million blobs.
type Table struct {
	Columns []Column
	Rows    [][]Cell // each with a cell for each column
}

const (
	gap        = 2 // blanks between columns
	defaultMin = 8
	dropped    = -1 // the width of a column that is left out
)

// Write writes the table so that it fits a width, as far as its columns give way. A width of 0 is unlimited. No line
// ends with a blank.
func (t Table) Write(out io.Writer, width int, colour bool) error {
	widths := t.widths(width)
	s := styles(out, colour)
	buffered := bufio.NewWriter(out)
	titles := make([]Cell, len(t.Columns))
	for i, c := range t.Columns {
		titles[i] = Cell{Text: c.Title, Tone: title}
	}
	t.writeLine(buffered, titles, widths, s)
	for _, row := range t.Rows {
		t.writeLine(buffered, row, widths, s)
	}
	return buffered.Flush() // which returns the first error of all writes
}

func (t Table) writeLine(w *bufio.Writer, row []Cell, widths []int, s styleSet) {
	blanks := 0 // before the next text
	for i, c := range t.Columns {
		if widths[i] == dropped {
			continue
		}
		text := c.fitted(row[i].Text, widths[i])
		pad := widths[i] - lipgloss.Width(text)
		if c.Right {
			blanks += pad
			pad = 0
		}
		if text != "" {
			_, _ = w.WriteString(strings.Repeat(" ", blanks))
			_, _ = w.WriteString(s.render(text, row[i].Tone))
			blanks = 0
		}
		blanks += pad + gap
	}
	_ = w.WriteByte('\n')
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

// widths returns the width of each column, or dropped, in a table that fits width as far as it can.
func (t Table) widths(width int) []int {
	f := fitting{t.Columns, make([]int, len(t.Columns))}
	for i, c := range t.Columns {
		f.widths[i] = lipgloss.Width(c.Title)
		for _, row := range t.Rows {
			f.widths[i] = max(f.widths[i], lipgloss.Width(row[i].Text))
		}
	}
	if width > 0 {
		f.fit(width)
	}
	return f.widths
}

// fitting is the search for widths that fit.
type fitting struct {
	columns []Column
	widths  []int
}

// fit makes the table as narrow as width, as far as it can: it drops and narrows the First columns, then narrows the
// flexible columns, and drops further columns while that is not enough.
func (f fitting) fit(width int) {
	for f.total() > width && f.drop(func(c Column) bool { return c.First }) {
	}
	for i, c := range f.columns {
		if c.First && f.total() > width {
			f.widths[i] -= f.slack(i)
		}
	}
	for f.total()-width > f.totalSlack() && f.drop(func(Column) bool { return true }) {
	}
	f.shrink(min(f.total()-width, f.totalSlack()))
}

func (f fitting) total() int {
	sum := -gap
	for _, width := range f.widths {
		if width != dropped {
			sum += width + gap
		}
	}
	return sum
}

// slack returns by how much a column can become narrower.
func (f fitting) slack(i int) int {
	c := f.columns[i]
	if !c.Flexible || f.widths[i] == dropped {
		return 0
	}
	return max(0, f.widths[i]-max(cmp.Or(c.Min, defaultMin), lipgloss.Width(c.Title)))
}

func (f fitting) totalSlack() (sum int) {
	for i := range f.columns {
		sum += f.slack(i)
	}
	return sum
}

// shrink makes the table narrower by so many columns of the screen. Each is taken from the widest column that has
// slack.
func (f fitting) shrink(by int) {
	for ; by > 0; by-- {
		widest := -1
		for i := range f.columns {
			if f.slack(i) > 0 && (widest < 0 || f.widths[i] > f.widths[widest]) {
				widest = i
			}
		}
		f.widths[widest]--
	}
}

// drop leaves out the column with the highest Drop of those that may be left out. It returns false if there is none.
func (f fitting) drop(may func(Column) bool) bool {
	last := -1
	for i, c := range f.columns {
		if may(c) && c.Drop > 0 && f.widths[i] != dropped && (last < 0 || c.Drop > f.columns[last].Drop) {
			last = i
		}
	}
	if last < 0 {
		return false
	}
	f.widths[last] = dropped
	return true
}

// styleSet renders plain text when it is empty.
type styleSet map[Tone]lipgloss.Style

func styles(out io.Writer, colour bool) styleSet {
	if !colour {
		return nil
	}
	// The caller knows that the terminal can colour; out may be a buffer before it, so lipgloss is not asked.
	r := lipgloss.NewRenderer(out)
	r.SetColorProfile(termenv.ANSI)
	s := r.NewStyle()
	return styleSet{
		title: s.Bold(true),
		Faint: s.Faint(true),
		Good:  s.Foreground(lipgloss.Color("2")),
		Warn:  s.Foreground(lipgloss.Color("3")),
		Alert: s.Foreground(lipgloss.Color("1")),
	}
}

func (s styleSet) render(text string, tone Tone) string {
	if style, ok := s[tone]; ok {
		return style.Render(text)
	}
	return text
}
