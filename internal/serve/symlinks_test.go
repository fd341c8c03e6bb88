package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/jc-lab/docker-cache-server/internal/fsck"
	"github.com/jc-lab/docker-cache-server/internal/index"
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
func (w *world) problems(deep bool) []fsck.Problem {
	w.Helper()
	w.flush()
	found, _, err := fsck.Check(w.Context(), &w.s.store.Store, fsck.CheckOptions{Deep: deep})
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
	repo, blob := tree+"/repositories/team/app", func(d string) string {
		return tree + "/blobs/sha256/" + d[7:9] + "/" +
			d[7:]
	}
	return []string{
		"docker", "docker/registry", tree,
		tree + "/blobs", tree + "/blobs/sha256", filepath.Dir(blob(m)), filepath.Dir(blob(l)), blob(m), blob(l),
		blob(m) + "/data", blob(l) + "/data",
		tree + "/repositories", tree + "/repositories/team", repo, repo + "/_uploads",
		repo + "/_layers", repo + "/_layers/sha256", repo + "/_layers/" + slashed(l), repo + "/_layers/" + slashed(l) +
			"/link",
		repo + "/_manifests", repo + "/_manifests/revisions", repo + "/_manifests/revisions/sha256",
		repo + "/_manifests/revisions/" + slashed(m), repo + "/_manifests/revisions/" + slashed(m) + "/link",
		repo + "/_manifests/tags", repo + "/_manifests/tags/v1", repo + "/_manifests/tags/v1/current", repo +
			"/_manifests/tags/v1/current/link",
	}
}

// TestWhatIsServedThroughALinkIsSeenByAll puts a symbolic link at each level of the tree in turn, and deletes the
// index. What is used is whole however often gc runs, the check knows every file, a push into the same
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
			if err := os.MkdirAll(filepath.Join(w.dir, "docker/registry/v2/repositories/team/app/_uploads"),
				0o755); err != nil {
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

// TestALinkThatAppearsIsJudgedBeforeAnythingIsRemoved gives a repository a second name while the server runs, by a
// link that is new or by one that led elsewhere before. What is used by its second name stays although nobody uses it
// by its first; the comparison that follows names the link, and once that is removed expiry goes on.
func TestALinkThatAppearsIsJudgedBeforeAnythingIsRemoved(t *testing.T) {
	const repositories = "docker/registry/v2/repositories/"
	for what, arrange := range map[string]func(w *world) (link string){
		"a new link into the tree": func(w *world) string {
			w.link("team", filepath.Join(w.dir, repositories+"alias"))
			return repositories + "alias"
		},
		"a new link to where another one leads": func(w *world) string {
			w.stop()
			to := w.outside(repositories + "team")
			w.start()
			w.link(to, filepath.Join(w.dir, repositories+"alias"))
			return repositories + "alias"
		},
		"a link that led elsewhere": func(w *world) string {
			w.push("alias/app:v1", w.image(1))
			w.stop()
			w.outside(repositories + "alias")
			w.start()
			if err := os.Remove(filepath.Join(w.dir, repositories+"alias")); err != nil {
				t.Fatal(err)
			}
			w.link("team", filepath.Join(w.dir, repositories+"alias"))
			return repositories + "alias"
		},
		"a new link in the place of a copy": func(w *world) string {
			w.push("alias/app:v1", w.image(1))
			w.outside(repositories + "alias")
			if err := os.Remove(filepath.Join(w.dir, repositories+"alias")); err != nil {
				t.Fatal(err)
			}
			w.link("team", filepath.Join(w.dir, repositories+"alias"))
			return repositories + "alias"
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.push("team/app:v1", w.image(2))
			link := arrange(w)
			for range 3 {
				w.pass(ttl - time.Minute)
				w.pull("alias/app:v1")
				if _, err := w.s.Expire(t.Context(), 0, false); err != nil && !errors.Is(err, index.ErrGateClosed) {
					t.Fatal(err)
				}
			}
			w.pull("alias/app:v1")
			w.s.keeper.rebuild(t.Context())
			if bar, err := w.s.store.Index.Barred(t.Context()); err != nil || bar == nil ||
				!strings.Contains(bar.Why, link) {
				t.Fatalf("the gate is barred by %+v, %v; want %s", bar, err, link)
			}
			w.pull("alias/app:v1")

			if err := os.Remove(filepath.Join(w.dir, link)); err != nil {
				t.Fatal(err)
			}
			w.s.keeper.rebuild(t.Context())
			w.pull("team/app:v1")
			w.pass(ttl + time.Hour)
			w.expire()
			w.gone("team/app:v1")
		})
	}
}

// TestALinkOfALayerThatAppearsIsJudgedBeforeAnythingIsRemoved gives the link of a layer a second name while the server
// runs. A read of another layer of the image may have been the one that the index was asked about.
func TestALinkOfALayerThatAppearsIsJudgedBeforeAnythingIsRemoved(t *testing.T) {
	for n := range 3 {
		t.Run(fmt.Sprint("layer ", n), func(t *testing.T) {
			w := newWorld(t)
			img := w.image(3)
			w.push("team/app:v1", img)
			w.push("copy/app:v1", img)
			w.flush()
			w.s.keeper.rebuild(t.Context())
			layers, err := img.Layers()
			if err != nil {
				t.Fatal(err)
			}
			d, err := layers[n].Digest()
			if err != nil {
				t.Fatal(err)
			}
			link := func(repo string) string {
				return filepath.Join(w.dir, "docker/registry/v2/repositories", repo, "_layers/sha256", d.Hex)
			}
			if err := os.RemoveAll(link("copy/app")); err != nil {
				t.Fatal(err)
			}
			w.link(link("team/app"), link("copy/app"))
			for range 3 {
				w.pass(ttl - time.Minute)
				w.pull("copy/app:v1")
				if _, err := w.s.Expire(t.Context(), 0, false); err != nil && !errors.Is(err, index.ErrGateClosed) {
					t.Fatal(err)
				}
			}
			w.pull("copy/app:v1")
		})
	}
}

// TestALinkThatIsFollowedHoldsUpNothing uses what is behind links that the comparison followed: the gate stays open,
// also when a repository is moved and a link put in its place, once that was compared.
func TestALinkThatIsFollowedHoldsUpNothing(t *testing.T) {
	w := newWorld(t)
	w.push("team/app:v1", w.image(2))
	w.outside("docker/registry/v2/repositories/team")
	open := func() bool {
		open, err := w.s.store.Index.GateOpen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return open
	}
	w.pass(ttl / 2)
	w.pull("team/app:v1")
	if open() {
		t.Error("nothing was compared since the link appeared, and the gate is open")
	}
	w.s.keeper.rebuild(t.Context())
	for range 3 {
		w.pass(ttl / 2)
		w.pull("team/app:v1")
		w.push("team/app:v2", w.image(1))
		if !open() {
			t.Fatal("a link that was followed shut the gate")
		}
	}
}

// before is an index on which something happens whenever a comparison begins.
type before struct {
	index.Store
	comparison func()
}

func (b before) CloseGate(ctx context.Context) (string, error) {
	b.comparison()
	return b.Store.CloseGate(ctx)
}

// TestALinkThatChangesDuringAComparisonIsNoFault uses an image through a link that the walk of a comparison does not
// meet any more. The gate stays closed until the next comparison, of which an operator need not be told as of an error.
func TestALinkThatChangesDuringAComparisonIsNoFault(t *testing.T) {
	w := newWorld(t)
	w.push("team/app:v1", w.image(2))
	logged := logtest.NewLocal(w.s.log)
	alias := filepath.Join(w.dir, "docker/registry/v2/repositories/alias")
	whole := w.s.store.Index
	w.s.store.Index = before{whole, func() {
		w.link("team", alias)
		w.pull("alias/app:v1")
		if err := os.Remove(alias); err != nil {
			t.Fatal(err)
		}
	}}
	w.s.keeper.rebuild(t.Context())
	w.s.store.Index = whole
	if open, err := whole.GateOpen(t.Context()); open || err != nil {
		t.Errorf("a link was used that was not compared, and the gate is open: %v, %v", open, err)
	}
	if w.s.keeper.again.After(time.Now().Add(retryPause / 2)) {
		t.Error("the next comparison waits as after a failure")
	}
	w.s.keeper.rebuild(t.Context())
	if open, err := whole.GateOpen(t.Context()); !open || err != nil {
		t.Errorf("after the next comparison the gate is open: %v, %v", open, err)
	}
	for _, e := range logged.AllEntries() {
		if e.Level <= logrus.WarnLevel {
			t.Errorf("the log says as a %v: %s", e.Level, e.Message)
		}
	}
}

// TestALinkThatAppearsIsLoggedOnce asks again and again for what is behind a link that was not compared yet.
func TestALinkThatAppearsIsLoggedOnce(t *testing.T) {
	w := newWorld(t)
	w.push("team/app:v1", w.image(2))
	logged := logtest.NewLocal(w.s.log)
	w.link("team", filepath.Join(w.dir, "docker/registry/v2/repositories/alias"))
	for range 3 {
		w.pass(ttl / 2)
		w.pull("alias/app:v1")
	}
	lines := 0
	for _, e := range logged.AllEntries() {
		if strings.Contains(e.Message, "a symbolic link is new") {
			lines++
		}
	}
	if lines != 1 {
		t.Errorf("%d lines for one link", lines)
	}
}
