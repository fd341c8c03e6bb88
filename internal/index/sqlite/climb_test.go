package sqlite

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// However few manifests are read to find the one that was used last, it is the one that the plain question finds. All
// ways to find it are taken.
func TestTheLastOwnerIsTheLastOfAll(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, func() time.Time { return now })
	defer s.Close()
	random := rand.New(rand.NewPCG(1, 2))

	const lately, longAgo, claims, few, one = 3, 7, 11, 200, 1999 // every so many of the manifests name a layer
	every := []int{lately, longAgo, claims, few, one}
	var looks []index.Look
	for i := range 4000 {
		c := &manifest.Manifest{}
		at := now.Add(-time.Duration(1+random.IntN(100)) * time.Second) // many at one time
		for _, n := range every {
			if i%n == n-1 {
				c.References = append(c.References, digest.FromString(fmt.Sprint("layer ", n)))
			}
		}
		if i%longAgo == longAgo-1 {
			at = at.Add(-time.Hour)
		}
		repo, d := []string{"a", "b"}[random.IntN(2)], digest.FromString(fmt.Sprint(i))
		m := index.Adoption{At: at, Claim: index.Claim{Key: layout.ManifestKey(repo, d), Manifest: c, WithBlob: true}}
		looks = append(looks, func() (index.Adoption, bool, error) { return m, true, nil })
		if i%claims == claims-1 {
			looks = append(looks, func() (index.Adoption, bool, error) { return m, false, nil })
		}
		if random.IntN(3) == 0 {
			tag := index.Adoption{At: at, Claim: index.Claim{Key: layout.TagKey(repo, fmt.Sprint(i))}, Digest: d}
			looks = append(looks, func() (index.Adoption, bool, error) { return tag, true, nil })
		}
	}
	if err := s.Adopt(t.Context(), looks...); err != nil {
		t.Fatal(err)
	}
	seen := listen(t)
	err := s.begin(t.Context(), func(tx *tx) error {
		for _, repo := range []string{"a", "b", "c"} {
			for _, n := range append(every, 0) { // no manifest names the last
				name := fmt.Sprint("layer ", n)
				got, found, err := tx.lastOwner(repo, digest.FromString(name))
				if err != nil {
					return err
				}
				var last int64
				there, err := tx.one([]any{&last}, `SELECT m.accessed_at
					FROM refs f CROSS JOIN manifests m ON m.digest = f.parent AND m.repo = f.repo
					WHERE f.child = +?1 AND f.repo = +?2 AND m.placed = 1 ORDER BY m.accessed_at DESC LIMIT 1`,
					packed(digest.FromString(name)), repository(repo))
				if err != nil {
					return err
				}
				want := namer{got.digest, last, false} // or another one that was used then
				row, err := tx.row(layout.ManifestKey(repo, got.digest))
				if err != nil {
					return err
				}
				tags, err := tx.tags(repo, got.digest)
				if err != nil {
					return err
				}
				want.tagged = len(tags) > 0
				if found != there || found && (got != want || !row.Placed || row.AccessedAt.UnixMilli() != last) {
					t.Errorf("%s, named in %s: %v %+v, want %v %+v", name, repo, found, got, there, want)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{lastOfFew, lastOfLatest, lastOfAll} {
		if seen.statements[statement] == nil {
			t.Errorf("not run:\n%s", statement)
		}
	}
}

// A read of a layer that thousands of images have reads few of their manifests, if one of them was used lately.
func TestALayerOfManyImagesFindsTheLastUsedOneAmongTheLatest(t *testing.T) {
	ctx, now := t.Context(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, func() time.Time { return now })
	defer s.Close()
	link := layout.LayerKey("a", digest.FromString("base"))
	looks := []index.Look{func() (index.Adoption, bool, error) {
		return index.Adoption{Claim: index.Claim{Key: link, WithBlob: true}}, true, nil
	}}
	for i := range 2 * manyOwners {
		a := index.Adoption{Claim: index.Claim{Key: layout.ManifestKey("a", digest.FromString(fmt.Sprint(i))), WithBlob: true,
			Manifest: &manifest.Manifest{References: []digest.Digest{link.Digest}}}}
		looks = append(looks, func() (index.Adoption, bool, error) { return a, true, nil })
	}
	if err := s.Adopt(ctx, looks...); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	used := layout.ManifestKey("a", digest.FromString("7"))
	if _, err := s.Lease(ctx, used); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	seen := listen(t)
	if _, err := s.LeaseBytes(ctx, link.Repository, link.Digest, now); err != nil {
		t.Fatal(err)
	}
	if seen.statements[lastOfLatest] == nil || seen.statements[lastOfAll] != nil {
		t.Error("all manifests that name the layer were read")
	}
	var at int64
	ask(t, s, []any{&at}, "SELECT accessed_at FROM manifests WHERE digest = ?", packed(used.Digest))
	if at != now.UnixMilli() {
		t.Errorf("the image was last used at %v, want %v", millis(at), now)
	}
}
