package tree

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

var (
	manifestOne, manifestTwo = digest.FromString("manifest 1"), digest.FromString("manifest 2")
	layerOne, layerTwo       = digest.FromString("layer 1"), digest.FromString("layer 2")
)

// telling is a tree with two images of two repositories, of which one has no tag. Its file system tells changes.
func telling(t *testing.T) *Tree {
	t.Helper()
	tree, _ := newTree(t)
	var untellable *UntellableError
	if _, err := tree.Imprint(t.Context()); errors.As(err, &untellable) {
		t.Skip(untellable)
	}
	for _, k := range []layout.Key{
		layout.BlobKey(manifestOne), layout.BlobKey(manifestTwo), layout.BlobKey(layerOne), layout.BlobKey(layerTwo),
		layout.ManifestKey("team/app", manifestOne), layout.LayerKey("team/app", layerOne),
		layout.TagKey("team/app", "v1"), layout.ManifestKey("other", manifestTwo), layout.LayerKey("other", layerTwo),
	} {
		overwrite(t, tree.File(k.Path()), "old")
	}
	unlock, err := tree.LockGC(t.Context()) // Followed touches its file
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, unlock()) })
	return tree
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// overwrite writes a file as the driver of registry 2 does: in place.
func overwrite(t *testing.T, file, data string) {
	t.Helper()
	must(t, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(data), 0o644)))
}

// replace writes a file as the driver of registry 3 does.
func replace(t *testing.T, file, data string) {
	t.Helper()
	overwrite(t, file+".tmp", data)
	must(t, os.Rename(file+".tmp", file))
}

// imprint is that of a tree, once no later change can carry its times.
func imprint(t *testing.T, tree *Tree) Imprint {
	t.Helper()
	i, err := tree.Imprint(t.Context())
	must(t, err)
	tree.Follow(i)
	return followedBy(t, tree)
}

func followedBy(t *testing.T, tree *Tree) Imprint {
	t.Helper()
	i, told, err := tree.Followed()
	must(t, err)
	if !told {
		t.Fatal("no change would be told")
	}
	return i
}

// changes are those by which a file of a key appears, or a tag gets another one.
var changes = map[string]func(t *testing.T, tree *Tree){
	"a manifest over blobs that are there": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.ManifestKey("other", manifestOne).Path()), "new")
	},
	"a link to a blob that is there": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.LayerKey("other", layerOne).Path()), "new")
	},
	"the first link of another algorithm": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.LayerKey("other", digest.SHA512.FromString("layer")).Path()), "new")
	},
	"a blob": func(t *testing.T, tree *Tree) {
		k := layout.BlobKey(layerOne)
		k.Digest = layerOne[:len(layerOne)-1] + "0" // beside one that is there
		if k.Digest == layerOne {
			k.Digest = layerOne[:len(layerOne)-1] + "1"
		}
		replace(t, tree.File(k.Path()), "new")
	},
	"the first blob of its directory": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.BlobKey(digest.SHA512.FromString("layer")).Path()), "new")
	},
	"a tag": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.TagKey("team/app", "v2").Path()), "new")
	},
	"the first tag of a repository": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.TagKey("other", "v2").Path()), "new")
	},
	"a tag that registry 3 moves": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.TagKey("team/app", "v1").Path()), "new")
	},
	"a tag that registry 2 moves": func(t *testing.T, tree *Tree) {
		overwrite(t, tree.File(layout.TagKey("team/app", "v1").Path()), "new")
	},
	"a tag that is deleted": func(t *testing.T, tree *Tree) {
		must(t, os.RemoveAll(tree.Native(layout.TagDir("team/app", "v1"))))
	},
	"a repository": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.ManifestKey("new", manifestOne).Path()), "new")
	},
	"a repository in a directory that is there": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.ManifestKey("team/new", manifestOne).Path()), "new")
	},
	"a repository below another one": func(t *testing.T, tree *Tree) {
		replace(t, tree.File(layout.ManifestKey("team/app/new", manifestOne).Path()), "new")
	},
	"a repository that is renamed": func(t *testing.T, tree *Tree) {
		must(t, os.Rename(tree.Native(layout.Repositories+"/other"), tree.Native(layout.Repositories+"/new")))
	},
	"a tree that is restored from a copy": func(t *testing.T, tree *Tree) {
		docker := tree.Native("/docker")
		out, err := exec.Command("cp", "-a", docker, docker+".old").CombinedOutput()
		if err != nil {
			t.Fatalf("%s, %v", out, err)
		}
		must(t, errors.Join(os.RemoveAll(docker), os.Rename(docker+".old", docker)))
	},
	"times that are set back": func(t *testing.T, tree *Tree) {
		dir := tree.Native(layout.LinksDir(layout.Manifest, "other")) + "/sha256"
		fi, err := os.Stat(dir)
		must(t, err)
		replace(t, tree.File(layout.ManifestKey("other", manifestOne).Path()), "new")
		must(t, os.Chtimes(dir, fi.ModTime(), fi.ModTime()))
	},
	"another owner": func(t *testing.T, tree *Tree) {
		must(t, os.Chmod(tree.Native(layout.Repositories+"/other"), 0o700))
	},
}

func TestEveryChangeIsTold(t *testing.T) {
	for how, change := range changes {
		t.Run(how, func(t *testing.T) {
			tree := telling(t)
			before := imprint(t, tree)
			if again := imprint(t, tree); again.String() != before.String() {
				t.Error("nothing was changed, and the tree is another one")
			}
			change(t, tree)
			if after, err := tree.Imprint(t.Context()); err != nil || after.String() == before.String() {
				t.Errorf("the change is not told: %v", err)
			}
		})
	}
}

// TestChangesAreToldAtOnce: they come as soon after an Imprint as a file system's clock may not tell.
func TestChangesAreToldAtOnce(t *testing.T) {
	tree := telling(t)
	link := tree.File(layout.TagKey("team/app", "v1").Path())
	for range 200 {
		before := imprint(t, tree)
		overwrite(t, link, "new")
		if after, err := tree.Imprint(t.Context()); err != nil || after.String() == before.String() {
			t.Fatalf("the change is not told: %v", err)
		}
	}
}

// TestTimesThatMayComeAgainAreWaitedFor, or nothing is told.
func TestTimesThatMayComeAgainAreWaitedFor(t *testing.T) {
	tree := telling(t)
	soon := time.Now().Add(50 * time.Millisecond)
	tree.Follow(Imprint{newest: soon})
	followedBy(t, tree)
	if now := time.Now(); now.Before(soon) {
		t.Errorf("at %s it is said that no change can have the time %s any more", now, soon)
	}
	tree.Follow(Imprint{newest: soon.Add(time.Hour)}) // the clock went back
	if _, told, err := tree.Followed(); told || err != nil {
		t.Errorf("a change within the next hour would be told, %v", err)
	}
}

// TestOwnRemovalsAreCounted into an Imprint as they would be seen, and no change of others.
func TestOwnRemovalsAreCounted(t *testing.T) {
	tree := telling(t)
	imprint(t, tree)
	remove := func(keys ...layout.Key) {
		t.Helper()
		change := tree.Begin()
		for _, k := range keys {
			_, err := change.Remove(k)
			must(t, err)
		}
		must(t, change.Commit())
		now, err := tree.Imprint(t.Context())
		must(t, err)
		if followedBy(t, tree).String() != now.String() {
			t.Errorf("after the removal of %v the tree is another one", keys)
		}
	}
	remove(layout.TagKey("team/app", "v1"))
	remove(layout.ManifestKey("team/app", manifestOne))
	remove(layout.LayerKey("other", layerTwo), layout.ManifestKey("other", manifestTwo)) // its last: all is pruned
	remove(layout.BlobKey(layerOne), layout.BlobKey(layerTwo))
	must(t, errors.Join(os.Mkdir(tree.Native(layout.Repositories+"/empty"), 0o755)))
	imprint(t, tree)
	replace(t, tree.File(layout.ManifestKey("team/app", manifestTwo).Path()), "new") // by another process
	change := tree.Begin()
	_, err := change.Remove(layout.LayerKey("team/app", layerOne))
	must(t, errors.Join(err, change.Commit()))
	now, err := tree.Imprint(t.Context())
	must(t, err)
	if followedBy(t, tree).String() == now.String() {
		t.Error("what another process placed is counted as if it had been seen")
	}
}

// TestWhatAppearsDuringARemovalIsNotKnown: another process makes a directory between the two looks of a removal, or one
// that fails.
func TestWhatAppearsDuringARemovalIsNotKnown(t *testing.T) {
	for _, fails := range []bool{false, true} {
		tree := telling(t)
		imprint(t, tree)
		dir := filepath.Dir(tree.File(layout.ManifestKey("team/app", manifestOne).Path()))
		err := tree.counted(dir, func() error {
			must(t, os.Mkdir(filepath.Join(filepath.Dir(dir), "appeared"), 0o755))
			if fails {
				return fs.ErrPermission
			}
			return os.Rename(dir, tree.discarded())
		})
		if (err != nil) != fails {
			t.Fatal(err)
		}
		now, err := tree.Imprint(t.Context())
		must(t, err)
		if left, told, err := tree.Followed(); err != nil || told && left.String() == now.String() {
			t.Errorf("fails %v: what another process made is taken for known, %v", fails, err)
		}
	}
}

// TestADirectoryWithoutItsFileIsNotTold: a file may appear in it later, and no directory above it tells.
func TestADirectoryWithoutItsFileIsNotTold(t *testing.T) {
	tree := telling(t)
	k := layout.ManifestKey("other", manifestTwo)
	dir := filepath.Dir(tree.File(k.Path()))
	overwrite(t, dir+"/signatures/old", "")
	must(t, os.Remove(dir+"/link"))
	imprint(t, tree)
	change := tree.Begin()
	_, err := change.Remove(k)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	must(t, change.Commit())
	if _, told, err := tree.Followed(); told || err != nil {
		t.Errorf("the tree is told though %s is there: %v", dir, err)
	}
}

func TestASymbolicLinkIsNotTold(t *testing.T) {
	tree := telling(t)
	elsewhere := t.TempDir()
	must(t, os.Symlink(elsewhere, tree.Native(layout.Repositories+"/linked")))
	var untellable *UntellableError
	if _, err := tree.Imprint(t.Context()); !errors.As(err, &untellable) ||
		!strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("%v", err)
	}
}
