package ui

import (
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
)

// Branches are what a tree is drawn with, all equally wide.
type Branches struct {
	child, last string // before a node, and before the last one of its parent
	line, blank string // before what is below these
}

var (
	drawn = Branches{"├── ", "└── ", "│   ", "    "}
	typed = Branches{"|-- ", "`-- ", "|   ", "    "}
)

// BranchesFor chooses by the locale: lines where it has them, else ASCII.
func BranchesFor(getenv func(string) string) Branches {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			if strings.Contains(v, "utf-8") || strings.Contains(v, "utf8") {
				return drawn
			}
			return typed
		}
	}
	return typed
}

// Tree is a row of a table, with rows below it.
type Tree struct {
	Row      []Cell
	Children []Tree
}

// Rows are the rows of a tree from the top down. The first cell of each stands on its branch.
func (t Tree) Rows(b Branches) [][]Cell { return t.rows(nil, b, "", "") }

func (t Tree) rows(all [][]Cell, b Branches, own, below string) [][]Cell {
	row := append([]Cell(nil), t.Row...)
	row[0].Text = own + row[0].Text
	all = append(all, row)
	for i, c := range t.Children {
		if i < len(t.Children)-1 {
			all = c.rows(all, b, below+b.child, below+b.line)
		} else {
			all = c.rows(all, b, below+b.last, below+b.blank)
		}
	}
	return all
}

// Facts are what there is to say about one thing, a line each. Lines without a text are left out.
type Facts []Fact

// Fact is a line of Facts.
type Fact struct {
	Name string
	Cell
}

// Write writes the names below each other and what is said beside them. What does not fit a width is cut;
// 0 is unlimited.
func (f Facts) Write(out io.Writer, width int, colour bool) error {
	s := styles(out, colour)
	names := 0
	for _, fact := range f {
		names = max(names, lipgloss.Width(fact.Name))
	}
	var b strings.Builder
	for _, fact := range f {
		if fact.Text == "" {
			continue
		}
		text := fact.Text
		if width > 0 {
			text = cut(text, max(defaultMin, width-names-gap))
		}
		b.WriteString(s.render(fact.Name, Faint, nil))
		b.WriteString(strings.Repeat(" ", names-lipgloss.Width(fact.Name)+gap))
		b.WriteString(s.render(text, fact.Tone, nil) + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}
