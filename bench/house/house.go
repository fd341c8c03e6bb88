// Package house measures the code itself: its lines and comments by room, and how long functions are.
//
// A room is a package of the product, below cmd, internal and pkg. A line of code holds a token of Go, with or without
// a comment behind it; a line of comment holds a comment and nothing else; what is left is blank. Generated files are
// left out, and what is in packages of tests, such as indextest, counts as tests. The length of a function is its lines
// from func to the closing brace.
package house

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Product are the folders whose packages are rooms.
var Product = []string{"cmd", "internal", "pkg"}

// Room is one package.
type Room struct {
	Name      string // its folder, from the root
	Files     int    // without those of tests
	Lines     int
	Code      int
	Comments  int
	Tests     int // lines of its test files
	Functions []Function
}

// Function is a function or a method.
type Function struct {
	Name  string
	Lines int
}

// Read measures the rooms below some folders of a root, in the order of their names.
func Read(root string, folders ...string) ([]Room, error) {
	byName := map[string]*Room{}
	err := errors.Join(each(folders, func(folder string) error {
		return filepath.WalkDir(filepath.Join(root, folder), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Ext(path) != ".go" || strings.Contains(path, "testdata") {
				return err
			}
			name, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			if byName[name] == nil {
				byName[name] = &Room{Name: name}
			}
			return byName[name].add(path)
		})
	})...)
	var rooms []Room
	for _, r := range byName {
		rooms = append(rooms, *r)
	}
	slices.SortFunc(rooms, func(a, b Room) int { return strings.Compare(a.Name, b.Name) })
	return rooms, err
}

func each(folders []string, f func(string) error) (errs []error) {
	for _, folder := range folders {
		errs = append(errs, f(folder))
	}
	return errs
}

// Sum adds rooms up.
func Sum(rooms []Room) Room {
	sum := Room{Name: "all"}
	for _, r := range rooms {
		sum.Files += r.Files
		sum.Lines += r.Lines
		sum.Code += r.Code
		sum.Comments += r.Comments
		sum.Tests += r.Tests
		sum.Functions = append(sum.Functions, r.Functions...)
	}
	return sum
}

// Share is how many lines of comment there are for each line of code.
func (r Room) Share() float64 {
	if r.Code == 0 {
		return 0
	}
	return float64(r.Comments) / float64(r.Code)
}

// Quantile is the length of a function that so many of all, from 0 to 1, do not exceed, and its name.
func (r Room) Quantile(q float64) Function {
	if len(r.Functions) == 0 {
		return Function{}
	}
	sorted := slices.SortedFunc(slices.Values(r.Functions), func(a, b Function) int { return a.Lines - b.Lines })
	return sorted[int(q*float64(len(sorted)-1))]
}

// add measures one file.
func (r *Room) add(path string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, src, parser.ParseComments)
	if err != nil {
		return err
	}
	lines := bytes.Count(src, []byte("\n"))
	switch {
	case ast.IsGenerated(file):
		return nil
	case strings.HasSuffix(path, "_test.go"), strings.HasSuffix(r.Name, "test"):
		r.Tests += lines
		return nil
	}
	code, comments := Count(src)
	r.Files, r.Lines, r.Code, r.Comments = r.Files+1, r.Lines+lines, r.Code+code, r.Comments+comments
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			r.Functions = append(r.Functions, Function{f.Name.Name,
				files.Position(f.End()).Line - files.Position(f.Pos()).Line + 1})
		}
	}
	return nil
}

// Count counts the lines of code and of comment of a Go file.
func Count(src []byte) (code, comments int) {
	files := token.NewFileSet()
	file := files.AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, scanner.ScanComments)
	isCode, isComment := map[int]bool{}, map[int]bool{}
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			break
		}
		if tok == token.SEMICOLON && text == "\n" { // the scanner's own
			continue
		}
		first := file.Line(pos)
		for line := first; line <= first+strings.Count(text, "\n"); line++ {
			if tok == token.COMMENT {
				isComment[line] = true
			} else {
				isCode[line] = true
			}
		}
	}
	for line := range isComment {
		if !isCode[line] {
			comments++
		}
	}
	return len(isCode), comments
}
