package disk

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAStraightPathHasNoSymbolicLink(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(path string) string { return filepath.Join(dir, path) }
	must(os.MkdirAll(in("a/b"), 0o700))
	must(os.WriteFile(in("a/b/file"), nil, 0))
	must(os.Symlink("b", in("a/link")))
	must(os.Symlink("file", in("a/b/end")))
	must(os.Symlink("nowhere", in("a/b/dangling")))
	if !Straight(in("a/b/file")) {
		t.Skip("this kernel does not tell")
	}
	for path, want := range map[string]bool{"a/b": true, "a/b/file": true, "a/link/file": false, "a/link": false,
		"a/b/end": false, "a/b/dangling": false, "a/b/none": false, "a/none/file": false} {
		if got := Straight(in(path)); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
