package serve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
)

// outside moves a path of the tree out of the data directory and leaves a symbolic link in its place.
func (w *world) outside(path string) (to string) {
	w.Helper()
	path = filepath.Join(w.dir, path)
	to = filepath.Join(w.TempDir(), "elsewhere")
	if err := os.Rename(path, to); err != nil {
		w.Fatal(err)
	}
	w.link(to, path)
	return to
}

func (w *world) link(to, path string) {
	w.Helper()
	if err := os.Symlink(to, path); err != nil {
		w.Fatal(err)
	}
}

// forget deletes the index of a server that is stopped.
func (w *world) forget() {
	w.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(w.dir, ".metadata", "index.db"+suffix)); err != nil {
			w.Fatal(err)
		}
	}
}

// problems is what a check finds; a deep one reads every blob.
func (w *world) problems(deep bool) []reconcile.Problem {
	w.Helper()
	found, _, err := reconcile.Check(w.Context(), reconcile.CheckOptions{Dir: w.s.store.dir, Index: w.s.store.index, Deep: deep})
	if err != nil {
		w.Fatal(err)
	}
	return found
}

// places are paths of the tree at every level, for an image team/app:v1 with this digest and layer.
func places(img v1.Image, t *testing.T) []string {
	const tree = "docker/registry/v2"
	slashed := func(d string) string { return strings.Replace(d, ":", "/", 1) }
	m, l := hashOf(t, img), layerOf(t, img)
	repo, blob := tree+"/repositories/team/app", func(d string) string { return tree + "/blobs/sha256/" + d[7:9] + "/" + d[7:] }
	return []string{
		"docker", "docker/registry", tree,
		tree + "/blobs", tree + "/blobs/sha256", filepath.Dir(blob(m)), filepath.Dir(blob(l)), blob(m), blob(l), blob(m) + "/data", blob(l) + "/data",
		tree + "/repositories", tree + "/repositories/team", repo, repo + "/_uploads",
		repo + "/_layers", repo + "/_layers/sha256", repo + "/_layers/" + slashed(l), repo + "/_layers/" + slashed(l) + "/link",
		repo + "/_manifests", repo + "/_manifests/revisions", repo + "/_manifests/revisions/sha256",
		repo + "/_manifests/revisions/" + slashed(m), repo + "/_manifests/revisions/" + slashed(m) + "/link",
		repo + "/_manifests/tags", repo + "/_manifests/tags/v1", repo + "/_manifests/tags/v1/current", repo + "/_manifests/tags/v1/current/link",
	}
}

// TestWhatIsServedThroughALinkIsSeenByAll puts a symbolic link at each level of the tree in turn, and deletes the
// index. What is used is whole however often expiry runs, the check knows every file, a push into the same
// repository works, and what nobody uses any more goes.
func TestWhatIsServedThroughALinkIsSeenByAll(t *testing.T) {
	img := (&world{T: t}).image(2)
	for n := range places(img, t) {
		path := places(img, t)[n]
		t.Run(strings.ReplaceAll(strings.TrimPrefix(path, "docker/registry/v2/"), "/", "_"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.push("team/app:v1", img)
			w.push("other:v1", w.image(1))
			w.stop()
			if err := os.MkdirAll(filepath.Join(w.dir, "docker/registry/v2/repositories/team/app/_uploads"), 0o755); err != nil {
				t.Fatal(err)
			}
			w.outside(path)
			w.forget()
			w.start()
			w.keepUsing(3, func() { w.head("team/app:v1") }) // by a client that has its layers
			w.pull("team/app:v1")
			w.gone("other:v1")
			if found := w.problems(true); len(found) > 0 {
				t.Errorf("the check found %+v", found)
			}
			w.push("team/app:v2", w.image(1))
			w.pull("team/app:v2")
			w.restart()
			w.pull("team/app:v1")
			w.pull("team/app:v2")

			w.pass(ttl + time.Hour)
			w.expire()
			w.pass(grace + time.Hour)
			w.expire()
			w.gone("team/app:v1", "team/app:v2")
			if left := w.totals(); left != (index.Totals{}) {
				t.Errorf("left in the index: %+v", left)
			}
		})
	}
}
