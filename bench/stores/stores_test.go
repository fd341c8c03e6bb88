package stores

import (
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/fsck"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

var shape = Shape{Images: 20, Repositories: 3, Layers: 2, Shared: 1, Sharers: 3, Size: 100, Untagged: 1}

func TestAStoreIsAlwaysTheSame(t *testing.T) {
	if a, b := shape.Image(7), shape.Image(7); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a, b)
	}
	const want = "sha256:2182925d5d3b8df771d3108443f5ee6cc85ab23196d8a8ef78b5fed4ec1eb9be"
	if got := shape.Image(7).Manifest.Digest.String(); got != want {
		t.Errorf("image 7 is %s, and was %s: stores that were made before are others", got, want)
	}
}

func TestTheIndexSaysWhatIsOnDisk(t *testing.T) {
	dir, ctx := tree.Dir(t.TempDir()), t.Context()
	if err := Disk(dir, shape); err != nil {
		t.Fatal(err)
	}
	if err := Index(ctx, dir, shape, func(i int) time.Duration { return time.Duration(i) * time.Hour }); err != nil {
		t.Fatal(err)
	}
	ix, err := sqlite.Open(ctx, dir.Index(), sqlite.Look, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer ix.Close()
	problems, seen, err := fsck.Check(ctx, &store.Store{Dir: dir, Index: ix}, fsck.CheckOptions{Deep: true})
	if err != nil || len(problems) > 0 || !seen.Indexed {
		t.Errorf("%v, %+v, %v", problems, seen, err)
	}
	im := shape.Image(9)
	err = ix.View(ctx, func(r index.Reader) error {
		row, err := r.Row(layout.ManifestKey(im.Repository, im.Manifest.Digest))
		if age := time.Since(row.AccessedAt); err != nil || age < 9*time.Hour || age > 10*time.Hour {
			t.Errorf("image 9 was used %v ago: %v", age, err)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFilesAreAsOldAsTheirImages(t *testing.T) {
	dir := tree.Dir(t.TempDir())
	if err := Aged(dir, shape, func(i int) time.Duration { return time.Duration(i) * time.Hour }); err != nil {
		t.Fatal(err)
	}
	im := shape.Image(9)
	for _, p := range []layout.Path{
		{Kind: layout.TagLink, Repository: im.Repository, Tag: im.Tag},
		{Kind: layout.RevisionLink, Repository: im.Repository, Digest: im.Manifest.Digest},
	} {
		fi, err := os.Stat(dir.File(p))
		if err != nil {
			t.Fatal(err)
		}
		if age := time.Since(fi.ModTime()); age < 9*time.Hour || age > 10*time.Hour {
			t.Errorf("%s is %v old", fi.Name(), age)
		}
	}
}

func TestAStandInIsTakenForAServer(t *testing.T) {
	dir, ctx := tree.Dir(t.TempDir()), t.Context()
	if err := Index(ctx, dir, shape, func(int) time.Duration { return 0 }); err != nil {
		t.Fatal(err)
	}
	release, err := StandIn(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	if live, err := dir.Live(); err != nil || live == nil || live.Index == "" {
		t.Errorf("live: %+v, %v", live, err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if live, err := dir.Live(); err != nil || live != nil {
		t.Errorf("after it was released: %+v, %v", live, err)
	}
}
