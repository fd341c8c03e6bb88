package dcs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// TestWhereIsEverything holds the table of docs/architecture.md that says where a maintainer finds what.
func TestWhereIsEverything(t *testing.T) {
	_, table, found := strings.Cut(read(t, "docs/architecture.md"), "\n## Where is …?\n")
	if !found {
		t.Fatal("docs/architecture.md has no section that says where everything is")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	questions := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !strings.HasSuffix(strings.TrimSpace(cells[1]), "?") {
			continue
		}
		questions++
		paths := code.FindAllStringSubmatch(cells[2], -1)
		if len(paths) == 0 {
			t.Errorf("%s has no answer", cells[1])
		}
		for _, p := range paths {
			if _, err := os.Stat(p[1]); err != nil {
				t.Errorf("%s: %v", cells[1], err)
			}
		}
	}
	if questions < 24 {
		t.Errorf("%d questions; want 24 or more", questions)
	}
}

// TestFilesThatTheDocumentsNameExist holds the folders and files of the sources that a page names.
func TestFilesThatTheDocumentsNameExist(t *testing.T) {
	source := regexp.MustCompile(`^(internal|pkg|cmd|bench|torture|e2e|conformance)/[\w./-]+$`)
	for _, page := range pages(t) {
		if page == "CHANGELOG.md" || page == "docs/migrating.md" {
			continue // they name what earlier versions, and the ancestor, had
		}
		for _, c := range code.FindAllStringSubmatch(withoutBlocks(read(t, page)), -1) {
			if !source.MatchString(c[1]) {
				continue
			}
			if _, err := os.Stat(c[1]); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// TestLinksOfTheDocumentsLeadSomewhere follows the relative links of every page, to a file and to a heading in it.
func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	links := 0
	for _, page := range pages(t) {
		for _, l := range link.FindAllStringSubmatch(withoutCode(read(t, page)), -1) {
			to := l[1]
			if strings.Contains(to, "://") {
				continue
			}
			links++
			name, anchor, _ := strings.Cut(to, "#")
			target := page
			if name != "" {
				target = filepath.Join(filepath.Dir(page), name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, to, err)
			} else if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s links to %s, which has no such heading", page, to)
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
}

// TestLinesOfTheDocumentsEndAt120Columns except in tables, in code, and where a link or a word is longer.
func TestLinesOfTheDocumentsEndAt120Columns(t *testing.T) {
	const most = 120
	for _, page := range pages(t) {
		if page == "CHANGELOG.md" {
			continue // what is released stays as it was written
		}
		for i, line := range strings.Split(withoutBlocks(read(t, page)), "\n") {
			if columns(line) <= most || strings.HasPrefix(strings.TrimSpace(line), "|") {
				continue
			}
			if words := strings.Fields(line); columns(words[len(words)-1]) < most/2 {
				t.Errorf("%s:%d has %d columns", page, i+1, columns(line))
			}
		}
	}
}

var (
	code    = regexp.MustCompile("`([^`]+)`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	block   = regexp.MustCompile("(?ms)^```.*?^```")
)

// pages returns the pages of the project: README, CHANGELOG and all below docs.
func pages(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// withoutBlocks empties the lines of code blocks, so that the numbers of the other lines stay.
func withoutBlocks(text string) string {
	return block.ReplaceAllStringFunc(text, func(b string) string {
		return strings.Repeat("\n",
			strings.Count(b, "\n"))
	})
}

// withoutCode removes code, in which brackets are no links.
func withoutCode(text string) string { return code.ReplaceAllString(withoutBlocks(text), "") }

// anchors returns the names that GitHub gives to the headings of a page.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(withoutBlocks(text), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, h[1])
		for n, first := 1, name; all[name]; n++ {
			name = fmt.Sprintf("%s-%d", first, n)
		}
		all[name] = true
	}
	return all
}

// columns is the width of a line on a screen: Korean letters take two columns.
func columns(line string) (width int) {
	for _, r := range line {
		width++
		if unicode.Is(unicode.Hangul, r) {
			width++
		}
	}
	return width
}
