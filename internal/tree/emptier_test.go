package tree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// TestAnEmptierLeavesNothingOfWhatAChangeRemoved, however much that is, and may be used again.
func TestAnEmptierLeavesNothingOfWhatAChangeRemoved(t *testing.T) {
	tree, _ := newTree(t)
	emptier := &Emptier{}
	c := tree.Begin().Emptying(emptier)
	for _, n := range []int{3, 2*handedOver + 3, 1} {
		var keys []layout.Key
		for i := range n {
			d := digest.FromString(fmt.Sprint(i))
			keys = append(keys, layout.BlobKey(d), layout.LayerKey("a", d))
		}
		keys = append(keys, layout.TagKey("a", "v1"))
		for _, k := range keys {
			plant(t, filepath.Dir(tree.File(k.Path())), filepath.Base(tree.File(k.Path())))
			if _, err := c.Remove(k); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Commit(); err != nil {
			t.Fatal(err)
		}
		emptier.Wait()
		if left, err := os.ReadDir(tree.Trash()); err != nil || len(left) > 0 {
			t.Errorf("of %d keys %d are in the trash: %v", len(keys), len(left), err)
		}
	}
}

// TestADirectoryThatIsALinkIsNotMovedWhole: in the trash a relative one would lead elsewhere.
func TestADirectoryThatIsALinkIsNotMovedWhole(t *testing.T) {
	for _, k := range []layout.Key{layout.BlobKey(digest.FromString("x")),
		layout.LayerKey("app", digest.FromString("x"))} {
		tree, root := newTree(t)
		file := tree.File(k.Path())
		dir, name := filepath.Dir(file), filepath.Base(file)
		const to = "../../kept"
		decoy, real := filepath.Join(tree.Trash(), to), filepath.Join(filepath.Dir(dir), to)
		plant(t, decoy, name)
		plant(t, real, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.Symlink(to, dir)); err != nil {
			t.Fatal(err)
		}
		emptier := &Emptier{}
		c := tree.Begin().Emptying(emptier)
		if _, err := c.Remove(k); err != nil {
			t.Fatal(err)
		}
		emptier.Wait()
		if err := errors.Join(c.Commit(), tree.EmptyTrash()); err != nil {
			t.Error(err)
		}
		if left := below(t, decoy); len(left) != 1 {
			t.Errorf("%s: what its link does not lead to is gone", k)
		}
		if left := below(t, real); len(left) != 0 {
			t.Errorf("%s: what its link leads to stays: %q", k, left)
		}
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: its link stays: %q, %v", k, below(t, root), err)
		}
	}
}

// TestATagGoesWithItsHistory, whatever else is in it, and nothing goes that a symbolic link in it leads to.
func TestATagGoesWithItsHistory(t *testing.T) {
	k, to := layout.TagKey("app", "v1"), digest.FromString("x")
	for name, more := range map[string]func(tree *Tree, link string) error{
		"alone": func(*Tree, string) error { return nil },
		"with another entry": func(tree *Tree, _ string) error {
			plant(t, filepath.Dir(tree.File(TagEntry(k, digest.FromString("y")))), "link")
			return nil
		},
		"with an entry that is a symbolic link": func(tree *Tree, link string) error {
			dir := filepath.Dir(tree.File(TagEntry(k, to)))
			return errors.Join(os.RemoveAll(dir), os.Symlink(link, dir))
		},
		"without a history": func(tree *Tree, _ string) error {
			return os.RemoveAll(tree.Native(layout.TagIndexDir("app", "v1")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree, _ := newTree(t)
			kept := t.TempDir()
			plant(t, kept, "link")
			for _, p := range []layout.Path{k.Path(), TagEntry(k, to)} {
				plant(t, filepath.Dir(tree.File(p)), "link")
			}
			emptier := &Emptier{}
			c := tree.Begin().Emptying(emptier)
			if err := errors.Join(more(tree, kept), c.RemoveTag(k, to)); err != nil {
				t.Fatal(err)
			}
			emptier.Wait()
			if left, err := os.ReadDir(tree.Trash()); err != nil || len(left) > 0 {
				t.Errorf("%d are in the trash: %v", len(left), err)
			}
			if left := below(t, kept); len(left) != 1 {
				t.Error("what a symbolic link led to is gone")
			}
		})
	}
}
