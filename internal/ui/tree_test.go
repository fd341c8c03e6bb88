package ui

import (
	"bytes"
	"testing"
)

func TestTree(t *testing.T) {
	leaf := func(name string, below ...Tree) Tree { return Tree{Row: Text(name, "1 B"), Children: below} }
	tree := leaf("top", leaf("a", leaf("b"), leaf("c")), leaf("d", leaf("e")))
	for locale, want := range map[string]string{
		"C.UTF-8": "N            S\ntop        1 B\n" +
			"├── a      1 B\n│   ├── b  1 B\n│   └── c  1 B\n└── d      1 B\n    └── e  1 B\n",
		"C": "N            S\ntop        1 B\n" +
			"|-- a      1 B\n|   |-- b  1 B\n|   `-- c  1 B\n`-- d      1 B\n    `-- e  1 B\n",
	} {
		branches := BranchesFor(func(name string) string {
			return map[string]string{"LC_CTYPE": locale, "LANG": "en_US.ISO-8859-1"}[name]
		})
		var out bytes.Buffer
		table := Table{Columns: []Column{{Title: "N"}, {Title: "S", Right: true}}, Rows: tree.Rows(branches)}
		if err := table.Write(&out, 0, false); err != nil || out.String() != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", locale, err, out.String(), want)
		}
	}
	if BranchesFor(func(string) string { return "" }) != (Branches{}) {
		t.Error("without a locale a tree is ASCII")
	}
}

func TestFacts(t *testing.T) {
	facts := Facts{{"digest", Cell{Text: "sha256:1a2b3c"}}, {"tags", Cell{}}, {"expires", Cell{"in 3 hours", Alert}}}
	for width, want := range map[int]string{
		0:  "digest   sha256:1a2b3c\nexpires  in 3 hours\n",
		20: "digest   sha256:1a2…\nexpires  in 3 hours\n",
	} {
		var out bytes.Buffer
		if err := facts.Write(&out, width, false); err != nil || out.String() != want {
			t.Errorf("width %d: %v\n%s\nwant\n%s", width, err, out.String(), want)
		}
	}
	var out bytes.Buffer
	if err := facts.Write(&out, 0, true); err != nil || !bytes.Contains(out.Bytes(), []byte("\x1b[31min 3 hours")) {
		t.Errorf("%v, %q", err, out.String())
	}
}
