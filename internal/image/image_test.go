package image_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/image"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// world is an index in which every manifest has 100 bytes, and every layer ten.
type world struct {
	*sqlite.Store
	t testing.TB
}

func newWorld(t testing.TB) world {
	ix, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "index.db"), sqlite.Serve, time.Now)
	w := world{ix, t}
	w.must(err)
	t.Cleanup(func() { w.must(ix.Close()) })
	return w
}

func (w world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func dgst(name string) digest.Digest { return digest.FromString(name) }

func (w world) place(c index.Claim) {
	w.t.Helper()
	w.must(w.Claim(context.Background(), c))
	w.must(indextest.Place(context.Background(), w, c, func() error { return nil }))
}

func (w world) layers(repo string, names ...string) {
	for _, n := range names {
		w.place(index.Claim{Key: layout.BlobKey(dgst(n)), Size: 10})
		w.place(index.Claim{Key: layout.LayerKey(repo, dgst(n))})
	}
}

// manifest pushes one; "^m" among its names makes m its subject.
func (w world) manifest(repo, name string, names ...string) {
	var c manifest.Manifest
	for _, n := range names {
		if subject, ok := strings.CutPrefix(n, "^"); ok {
			c.Subject = dgst(subject)
			continue
		}
		c.References = append(c.References, dgst(n))
	}
	w.place(index.Claim{Key: layout.BlobKey(dgst(name)), Size: 100})
	w.place(index.Claim{Key: layout.ManifestKey(repo, dgst(name)), Size: 100, Manifest: &c})
}

func (w world) tag(repo, tag, name string) {
	w.must(indextest.MoveTag(context.Background(), w, repo, tag, dgst(name), func() error { return nil }))
}

func (w world) unique(name string, counted ...*int) (bytes int64) {
	w.must(w.View(context.Background(), func(r index.Reader) (err error) {
		for _, n := range counted {
			r = counting{r, n}
		}
		bytes, err = image.UniqueBytes(r, layout.ManifestKey("a", dgst(name)))
		return err
	}))
	return bytes
}

func TestUniqueBytes(t *testing.T) {
	for _, tt := range []struct {
		name string
		fill func(world)
		want int64 // of a@m, which names l1 and l2
	}{
		{"alone", func(world) {}, 120},
		{"two tags are one image", func(w world) { w.tag("a", "v1", "m"); w.tag("a", "v2", "m") }, 120},
		{"a layer is in another image of the repository", func(w world) { w.manifest("a", "n", "l1") }, 110},
		{"a layer was linked into another repository", func(w world) { w.layers("b", "l1") }, 110},
		{"the whole image is in another repository", func(w world) {
			w.layers("b", "l1", "l2")
			w.manifest("b", "m",
				"l1", "l2")
		}, 0},
		{"a manifest of another repository names a layer it has no link of",
			func(w world) { w.manifest("b", "n", "l1") }, 120},
		{"signed: the signature goes with it", func(w world) { w.layers("a", "s"); w.manifest("a", "sig", "^m", "s") },
			230},
		{"signed, and the signature is signed", func(w world) {
			w.manifest("a", "sig", "^m")
			w.manifest("a", "sig2",
				"^sig")
		}, 320},
		{"the signature has a tag and stays", func(w world) {
			w.manifest("a", "sig", "^m", "l1")
			w.tag("a", "s",
				"sig")
		}, 110},
		{"a part of an index", func(w world) { w.manifest("a", "index", "m") }, 0},
		{"a part of an index whose subject it is: the index is not kept by it",
			func(w world) { w.manifest("a", "list", "^m", "m") }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.layers("a", "l1", "l2")
			w.manifest("a", "m", "l1", "l2")
			tt.fill(w)
			if got := w.unique("m"); got != tt.want {
				t.Errorf("%d unique bytes, want %d", got, tt.want)
			}
		})
	}
}

func TestAnIndexHoldsItsPlatforms(t *testing.T) {
	w := newWorld(t)
	w.layers("a", "shared", "l1", "l2")
	w.manifest("a", "m1", "shared", "l1")
	w.manifest("a", "m2", "shared", "l2")
	w.manifest("a", "inner", "m2")
	w.manifest("a", "index", "m2", "m1", "inner")
	if got := w.unique("index"); got != 430 {
		t.Errorf("%d unique bytes, want all 430", got)
	}
	w.tag("a", "amd64", "m1")
	if got := w.unique("index"); got != 310 {
		t.Errorf("%d unique bytes, want 310: m1 stays with l1 and what it shares", got)
	}
}

// counting is a reader that counts what it is asked for and what it answers.
type counting struct {
	index.Reader
	n *int
}

func (c counting) Row(k layout.Key) (*index.Row, error) {
	*c.n++
	return c.Reader.Row(k)
}

func (c counting) Parents(repo string, d digest.Digest, most int) ([]index.Row, error) {
	rows, err := c.Reader.Parents(repo, d, most)
	*c.n += 1 + len(rows)
	return rows, err
}

func (c counting) Owners(d digest.Digest, most int) ([]index.Row, error) {
	rows, err := c.Reader.Owners(d, most)
	*c.n += 1 + len(rows)
	return rows, err
}

func TestTheCostDoesNotFollowHowManyShare(t *testing.T) {
	w := newWorld(t)
	w.layers("a", "base", "l")
	w.manifest("a", "m", "base", "l")
	var few, many int
	w.manifest("a", "m0", "base")
	w.manifest("a", "m1", "base")
	w.layers("r0", "base")
	w.unique("m", &few)
	for i := range 500 {
		w.manifest("a", fmt.Sprint("n", i), "base")
		w.layers(fmt.Sprint("r", i), "base")
	}
	if got := w.unique("m", &many); got != 110 || many > few {
		t.Errorf("%d unique bytes; %d questions and answers instead of %d", got, many, few)
	}
}
