package inspect

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/image"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// What was used last is found without a look at the rest. It is the beginning of the whole list, to the
// last figure, whatever the store went through.
func TestWhatWasUsedLastIsTheBeginningOfTheList(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(t)
		rnd := rand.New(rand.NewPCG(seed, 2))
		p := index.Policy{TTL: time.Duration(rnd.IntN(3)) * 5 * day, Grace: time.Duration(1+rnd.IntN(48)) * time.Hour,
			Resolution: time.Minute, Rules: someRules(rnd)}
		w.live(rnd)
		w.entangle(rnd)
		for _, kind := range []Kind{Blobs, Images, Tags} {
			all := w.list(p, Options{Kind: kind})
			for limit := 1; limit <= len(all.Blobs)+len(all.Images)+len(all.Tags)+1; limit++ {
				first := w.list(p, Options{Kind: kind, Limit: limit})
				want := all
				want.Blobs, want.Images, want.Tags = begin(all.Blobs, limit), begin(all.Images, limit), begin(all.Tags,
					limit)
				if !reflect.DeepEqual(first, want) {
					t.Fatalf("seed %d, inspecttest.Rules %v, the first %d %s: got\n%s\nwant\n%s", seed, p, limit, kind,
						text(first), text(want))
				}
			}
		}
	}
}

func text(l any) string {
	data, _ := json.MarshalIndent(l, "", " ")
	return string(data)
}

func begin[T any](rows []T, n int) []T { return rows[:min(n, len(rows))] }

// entangle adds what a random inspecttest.Life has not: claims that name others and stay claims, tags that point at
// claims or at nothing, subjects of each other, and links that are used without their images.
func (w *world) entangle(rnd *rand.Rand) {
	ctx := context.Background()
	one := func(of ...string) string { return of[rnd.IntN(len(of))] }
	for range rnd.IntN(8) {
		w.Clock = w.Clock.Add(time.Duration(rnd.IntN(3)) * time.Hour)
		repo := one("a", "b")
		switch rnd.IntN(5) {
		case 0:
			name := one("i1", "i2")
			c := manifest.Manifest{References: []digest.Digest{inspecttest.Dgst("m1"), inspecttest.Dgst("m4")}}
			if name == "i2" {
				c = manifest.Manifest{Subject: inspecttest.Dgst("m2"),
					References: []digest.Digest{inspecttest.Dgst("l1"), inspecttest.Dgst("l3")}}
			}
			w.Must(w.Claim(ctx, index.Claim{Key: layout.ManifestKey(repo, inspecttest.Dgst(name)), Size: 100,
				Manifest: &c}))
		case 1:
			w.Tag(repo, one("t", "v"), one("i1", "i2", "nothing"))
		case 2:
			w.Manifest(repo, "c1", manifest.Manifest{Subject: inspecttest.Dgst("c2")}, "l1")
			w.Manifest(repo, "c2", manifest.Manifest{Subject: inspecttest.Dgst("c1")}, "m6")
		case 3:
			_, err := w.Lease(ctx, layout.LayerKey(repo, inspecttest.Dgst(one("l1", "l2", "l3"))))
			w.Must(err)
		case 4:
			w.Put(index.Claim{Key: layout.BlobKey(inspecttest.Dgst(one("x", "y"))), Size: 3})
		}
	}
}

// What a pass over the store says of an image is what gc reckons with when it removes the image.
func TestAPassMeasuresAnImageAsGCDoes(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(t)
		rnd := rand.New(rand.NewPCG(seed, 3))
		w.live(rnd)
		w.entangle(rnd)
		images := w.list(inspecttest.Rules, Options{Kind: Images}).Images
		w.Must(w.View(t.Context(), func(r index.Reader) error {
			for _, i := range images {
				k := layout.ManifestKey(i.Repository, i.Digest)
				size, err := image.Size(r, k)
				w.Must(err)
				unique, err := image.UniqueBytes(r, k)
				w.Must(err)
				if i.Size != size || i.UniqueBytes != unique {
					t.Errorf("seed %d: %d bytes, of which %d are unique; want %d and %d; %+v", seed, i.Size,
						i.UniqueBytes, size, unique, i)
				}
			}
			return nil
		}))
	}
}

// A use of a link alone is no use of its image, but the blob stays for the grace.
func TestALinkThatWasUsedAloneExpiresWithItsImage(t *testing.T) {
	w := newWorld(t)
	w.Blob("a", "l", 5)
	w.Manifest("a", "m", manifest.Manifest{}, "l")
	w.At(time.Hour)
	for i := range 50 { // more recent than the image, and nothing to do with it
		w.Manifest("b", fmt.Sprint("other-", i), manifest.Manifest{})
	}
	late := inspecttest.Life - 10*time.Minute
	for _, tt := range []struct{ used, expires time.Duration }{
		{2 * time.Hour, inspecttest.Life},
		{late, late + inspecttest.Lease},
	} {
		w.At(tt.used).Use(layout.LayerKey("a", inspecttest.Dgst("l")))
		for _, limit := range []int{0, 100} {
			blobs := w.list(inspecttest.Rules, Options{Limit: limit}).Blobs
			last := blobs[len(blobs)-2:]
			i := slices.IndexFunc(last, func(b blobJSON) bool { return b.Digest == inspecttest.Dgst("l") })
			if i < 0 || last[i].LastAccess != inspecttest.Stamped(0) ||
				*last[i].ExpiresAt != inspecttest.Stamped(tt.expires) {
				t.Errorf("limit %d, used at %s: %+v", limit, tt.used, last)
			}
		}
	}
}

// A pile of indexes, each used after the one above it, is climbed once and not once from every step.
func TestADeepPileOfIndexes(t *testing.T) {
	w := newWorld(t)
	const deep = 200 // a use is written to all that is below it
	w.Manifest("a", "0", manifest.Manifest{})
	for i := range deep {
		w.Manifest("a", fmt.Sprint(i+1), manifest.Manifest{MediaType: inspecttest.OCIIndex}, fmt.Sprint(i))
	}
	for i := deep; i >= 0; i-- {
		w.At(time.Duration(deep-i) * time.Second).Use(layout.ManifestKey("a", inspecttest.Dgst(fmt.Sprint(i))))
	}
	first, all := w.list(inspecttest.Rules, Options{Kind: Images, Limit: 5}), w.list(inspecttest.Rules,
		Options{Kind: Images})
	if !reflect.DeepEqual(first, all) || len(all.Images) != 1 ||
		all.Images[0].Digest != inspecttest.Dgst(fmt.Sprint(deep)) || all.Images[0].Size != 100*(deep+1) {
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
		w.Manifest("app", children[i], manifest.Manifest{})
	}
	w.Manifest("app", "top", manifest.Manifest{}, children...)
	for i := range 100 {
		w.At(time.Duration(i)*time.Minute).Tag("app", fmt.Sprint("v", i), "top")
	}
	w.Must(w.View(t.Context(), func(r index.Reader) error {
		a := &asking{Reader: r}
		measured := sizes{a, map[layout.Key][2]int64{}}
		for range 100 {
			if size, _, err := measured.of(layout.ManifestKey("app", inspecttest.Dgst("top"))); err != nil ||
				size != 4100 {
				t.Errorf("%d bytes, %v", size, err)
			}
		}
		if a.n > 150 {
			t.Errorf("asked %d times", a.n)
		}
		return nil
	}))
}
