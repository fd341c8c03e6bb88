package indextest

import (
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// refused wants an error that names the manifest which needs k.
func (s *scene) refused(err error, k layout.Key, by digest.Digest) {
	s.Helper()
	var e *index.ReferencedError
	s.check(errors.As(err, &e) && e.Key == k && e.By == by, "%v: %v, want a refusal for manifest %v", k, err, by)
}

var deletion = []test{
	{"a layer that a manifest of the repository needs cannot be deleted", func(s *scene) {
		l := s.layer("a", "l")
		s.image("a", "m", "l")
		s.unchanged(func() {
			err := s.DeleteLayer(s.Context(), "a", dg("l"), func() error {
				s.Error("remove was called")
				return nil
			})
			s.refused(err, l, dg("m"))
		})
	}},
	{"a layer that only a manifest of another repository needs can be deleted", func(s *scene) {
		l := s.layer("a", "l")
		s.layer("b", "l")
		s.image("b", "m", "l")
		s.must(s.DeleteLayer(s.Context(), "a", dg("l"), nothing))
		s.gone(l)
		s.row(link("b", "l"))
	}},
	{"a child of an index cannot be deleted, and the index can", func(s *scene) {
		child, top := s.image("a", "child"), s.image("a", "top", "child")
		s.tag("a", "v1", "child")
		s.unchanged(func() {
			s.refused(s.DeleteManifest(s.Context(), "a", dg("child"), noTags), child, dg("top"))
		})
		s.must(s.DeleteManifest(s.Context(), "a", dg("top"), noTags))
		s.gone(top)
		s.must(s.DeleteManifest(s.Context(), "a", dg("child"), noTags))
		s.gone(child, tagged("a", "v1"))
	}},
	{"a claimed manifest protects its layers too", func(s *scene) {
		l := s.layer("a", "l")
		s.must(s.Claim(s.Context(), manClaim("a", "m", content("", "l"))))
		s.refused(s.DeleteLayer(s.Context(), "a", dg("l"), nothing), l, dg("m"))
	}},
	{"a subject and a referrer can be deleted", func(s *scene) {
		m, sig := s.image("a", "m"), s.referrer("a", "sig", "m")
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), noTags))
		s.gone(m)
		s.must(s.DeleteManifest(s.Context(), "a", dg("sig"), noTags))
		s.gone(sig)
	}},
	{"a manifest goes with its tags", func(s *scene) {
		m := s.image("a", "m")
		s.image("b", "m")
		s.image("a", "other")
		s.tag("a", "v1", "m")
		s.tag("a", "v2", "m")
		s.tag("a", "v3", "other")
		s.tag("b", "v1", "m")
		var names []string
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), func(tags []string) error {
			names = slices.Sorted(slices.Values(tags))
			return nil
		}))
		s.check(slices.Equal(names, []string{"v1", "v2"}), "remove got the tags %v", names)
		s.gone(m, tagged("a", "v1"), tagged("a", "v2"))
		for _, k := range []layout.Key{tagged("a", "v3"), tagged("b", "v1"), man("b", "m"), blob("m")} {
			s.row(k)
		}
	}},
	{"a deletion whose files stay leaves the index unchanged", func(s *scene) {
		s.every()
		s.layer("a", "free")
		s.unchanged(func() {
			for _, err := range []error{
				s.DeleteTag(s.Context(), "a", "v1", fails),
				s.DeleteManifest(s.Context(), "a", dg("m"), func([]string) error { return errFailed }),
				s.DeleteLayer(s.Context(), "a", dg("free"), fails),
			} {
				s.check(errors.Is(err, errFailed), "got %v, want the error of the removal", err)
			}
		})
	}},
	{"what has no row is removed from disk all the same", func(s *scene) {
		n := 0
		count := func() error { n++; return nil }
		s.must(s.DeleteTag(s.Context(), "a", "v1", count))
		s.must(s.DeleteLayer(s.Context(), "a", dg("l"), count))
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), func([]string) error { return count() }))
		s.check(n == 3, "remove was called %d times, want 3", n)
	}},
	{"a tag of a manifest that has no row goes with its deletion", func(s *scene) {
		s.tag("a", "v1", "m")
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), noTags))
		s.gone(tagged("a", "v1"))
	}},
	{"what was deleted and pushed again is there", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m")
		s.must(s.DeleteLayer(s.Context(), "a", dg("l"), nothing))
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), noTags))
		s.gone(l, m)
		s.layer("a", "l")
		s.image("a", "m")
		s.lives(l, m)
	}},
	{"content keeps its time when its names are deleted", func(s *scene) {
		s.layer("a", "l")
		s.must(s.DeleteLayer(s.Context(), "a", dg("l"), nothing))
		s.lives(blob("l"))
		s.later(time.Hour)
		s.dies(blob("l"))
	}},
}
