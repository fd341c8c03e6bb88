package inspect

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// What was used last is found without a look at the rest. It is the beginning of the whole list, to the
// last figure, whatever the store went through.
func TestWhatWasUsedLastIsTheBeginningOfTheList(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(t)
		rnd := rand.New(rand.NewPCG(seed, 2))
		p := index.Policy{TTL: time.Duration(rnd.IntN(3)) * 5 * day, Grace: time.Duration(1+rnd.IntN(48)) * time.Hour, Resolution: time.Minute}
		w.live(rnd)
		w.entangle(rnd)
		for _, kind := range []Kind{Blobs, Images, Tags} {
			all := w.list(p, Options{Kind: kind})
			for limit := 1; limit <= len(all.Blobs)+len(all.Images)+len(all.Tags)+1; limit++ {
				first := w.list(p, Options{Kind: kind, Limit: limit})
				want := all
				want.Blobs, want.Images, want.Tags = begin(all.Blobs, limit), begin(all.Images, limit), begin(all.Tags, limit)
				if !reflect.DeepEqual(first, want) {
					t.Fatalf("seed %d, rules %v, the first %d %s: got\n%s\nwant\n%s", seed, p, limit, kind, text(first), text(want))
				}
			}
		}
	}
}

func text(l listing) string {
	data, _ := json.MarshalIndent(l, "", " ")
	return string(data)
}

func begin[T any](rows []T, n int) []T { return rows[:min(n, len(rows))] }

// entangle adds what a random life has not: claims that name others and stay claims, tags that point at
// claims or at nothing, circles, and links that are used without their images.
func (w *world) entangle(rnd *rand.Rand) {
	ctx := context.Background()
	one := func(of ...string) string { return of[rnd.IntN(len(of))] }
	for range rnd.IntN(8) {
		w.now = w.now.Add(time.Duration(rnd.IntN(3)) * time.Hour)
		repo := one("a", "b")
		switch rnd.IntN(5) {
		case 0:
			name := one("i1", "i2")
			c := manifest.Manifest{References: []digest.Digest{dgst("m1"), dgst("m4")}}
			if name == "i2" {
				c = manifest.Manifest{Subject: dgst("m2"), References: []digest.Digest{dgst("l1"), dgst("l3")}}
			}
			w.must(w.Claim(ctx, index.Claim{Key: layout.ManifestKey(repo, dgst(name)), Size: 100, Content: &c}))
		case 1:
			w.tag(repo, one("t", "v"), one("i1", "i2", "nothing"))
		case 2:
			w.manifest(repo, "c1", manifest.Manifest{}, "c2", "l1")
			w.manifest(repo, "c2", manifest.Manifest{}, "c1", "m6")
		case 3:
			_, err := w.Lease(ctx, layout.LayerKey(repo, dgst(one("l1", "l2", "l3"))))
			w.must(err)
		case 4:
			w.place(index.Claim{Key: layout.BlobKey(dgst(one("x", "y"))), Size: 3})
		}
	}
}

// A link that was used long after everything that holds it is looked up from below.
func TestALinkThatWasUsedAloneExpiresWithItsImage(t *testing.T) {
	w := newWorld(t)
	w.blob("a", "l", 5)
	w.manifest("a", "m", manifest.Manifest{}, "l")
	w.at(time.Hour)
	for i := range nameSteps + 10 { // more recent than the image, and nothing to do with it
		w.manifest("b", fmt.Sprint("other-", i), manifest.Manifest{})
	}
	w.at(2 * time.Hour).use(layout.LayerKey("a", dgst("l")))
	w.at(20 * day)
	b := w.list(rules, Options{Limit: 1}).Blobs
	if len(b) != 1 || b[0].Digest != dgst("l") || b[0].LastAccess != stamped(2*time.Hour) || *b[0].ExpiresAt != stamped(life) {
		t.Errorf("%+v", b)
	}
}

// A pile of indexes, each used after the one above it, is climbed once and not once from every step.
func TestADeepPileOfIndexes(t *testing.T) {
	w := newWorld(t)
	const deep = 1500
	w.manifest("a", "0", manifest.Manifest{})
	for i := range deep {
		w.manifest("a", fmt.Sprint(i+1), manifest.Manifest{MediaType: ociIndex}, fmt.Sprint(i))
	}
	for i := deep; i >= 0; i-- {
		w.at(time.Duration(deep-i) * time.Second).use(layout.ManifestKey("a", dgst(fmt.Sprint(i))))
	}
	first, all := w.list(rules, Options{Kind: Images, Limit: 5}), w.list(rules, Options{Kind: Images})
	if !reflect.DeepEqual(first, all) || len(all.Images) != 1 || all.Images[0].Digest != dgst(fmt.Sprint(deep)) || all.Images[0].Size != 100*(deep+1) {
		t.Errorf("got\n%s\nwant\n%s", text(first), text(all))
	}
}

// asking counts how often the index is asked for the tags of a manifest.
type asking struct {
	index.Reader
	n int
}

func (a *asking) Tags(repo string, d digest.Digest) ([]index.Row, error) {
	a.n++
	return a.Reader.Tags(repo, d)
}

func TestAnImageIsMeasuredOnceForAllItsTags(t *testing.T) {
	w := newWorld(t)
	var children []string
	for i := range 40 {
		children = append(children, fmt.Sprint("child ", i))
		w.manifest("app", children[i], manifest.Manifest{})
	}
	w.manifest("app", "top", manifest.Manifest{}, children...)
	for i := range 100 {
		w.at(time.Duration(i)*time.Minute).tag("app", fmt.Sprint("v", i), "top")
	}
	w.must(w.View(t.Context(), func(r index.Reader) error {
		a := &asking{Reader: r}
		l, err := newLifetimes(t.Context(), w.Store, index.Policy{Grace: time.Hour})
		w.must(err)
		rows, err := findRecent(t.Context(), a, l, Options{Kind: Tags, Limit: 100})
		if len(rows) != 100 || a.n > 150 {
			t.Errorf("%d rows, asked %d times", len(rows), a.n)
		}
		return err
	}))
}
