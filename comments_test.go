package dcs_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jc-lab/docker-cache-server/bench/house"
)

// vague are words that hide who does what, or when. A comment names the client, gc or the server in their place.
var vague = regexp.MustCompile(`(?i)\b(nobody|somebody|whoever|meanwhile|as\s+a\s+rule)\b`)

// TestCommentsNameWhoActs reads every comment outside of test files.
func TestCommentsNameWhoActs(t *testing.T) {
	found := map[string]int{}
	for _, path := range files(t) {
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			continue
		}
		src, set := []byte(read(t, path)), token.NewFileSet()
		file, err := parser.ParseFile(set, path, src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range file.Comments {
			first := set.Position(group.Pos())
			text := marks.ReplaceAllFunc(src[first.Offset:set.Position(group.End()).Offset], blank)
			for _, at := range vague.FindAllIndex(text, -1) {
				t.Errorf("%s:%d: %q", path, first.Line+bytes.Count(text[:at[0]], []byte("\n")), text[at[0]:at[1]])
				found[filepath.Dir(path)]++
			}
		}
	}
	for dir, n := range found {
		t.Logf("%s: %d", dir, n)
	}
}

// marks begin the lines of a comment: words may be on both sides of one.
var marks = regexp.MustCompile(`(?m)^\s*//`)

func blank(mark []byte) []byte { return bytes.ReplaceAll(mark, []byte("//"), []byte("  ")) }

// leastComments is how many lines of comment there are at least for a hundred lines of code.
const leastComments = 12

// TestThereAreComments counts as package house says: lines with nothing but a comment, against lines with a token of
// Go, in cmd, internal and pkg together, without tests and generated files.
func TestThereAreComments(t *testing.T) {
	rooms, err := house.Read(".", house.Product...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms {
		t.Logf("%s: %.1f", r.Name, 100*r.Share())
	}
	if all := house.Sum(rooms); 100*all.Share() < leastComments {
		t.Errorf("%d lines of comment for %d of code are %.1f %%, want %d at least",
			all.Comments, all.Code, 100*all.Share(), leastComments)
	}
}

// lastColumn is where lines end. A tab counts as four, and any other character as one.
const lastColumn = 120

// TestLinesEndAtTheirColumn reads Go, scripts, make, Promela and YAML. Left out are generated files, and lines that are
// little more than a long URL, and texts in tests. Pages have a test of their own in docs_test.go.
func TestLinesEndAtTheirColumn(t *testing.T) {
	found := map[string]int{}
	for _, path := range files(t) {
		if !isWritten(path) {
			continue
		}
		src := []byte(read(t, path))
		if filepath.Ext(path) == ".go" && isGenerated(t, path, src) {
			continue
		}
		n := 0
		for line := range strings.Lines(string(src)) {
			n++
			line = strings.TrimRight(line, "\n")
			rest := url.ReplaceAllString(line, "")
			if width(line) > lastColumn && !isData(path, line) && (rest == line || width(rest) > lastColumn/2) {
				t.Errorf("%s:%d: %d columns", path, n, width(line))
				found[filepath.Dir(path)]++
			}
		}
	}
	for dir, n := range found {
		t.Logf("%s: %d", dir, n)
	}
}

// isData says whether a long line of a test is long for a text in it, such as what a client sends.
func isData(path, line string) bool {
	return strings.HasSuffix(path, "_test.go") && strings.ContainsAny(line, "\"`")
}

var url = regexp.MustCompile(`https?://[^\s)>"'` + "`" + `]+`)

func width(line string) int { return utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    ")) }

// isWritten says whether people write such a file.
func isWritten(path string) bool {
	switch {
	case filepath.Base(path) == "Makefile", filepath.Base(path) == "Dockerfile", path == ".ci/run":
		return true
	}
	switch filepath.Ext(path) {
	case ".go", ".sh", ".pml", ".yaml", ".yml":
		return true
	}
	return false
}

func isGenerated(t *testing.T, path string, src []byte) bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	return ast.IsGenerated(file)
}

// files lists what is in the repository, but for what is built, data, and what tests read.
func files(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			switch path {
			case ".git", "bin", "data", "docs/man":
				return filepath.SkipDir
			}
			if e.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if e.Type().IsRegular() {
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
