package tree

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// TestSymbolicLinksAreMetWhereverTheyAre on the way to a file: at its end, in the middle, at several places; whether or
// not the file exists, and the data directory itself is reached by one.
func TestSymbolicLinksAreMetWhereverTheyAre(t *testing.T) {
	k := layout.LayerKey("a/b", digest.FromString("x"))
	for name, c := range map[string]struct {
		moved []string // what is a symbolic link, relative to the data directory
		there bool     // the file exists
	}{
		"none":                   {nil, true},
		"none, no file":          {nil, false},
		"the file":               {[]string{k.Path().String()}, true},
		"a directory":            {[]string{layout.Repositories + "/a"}, true},
		"a directory, no file":   {[]string{layout.Repositories + "/a"}, false},
		"two directories":        {[]string{layout.Repositories, layout.Repositories + "/a/b"}, true},
		"the first, and no file": {[]string{"/docker"}, false},
	} {
		for _, reached := range []string{"", "by a symbolic link, "} {
			real, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			at := real
			if reached != "" {
				at = filepath.Join(t.TempDir(), "link")
				must(t, os.Symlink(real, at))
			}
			dir := Dir(at)
			file := dir.File(k.Path())
			must(t, os.MkdirAll(filepath.Dir(file), 0o700))
			must(t, os.WriteFile(file, nil, 0o600))
			if !c.there {
				must(t, os.RemoveAll(filepath.Dir(file)))
			}
			var want []string
			for _, path := range c.moved {
				elsewhere := filepath.Join(t.TempDir(), "moved")
				must(t, os.Rename(dir.Native(path), elsewhere))
				must(t, os.Symlink(elsewhere, dir.Native(path)))
				want = slices.Insert(want, 0, dir.Native(path))
			}
			m := NewMet(dir)
			if !m.Judge(nil) {
				t.Fatal("nothing was met yet")
			}
			first, found := m.Meet(k)
			if found != (len(want) > 0) || !slices.Equal(first, want) {
				t.Errorf("%s%s: met %q, %v; want %q", reached, name, first, found, want)
			}
			if first, found := m.Meet(k); found != (len(want) > 0) || len(first) > 0 {
				t.Errorf("%s%s: met %q for the first time again, %v", reached, name, first, found)
			}
		}
	}
}
