package tree

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// put places a file of a key, and makes it durable.
func put(t *testing.T, tree *Tree, k layout.Key, data string) {
	t.Helper()
	staged, err := tree.Stage([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Discard()
	c := tree.Begin()
	if err := errors.Join(Sync(staged), c.Prepare(k.Path()), c.Place(staged, k), c.Commit()); err != nil {
		t.Fatal(err)
	}
}

// TestWhatAChangePlacedIsDurableAndWhatItRemovedLeavesNothing for each kind of key.
func TestWhatAChangePlacedIsDurableAndWhatItRemovedLeavesNothing(t *testing.T) {
	d := digest.FromString("x")
	for _, k := range []layout.Key{layout.BlobKey(d), layout.LayerKey("a/b", d), layout.ManifestKey("a/b", d),
		layout.TagKey("a/b", "v1")} {
		tree, root := newTree(t)
		put(t, tree, k, "x")
		for dir := filepath.Dir(tree.File(k.Path())); dir != root; dir = filepath.Dir(dir) {
			if tree.synced[dir] == 0 {
				t.Errorf("%s: the name of %s is not durable", k, dir)
			}
		}
		if k.Repository != "" { // what a finished upload leaves
			if err := os.Mkdir(tree.Native(layout.UploadsDir(k.Repository)), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		c := tree.Begin()
		freed, err := c.Remove(k)
		if want := k.Kind == layout.Blob; err != nil || (freed == 1) != want {
			t.Errorf("%s: freed %d bytes, %v", k, freed, err)
		}
		if there, err := tree.Has(k); there || err != nil {
			t.Errorf("%s is there after its removal: %v", k, err)
		}
		if err := c.Commit(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(root, "docker")); !os.IsNotExist(err) {
			t.Errorf("%s: empty directories stay: %q, %v", k, below(t, root), err)
		}
		if _, err := c.Remove(k); !Missing(err) {
			t.Errorf("a second removal of %s: %v", k, err)
		}
	}
}

// TestALinkIsRemovedWithWhatElseIsInItsDirectory: stock registries kept signatures there.
func TestALinkIsRemovedWithWhatElseIsInItsDirectory(t *testing.T) {
	tree, root := newTree(t)
	k := layout.ManifestKey("app", digest.FromString("x"))
	put(t, tree, k, "x")
	plant(t, filepath.Dir(tree.File(k.Path())), "signatures/sha256/x/link")
	c := tree.Begin()
	if _, err := c.Remove(k); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Commit(), tree.EmptyTrash()); err != nil {
		t.Fatal(err)
	}
	if left := below(t, root); len(left) != 0 {
		t.Errorf("%q stay", left)
	}
}

// TestOnlyFilesAreRemovedAsBlobs: a directory in the place of a blob is an operator's own, and what a link leads to,
// too.
func TestOnlyFilesAreRemovedAsBlobs(t *testing.T) {
	tree, root := newTree(t)
	k := layout.BlobKey(digest.FromString("x"))
	file := tree.File(k.Path())
	plant(t, file, "own")
	c := tree.Begin()
	if _, err := c.Remove(k); !errors.Is(err, disk.ErrNotRegular) {
		t.Errorf("a directory: %v", err)
	}
	plant(t, root, "elsewhere")
	if err := errors.Join(os.RemoveAll(file), os.Symlink(filepath.Join(root, "elsewhere"), file)); err != nil {
		t.Fatal(err)
	}
	if freed, err := c.Remove(k); freed != 0 || err != nil {
		t.Errorf("a link: %d bytes, %v", freed, err)
	}
	if err := errors.Join(c.Commit(), tree.EmptyTrash()); err != nil {
		t.Fatal(err)
	}
	if left := below(t, root); !slices.Equal(left, []string{"elsewhere"}) {
		t.Errorf("%q are left", left)
	}
}

// TestAnAbandonedChangeLeavesNoDirectories that it made.
func TestAnAbandonedChangeLeavesNoDirectories(t *testing.T) {
	tree, root := newTree(t)
	c := tree.Begin()
	if err := c.Prepare(layout.LayerKey("a/b", digest.FromString("x")).Path()); err != nil {
		t.Fatal(err)
	}
	c.Abandon()
	if _, err := os.Stat(filepath.Join(root, "docker")); !os.IsNotExist(err) {
		t.Errorf("directories stay: %v", err)
	}
}

// TestATagHasOneEntryInItsHistory after it moved, whatever stock registries left.
func TestATagHasOneEntryInItsHistory(t *testing.T) {
	tree, root := newTree(t)
	k, was, to := layout.TagKey("app", "v1"), digest.FromString("was"), digest.FromString("to")
	plant(t, tree.Native(layout.TagIndexEntryDir("app", "v1", was)), "link")
	link, err := tree.Stage([]byte(to))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := tree.Stage([]byte(to))
	if err != nil {
		t.Fatal(err)
	}
	c := tree.Begin()
	if err := errors.Join(c.PlaceTag(link, entry, k, to), c.Commit()); err != nil {
		t.Fatal(err)
	}
	if got, err := tree.Link(k); got != to || err != nil {
		t.Errorf("the tag points to %s, %v", got, err)
	}
	want := []string{"docker/registry/v2/repositories/app/_manifests/tags/v1/current/link",
		"docker/registry/v2/repositories/app/_manifests/tags/v1/index/sha256/" + to.Encoded() + "/link"}
	if files := below(t, root); !slices.Equal(files, want) {
		t.Errorf("%q on disk", files)
	}
}

// TestADamagedFileIsNoReasonToKeepItsName: only a whole one is as good as the file that the disk may not have.
func TestADamagedFileIsNoReasonToKeepItsName(t *testing.T) {
	for before, stays := range map[string]bool{"": false, "whole": true, "cut": false} {
		tr, err := Open(Dir(t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		k := layout.BlobKey(digest.FromString("whole"))
		if before != "" {
			path := tr.File(k.Path())
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
				os.WriteFile(path, []byte(before), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		c := tr.Begin()
		s, err := tr.Stage([]byte("whole"))
		if err := errors.Join(err, c.Place(s, k), c.TakeBack()); err != nil {
			t.Fatal(err)
		}
		if there, err := tr.Has(k); err != nil || there != stays {
			t.Errorf("over %q: it is there: %v, %v", before, there, err)
		}
	}
}
