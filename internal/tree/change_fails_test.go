package tree

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// A change fails again and again: a directory is in the place of a file, or what was staged is gone. What it placed is
// there, and durable once it is committed. Of what failed nothing is left: no file, and no directory.
func TestAChangeThatFailsKeepsWhatItPlacedAndLeavesNothingElse(t *testing.T) {
	for seed := range uint64(10) {
		tree, root := newTree(t)
		random := rand.New(rand.NewPCG(seed, 0))
		c := tree.Begin()
		var want, durable []string
		for i := range 12 {
			d, repo := digest.FromString(fmt.Sprint(i)), fmt.Sprint("team/app", i)
			to := digest.FromString("m")
			k := []layout.Key{layout.BlobKey(d), layout.LayerKey(repo, d), layout.ManifestKey(repo, d),
				layout.TagKey(repo, "v1")}[random.IntN(4)]
			paths := []string{tree.File(k.Path())}
			if k.Kind == layout.Tag {
				paths = append(paths, tree.File(TagEntry(k, to)))
			}
			blocked := len(paths) // the first that cannot be placed
			if random.IntN(3) > 0 {
				blocked = random.IntN(len(paths))
			}
			vanishes := random.IntN(2) == 0
			if blocked < len(paths) && !vanishes {
				plant(t, paths[blocked], "own")
				want = append(want, relative(t, root, filepath.Join(paths[blocked], "own")))
			}
			if random.IntN(2) == 0 {
				if err := c.Prepare(k.Path()); err != nil {
					t.Fatal(err)
				}
			}
			var staged []*Staged
			for j := range paths {
				s, err := tree.Stage([]byte("x"))
				if err == nil && j == blocked && vanishes {
					err = os.Remove(s.path)
				}
				if err != nil {
					t.Fatal(err)
				}
				staged = append(staged, s)
			}
			var err error
			if k.Kind == layout.Tag {
				err = c.PlaceTag(staged[0], staged[1], k, to)
			} else {
				err = c.Place(staged[0], k)
			}
			if (err != nil) != (blocked < len(paths)) {
				t.Errorf("seed %d: %s, of which file %d is blocked: %v", seed, k, blocked, err)
			}
			for _, s := range staged {
				s.Discard()
			}
			for _, path := range paths[:blocked] {
				want, durable = append(want, relative(t, root, path)), append(durable, path)
			}
		}
		if random.IntN(2) == 0 {
			c.Abandon()
		} else {
			if err := c.Commit(); err != nil {
				t.Error(err)
			}
			for _, path := range durable {
				for dir := filepath.Dir(path); dir != root; dir = filepath.Dir(dir) {
					if tree.synced[dir] == 0 {
						t.Errorf("seed %d: %s is placed, and the name of %s is not durable", seed, path, dir)
					}
				}
			}
		}
		slices.Sort(want)
		if files := below(t, root); !slices.Equal(files, want) {
			t.Errorf("seed %d: on disk are\n%q\nwant\n%q", seed, files, want)
		}
		err := filepath.WalkDir(filepath.Join(root, "docker"), func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return err
			}
			in, err := os.ReadDir(path)
			if err == nil && len(in) == 0 {
				t.Errorf("seed %d: %s is empty", seed, path)
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}

func relative(t *testing.T, root, path string) string {
	t.Helper()
	rel, err := filepath.Rel(root, path)
	if err != nil {
		t.Fatal(err)
	}
	return rel
}
