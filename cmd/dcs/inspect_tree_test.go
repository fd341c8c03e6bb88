package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// readTree reads the image of a name.
func readTree(s inspecttest.Shop, name string) *inspect.Tree {
	s.T.Helper()
	ref, err := inspect.ParseReference(name)
	s.Must(err)
	tree, err := inspect.ReadTree(s.T.Context(), s.World, inspecttest.Rules, s.Dir, ref)
	s.Must(err)
	return tree
}

// drawn is what people see of it.
func drawn(s inspecttest.Shop, t *inspect.Tree, to display) string {
	s.T.Helper()
	var out bytes.Buffer
	to.to = &out
	s.Must(writeTree(to, t))
	return out.String()
}

func lines(name string) string { return map[string]string{"LANG": "C.UTF-8"}[name] }

func TestTreeForPeople(t *testing.T) {
	s := inspecttest.NewShop(t)
	s.Fill()
	tree := readTree(s, "team/app:1.1")
	for _, width := range []int{0, 80, 120} {
		out := drawn(s, tree, display{width: width, branches: ui.BranchesFor(lines)})
		golden(t, fmt.Sprintf("inspect/tree-%d.txt", width), out)
		for _, line := range strings.Split(out, "\n") {
			if width > 0 && len([]rune(line)) > width || strings.TrimRight(line, " ") != line ||
				strings.Contains(line, "\x1b") {
				t.Errorf("at %d: %q", width, line)
			}
		}
	}
	out := drawn(s, tree, display{colour: true, branches: ui.BranchesFor(os.Getenv)})
	if !strings.Contains(out, "\x1b[31mmissing") {
		t.Error(out)
	}
	out = drawn(s, tree, display{branches: ui.BranchesFor(func(string) string { return "C" })})
	for _, r := range out {
		if r > 126 {
			t.Fatalf("not ASCII:\n%s", out)
		}
	}
}

func TestManyReferrersAreCutForPeople(t *testing.T) {
	s := inspecttest.Shop{World: inspecttest.New(t)}
	s.Manifest("a", "m", manifest.Manifest{})
	s.Tag("a", "latest", "m")
	for i := range 25 {
		s.Manifest("a", fmt.Sprint("r", i), manifest.Manifest{Subject: inspecttest.Dgst("m")})
	}
	tree := readTree(s, "a")
	out := drawn(s, tree, display{branches: ui.BranchesFor(lines)})
	if !strings.HasSuffix(out, "└── and 5 more referrers\n") || len(tree.Children) != 25 {
		t.Error(out)
	}
}
