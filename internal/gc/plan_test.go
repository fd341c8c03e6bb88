package gc

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// asked counts what the index is asked, and how much of it in one state.
type asked struct {
	index.Store
	*testing.T
	all, most int
}

func (a *asked) View(ctx context.Context, read func(index.Reader) error) error {
	return a.Store.View(ctx, func(r index.Reader) error {
		q := &asking{Reader: r, T: a.T}
		defer func() { a.all, a.most = a.all+q.n, max(a.most, q.n) }()
		return read(q)
	})
}

// asking fails a test that reads in a function that is called for each row, which would hold up the reading of the
// others.
type asking struct {
	index.Reader
	*testing.T
	n    int
	rows bool // such a function is called
}

func (a *asking) count() {
	a.Helper()
	if a.n++; a.rows {
		a.Error("a function called for each row reads from the index")
	}
}

// each is f, which may not ask.
func (a *asking) each(f func(index.Row) error) func(index.Row) error {
	return func(r index.Row) error {
		a.rows = true
		defer func() { a.rows = false }()
		return f(r)
	}
}

func (a *asking) IdleTags(before time.Time, f func(index.Row) error) error {
	a.count()
	return a.Reader.IdleTags(before, a.each(f))
}

func (a *asking) Unreferenced(kind layout.Kind, before time.Time, f func(index.Row) error) error {
	a.count()
	return a.Reader.Unreferenced(kind, before, a.each(f))
}

func (a *asking) Claims(before time.Time, f func(index.Row) error) error {
	a.count()
	return a.Reader.Claims(before, a.each(f))
}

func (a *asking) EachTag(repo string, f func(index.Row) error) error {
	a.count()
	return a.Reader.EachTag(repo, a.each(f))
}

func (a *asking) Row(k layout.Key) (*index.Row, error) {
	a.count()
	return a.Reader.Row(k)
}

func (a *asking) Rows(ks []layout.Key, most int, f func(index.Row, int) error) error {
	a.count()
	return a.Reader.Rows(ks, most, func(r index.Row, owners int) error {
		return a.each(func(r index.Row) error { return f(r, owners) })(r)
	})
}

func (a *asking) References(repo string, d digest.Digest) ([]digest.Digest, error) {
	a.count()
	return a.Reader.References(repo, d)
}

func (a *asking) Parents(repo string, d digest.Digest, most int) ([]index.Row, error) {
	a.count()
	return a.Reader.Parents(repo, d, most)
}

func (a *asking) Referrers(repo string, d digest.Digest) ([]index.Row, error) {
	a.count()
	return a.Reader.Referrers(repo, d)
}

func (a *asking) Owners(d digest.Digest, most int) ([]index.Row, error) {
	a.count()
	return a.Reader.Owners(d, most)
}

func (a *asking) Tags(repo string, d digest.Digest) ([]index.Row, error) {
	a.count()
	return a.Reader.Tags(repo, d)
}

// planned is what a plan asks for a large index with so many tags, and for so many images of a few layers.
func planned(t *testing.T, tags, images int) *asked {
	t.Helper()
	w := newWorld(t)
	var children []digest.Digest
	for i := range 40 {
		children = append(children, w.image("multi", "", fmt.Sprint("layer ", i)))
	}
	top := w.manifest("multi", "manifests", children, "")
	for i := range tags {
		w.tag("multi", fmt.Sprint("v", i), top)
	}
	for i := range images {
		w.image("app", fmt.Sprint("v", i), "base", fmt.Sprint("layer ", i), fmt.Sprint("another ", i))
	}
	w.adopt(false)
	w.pass(rules.TTL + time.Hour)
	a := &asked{Store: w.Index, T: t}
	w.Index = a
	p, err := w.NewPlan(t.Context(), rules)
	w.must(err)
	if len(p.Images) != tags+images {
		t.Fatalf("%d images go, want %d", len(p.Images), tags+images)
	}
	for _, i := range p.Images {
		if i.UniqueBytes == 0 || i.LastAccess.IsZero() {
			t.Errorf("%s:%s would free %d bytes, last used %v", i.Repository, i.Tag, i.UniqueBytes, i.LastAccess)
		}
	}
	return a
}

func TestAPlanAsksWhatAManifestFreesOnceForAllItsTags(t *testing.T) {
	one, many := planned(t, 1, 0), planned(t, 101, 0)
	if more := many.all - one.all; more > 3*100 { // a row or so for each tag
		t.Errorf("a hundred tags more ask %d times more, one asks %d times", more, one.all)
	}
}

// Whoever reads one state of the index for long keeps its WAL from being written back, which grows meanwhile.
func TestWhatImagesFreeIsReadInAStateForEach(t *testing.T) {
	few, many := planned(t, 1, 0), planned(t, 1, 200)
	if more := many.most - few.most; more > 200*4 { // the tags, referrers and references of each
		t.Errorf("200 images more ask %d times more of one state", more)
	}
}
