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
	// Flexible columns become narrower when the table is too wide, down to Min, the widest first. What
	// does not fit is cut, and ends with "...".
	Flexible bool
	Min      int // columns of the screen; default 8
	// Drop says that the table can do without the column when it is still too wide. The highest goes
	// first; 0 stays.
	Drop int
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
	ellipsis   = "..."
	defaultMin = 8
)

// Write writes the table so that it fits a width, as far as its columns give way. 0: unlimited.
func (t Table) Write(out io.Writer, width int, colour bool) error {
	p := printer{styles: styles(out, colour)}
	p.measure(t)
	if width > 0 {
		p.fit(t, width)
	}
	titles := make([]Cell, len(t.Columns))
	for i, c := range t.Columns {
		titles[i].Text = c.Title
	}
	var b strings.Builder
	p.line(&b, t.Columns, titles, p.styles.title)
	for _, row := range t.Rows {
		p.line(&b, t.Columns, row, nil)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

type printer struct {
	styles styleSet
	widths []int // -1: dropped
}

func (p *printer) measure(t Table) {
	p.widths = make([]int, len(t.Columns))
	for i, c := range t.Columns {
		p.widths[i] = lipgloss.Width(c.Title)
		for _, row := range t.Rows {
			p.widths[i] = max(p.widths[i], lipgloss.Width(row[i].Text))
		}
	}
}

// fit narrows flexible columns, and drops columns as long as that is not enough.
func (p *printer) fit(t Table, width int) {
	for {
		excess := p.total() - width
		slack := 0
		for i, c := range t.Columns {
			slack += p.slack(i, c)
		}
		if excess <= slack {
			p.shrink(t.Columns, excess)
			return
		}
		if !p.drop(t.Columns) {
			p.shrink(t.Columns, slack)
			return
		}
	}
}

func (p *printer) total() int {
	sum := -gap
	for _, w := range p.widths {
		if w >= 0 {
			sum += w + gap
		}
	}
	return sum
}

// slack is how much a column can give.
func (p *printer) slack(i int, c Column) int {
	if !c.Flexible || p.widths[i] < 0 {
		return 0
	}
	least := c.Min
	if least == 0 {
		least = defaultMin
	}
	return max(0, p.widths[i]-max(least, lipgloss.Width(c.Title)))
}

func (p *printer) shrink(columns []Column, by int) {
	for ; by > 0; by-- {
		widest := -1
		for i, c := range columns {
			if p.slack(i, c) > 0 && (widest < 0 || p.widths[i] > p.widths[widest]) {
				widest = i
			}
		}
		p.widths[widest]--
	}
}

func (p *printer) drop(columns []Column) bool {
	last := -1
	for i, c := range columns {
		if c.Drop > 0 && p.widths[i] >= 0 && (last < 0 || c.Drop > columns[last].Drop) {
			last = i
		}
	}
	if last < 0 {
		return false
	}
	p.widths[last] = -1
	return true
}

func (p *printer) line(b *strings.Builder, columns []Column, row []Cell, style func(...string) string) {
	var blanks int // owed, so that no line ends with one
	for i, c := range columns {
		if p.widths[i] < 0 {
			continue
		}
		text := cut(row[i].Text, p.widths[i])
		pad := p.widths[i] - lipgloss.Width(text)
		if c.Right {
			blanks += pad
			pad = 0
		}
		if text != "" {
			b.WriteString(strings.Repeat(" ", blanks))
			blanks = 0
			b.WriteString(p.styles.render(text, row[i].Tone, style))
		}
		blanks += pad + gap
	}
	b.WriteByte('\n')
}

// cut shortens a text to a width.
func cut(text string, width int) string {
	if lipgloss.Width(text) <= width {
		return text
	}
	runes := []rune(text)
	for len(runes) > 0 && lipgloss.Width(string(runes))+len(ellipsis) > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + ellipsis
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
