package gc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// unread adds a manifest of another repository to one, in which the index could not read what it names.
func (w *world) unread(repo string, d digest.Digest) {
	w.t.Helper()
	w.write(layout.Path{Kind: layout.RevisionLink, Repository: repo, Digest: d}, []byte(d))
	w.must(w.Index.Adopt(w.t.Context(), func() (index.Adoption, bool, error) {
		return index.Adoption{Claim: index.Claim{Key: layout.ManifestKey(repo, d), Size: int64(w.size(d)),
			Manifest: &manifest.Manifest{MediaType: adopt.Unreadable}}}, true, nil
	}))
}

// listed wants that nothing outside of a plan refers to what it lists.
func (w *world) listed(p *Plan) {
	w.t.Helper()
	in := map[layout.Key]bool{}
	for _, rows := range [][]index.Row{p.Tags, p.Manifests, p.Layers, p.Blobs} {
		for _, r := range rows {
			in[r.Key] = true
		}
	}
	w.must(w.Index.View(w.t.Context(), func(r index.Reader) error {
		for k := range in {
			var needed []index.Row
			add := func(rows []index.Row, err error) {
				w.must(err)
				needed = append(needed, rows...)
			}
			switch k.Kind {
			case layout.Blob:
				add(r.Owners(k.Digest, 0))
			case layout.Manifest:
				add(r.Tags(k.Repository, k.Digest))
				add(r.Parents(k.Repository, k.Digest, 0))
				m, err := r.Row(k)
				w.must(err)
				if m.Subject != "" && !m.Detached {
					subject, err := r.Row(layout.ManifestKey(k.Repository, m.Subject))
					w.must(err)
					if subject != nil {
						needed = append(needed, *subject)
					}
				}
			case layout.Layer:
				add(r.Parents(k.Repository, k.Digest, 0))
			}
			for _, by := range needed {
				if !in[by.Key] {
					w.t.Errorf("the plan lists %s, to which %s refers that stays", k, by.Key)
				}
			}
		}
		return nil
	}))
}

// done wants a plan to be executed as it says.
func (w *world) done(p *Plan) {
	w.t.Helper()
	want := p.Result()
	got, err := w.Execute(w.t.Context(), p)
	w.must(err)
	if got.Removed != want.Removed || got.FreedBytes != want.FreedBytes || !slices.Equal(got.Images, want.Images) {
		w.t.Errorf("planned %+v\nremoved %+v", want, got)
	}
	w.must(w.Index.View(w.t.Context(), func(r index.Reader) error {
		for _, rows := range [][]index.Row{p.Tags, p.Manifests, p.Layers, p.Blobs} {
			for _, row := range rows {
				left, err := r.Row(row.Key)
				w.must(err)
				if left != nil {
					w.t.Errorf("the plan lists %s, which stays", row.Key)
				}
			}
		}
		return nil
	}))
}

// TestWhatAManifestNamesInAnotherRepositoryFreesNothing plans a manifest of two repositories. In one of them the index
// does not know that it names the layer of an image that stays.
func TestWhatAManifestNamesInAnotherRepositoryFreesNothing(t *testing.T) {
	w := newWorld(t)
	d := w.image("other", "", "base")
	stays := w.image("app", "v1", "base", "own")
	w.adopt(false)
	w.unread("app", d)
	w.pass(rules.TTL + time.Hour)
	_, err := w.Index.Lease(t.Context(), layout.TagKey("app", "v1"))
	w.must(err)
	p, err := w.NewPlan(t.Context(), rules)
	w.must(err)
	if len(p.Manifests) != 2 {
		t.Fatalf("the plan lists %d manifests, want 2", len(p.Manifests))
	}
	w.listed(p)
	w.done(p)
	if !w.has(layout.ManifestKey("app", stays)) || !w.has(layout.BlobKey(digest.FromString("base"))) {
		t.Error("the image that was used has lost a part")
	}
}

// chaos stores images at random, some of them in several repositories, with parts and layers in common, and uses some.
func (w *world) chaos(r *rand.Rand) {
	w.t.Helper()
	repos, texts := []string{"app", "other", "third"}, []string{"base", "one", "two", "three"}
	some := func(n int) bool { return r.IntN(n) == 0 }
	unread := map[layout.Key]bool{}
	var made []digest.Digest
	of := map[digest.Digest]string{}
	for range 3 {
		for range 4 {
			list, subject := "layers", digest.Digest("")
			var parts []digest.Digest
			if len(made) > 0 && some(3) {
				list = "manifests"
				parts = append(parts, made[r.IntN(len(made))], made[r.IntN(len(made))])
			} else {
				parts = append(parts, digest.FromString(texts[r.IntN(len(texts))]),
					digest.FromString(texts[r.IntN(len(texts))]))
			}
			if len(made) > 0 && some(4) {
				subject = made[r.IntN(len(made))]
			}
			for n, repo := range repos {
				if n > 0 && some(2) {
					continue
				}
				if list == "layers" {
					for _, text := range texts {
						if slices.Contains(parts, digest.FromString(text)) && !some(5) {
							w.layer(repo, text)
						}
					}
				}
				d := w.manifest(repo, list, parts, subject)
				if of[d] == "" {
					of[d] = repo
					made = append(made, d)
				}
				for _, tag := range []string{"v1", "v2", "dev"} {
					if some(5) {
						w.tag(repo, tag, d)
					}
				}
			}
		}
		w.adopt(false)
		if k := layout.ManifestKey(repos[r.IntN(len(repos))], made[r.IntN(len(made))]); !w.has(k) {
			unread[k] = true
		}
		w.pass(time.Duration(r.IntN(6)) * time.Hour)
		for range 2 {
			repo := repos[r.IntN(len(repos))]
			_, err := w.Index.Lease(w.t.Context(), layout.TagKey(repo, "v1"),
				layout.ManifestKey(repo, made[r.IntN(len(made))]))
			w.must(err)
		}
	}
	for k := range unread { // last: a comparison would read them
		w.unread(k.Repository, k.Digest)
	}
	w.pass(time.Duration(r.IntN(12)) * time.Hour)
}

// chance is a policy with rules at random.
func chance(r *rand.Rand) index.Policy {
	var rs []rule.Rule
	for range r.IntN(4) {
		one := rule.Rule{Repository: []string{"", "app", "*"}[r.IntN(3)], Tag: []string{"", "v*", "dev"}[r.IntN(3)]}
		switch r.IntN(4) {
		case 0:
			one.Keep = ptr(true)
		case 1:
			one.KeepLast = ptr(1 + r.IntN(2))
		case 2:
			one.Tag, one.UntaggedTTL = "", ptr(time.Duration(1+r.IntN(20))*time.Hour)
		default:
			one.TTL = ptr(time.Duration(1+r.IntN(20)) * time.Hour)
		}
		rs = append(rs, one)
	}
	return under(rs...)
}

// pinSome pins some of what there is; often nothing.
func (w *world) pinSome(r *rand.Rand) {
	var pins []index.Pin
	w.must(w.Index.View(w.t.Context(), func(ix index.Reader) error {
		add := func(row index.Row) error {
			if row.Placed && r.IntN(8) == 0 {
				pins = append(pins, index.Pin{Key: row.Key, Made: w.now})
			}
			return nil
		}
		return errors.Join(ix.Each(layout.Tag, add), ix.Each(layout.Manifest, add))
	}))
	if r.IntN(2) == 0 {
		w.must(w.Index.SetPins(w.t.Context(), pins...))
	}
}

// TestAPlanListsNothingThatIsNeededOutsideOfIt makes plans of random stores. As nothing happens in between, each is
// executed as it is.
func TestAPlanListsNothingThatIsNeededOutsideOfIt(t *testing.T) {
	lists := [4]int{}
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w, r := newWorld(t), rand.New(rand.NewPCG(seed, 0))
			w.chaos(r)
			w.pinSome(r)
			w.Index = &asked{Store: w.Index, T: t}
			for range 3 {
				p, err := w.NewPlan(t.Context(), chance(r))
				w.must(err)
				for n, rows := range [][]index.Row{p.Tags, p.Manifests, p.Layers, p.Blobs} {
					lists[n] += len(rows)
				}
				w.listed(p)
				w.done(p)
				w.pass(time.Duration(r.IntN(8)) * time.Hour)
			}
		})
	}
	if slices.Contains(lists[:], 0) {
		t.Errorf("the plans list %v tags, manifests, links and blobs, want some of each", lists)
	}
}
