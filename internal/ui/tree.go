package ui

import (
	"cmp"
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/lipgloss/tree"
)

// Branches are what a tree is drawn with. The zero value is ASCII.
type Branches struct{ lines bool }

// BranchesFor chooses by the locale: lines where it has them, else ASCII.
func BranchesFor(getenv func(string) string) Branches {
	locale := strings.ToLower(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return Branches{strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")}
}

// Tree is a row of a table, with rows below it. The first cell of a row has a text.
type Tree struct {
	Row      []Cell
	Children []Tree
}

// Rows returns the rows of a tree from the top down. The first cell of each stands on its branch.
func (t Tree) Rows(b Branches) [][]Cell {
	drawn := t.nodes().String()
	if !b.lines {
		drawn = ascii.Replace(drawn)
	}
	rows := t.appendRows(nil)
	for i, line := range strings.Split(drawn, "\n") {
		rows[i][0].Text = line
	}
	return rows
}

// ascii draws branches for a locale that has no lines.
var ascii = strings.NewReplacer("├", "|", "└", "`", "│", "|", "─", "-")

// nodes returns the tree of the first cells. lipgloss draws a line for each.
func (t Tree) nodes() *tree.Tree {
	node := tree.Root(t.Row[0].Text)
	for _, c := range t.Children {
		node.Child(c.nodes())
	}
	return node
}

func (t Tree) appendRows(rows [][]Cell) [][]Cell {
	rows = append(rows, slices.Clone(t.Row))
	for _, c := range t.Children {
		rows = c.appendRows(rows)
	}
	return rows
}

// Facts are names and texts, a line each. Facts without a text are left out.
type Facts []Fact

// Fact is a line of Facts.
type Fact struct {
	Name string
	Cell
}

// Write writes the names below each other, and the texts beside them. Texts that do not fit a width are cut at the end.
// A width of 0 is unlimited.
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
		b.WriteString(s.render(fact.Name, Faint))
		b.WriteString(strings.Repeat(" ", names-lipgloss.Width(fact.Name)+gap))
		b.WriteString(s.render(text, fact.Tone) + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}
