package indextest

import (
	_ "crypto/sha512" // digests know the algorithms that are linked
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// lists wants a method of the reader to list these rows, in this order.
func (s *scene) lists(what string, each func(index.Reader, func(index.Row) error) error, want ...layout.Key) {
	s.Helper()
	s.view(func(r index.Reader) error {
		rows, err := list(func(f func(index.Row) error) error { return each(r, f) })
		s.check(slices.Equal(keys(rows), want), "%s lists %v, want %v", what, keys(rows), want)
		return err
	})
}

func unreferenced(kind layout.Kind, before time.Time) func(index.Reader, func(index.Row) error) error {
	return func(r index.Reader, f func(index.Row) error) error { return r.Unreferenced(kind, before, f) }
}

func claimed(before time.Time) func(index.Reader, func(index.Row) error) error {
	return func(r index.Reader, f func(index.Row) error) error { return r.Claims(before, f) }
}

func idleTags(before time.Time) func(index.Reader, func(index.Row) error) error {
	return func(r index.Reader, f func(index.Row) error) error { return r.IdleTags(before, f) }
}

var reading = []test{
	{"a row says what was claimed", func(s *scene) {
		c := content("subject", "config", "l")
		c.ArtifactType, c.Config = "application/vnd.artifact", dg("config")
		at := s.Now()
		s.must(Place(s.Context(), s, manClaim("team/app", "m", c), nothing))
		s.later(time.Second)
		s.lease(man("team/app", "m"))
		want := index.Row{Key: man("team/app", "m"), Digest: dg("m"), Size: size("m"), Placed: true, CreatedAt: at,
			AccessedAt: s.Now(),
			MediaType:  c.MediaType, Artifact: c.ArtifactType, Config: dg("config"), Subject: dg("subject")}
		got := s.row(man("team/app", "m"))
		s.check(got == want, "the row is\n%+v, want\n%+v", got, want)
	}},
	{"digests of every algorithm are kept", func(s *scene) {
		for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
			d := a.FromString("x")
			s.put(index.Claim{Key: layout.BlobKey(d), Size: 1})
			s.put(index.Claim{Key: layout.ManifestKey("a", d), Manifest: &manifest.Manifest{Config: d, Subject: d,
				References: []digest.Digest{d}}})
			r := s.row(layout.ManifestKey("a", d))
			s.check(r.Digest == d && r.Config == d && r.Subject == d, "the row is %+v, want the digest %v", r, d)
		}
	}},
	{"idle tags are listed oldest first, if their manifests are idle too", func(s *scene) {
		for i, m := range []string{"m1", "m2", "m3", "m4"} {
			s.image("a", m)
			s.tag("a", fmt.Sprint("v", 4-i), m)
			s.later(time.Minute)
		}
		dangling := s.tag("a", "dangling", "nothing")
		s.later(time.Hour)
		before := s.Now()
		s.lease(man("a", "m2"))
		s.lease(tagged("a", "v1"))
		s.image("b", "m1") // another repository's does not count
		s.lists("IdleTags", idleTags(before), tagged("a", "v4"), tagged("a", "v2"), dangling)
		s.lists("IdleTags of never", idleTags(time.Time{}))
	}},
	{"unreferenced rows are listed oldest first, and claims of manifests by themselves", func(s *scene) {
		s.layer("a", "l3")
		s.later(time.Minute)
		s.layer("b", "l2")
		s.layer("a", "named")
		s.later(time.Minute)
		s.layer("a", "l1")
		s.put(blobClaim("free"))
		s.image("a", "m", "named")
		s.image("a", "kept")
		s.image("a", "top", "kept")
		s.later(time.Minute)
		s.image("a", "tagged")
		s.tag("a", "v1", "tagged")
		s.referrer("a", "sig", "m")
		orphan := s.referrer("b", "sig", "m")
		before := s.Now().Add(time.Millisecond)
		s.lists("unreferenced layers", unreferenced(layout.Layer, before), link("a", "l3"), link("b", "l2"),
			link("a", "l1"))
		s.lists("unreferenced blobs", unreferenced(layout.Blob, before), blob("free"))
		s.must(s.Claim(s.Context(), manClaim("a", "claim", content(""))))
		s.image("a", "over", "claim too")
		s.must(s.Claim(s.Context(), manClaim("a", "claim too", content(""))))
		s.view(func(r index.Reader) error {
			rows, err := list(func(f func(index.Row) error) error { return r.Unreferenced(layout.Manifest, before, f) })
			want := []layout.Key{man("a", "m"), man("a", "top"), man("a", "over"), orphan}
			s.check(same(keys(rows), want), "unreferenced manifests are %v, want %v", keys(rows), want)
			return err
		})
		s.lists("claims", claimed(before), man("a", "claim"))
		s.lists("unreferenced layers of never", unreferenced(layout.Layer, time.Time{}))
		s.lists("unreferenced layers used before now", unreferenced(layout.Layer, s.Now().Add(-time.Minute)),
			link("a", "l3"), link("b", "l2"))
	}},
	{"an error of the function that reads ends the reading", func(s *scene) {
		s.every()
		s.put(blobClaim("free"))
		n := 0
		stop := func(index.Row) error { n++; return errFailed }
		for _, read := range []func(index.Reader) error{
			func(index.Reader) error { return errFailed },
			func(r index.Reader) error { return r.Each(layout.Blob, stop) },
			func(r index.Reader) error { return r.Unreferenced(layout.Blob, s.Now().Add(time.Hour), stop) },
			func(r index.Reader) error { return r.IdleTags(s.Now().Add(time.Hour), stop) },
		} {
			err := s.View(s.Context(), read)
			s.check(errors.Is(err, errFailed), "got %v, want the error", err)
		}
		s.check(n == 3, "%d rows were read, want 3", n)
	}},
	{"one view is one state, and holds up no writer", func(s *scene) {
		s.put(blobClaim("before"))
		other := s.second()
		s.view(func(r index.Reader) error {
			t, err := r.Totals()
			s.must(err)
			s.check(t.Blobs == 1, "%d blobs, want 1", t.Blobs)
			s.must(Place(s.Context(), s, blobClaim("during"), nothing))
			s.must(Place(s.Context(), other, blobClaim("during too"), nothing))
			t, err = r.Totals()
			s.check(t.Blobs == 1, "the view changed: %d blobs, want 1", t.Blobs)
			row, err2 := r.Row(blob("during"))
			s.check(row == nil, "the view changed: %+v", row)
			return errors.Join(err, err2)
		})
		s.row(blob("during"))
	}},
}
