package indextest

import (
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// every pushes one of each kind and returns the keys.
func (s *scene) every() []layout.Key {
	s.Helper()
	l, m := s.layer("a", "l"), s.image("a", "m", "l")
	return []layout.Key{blob("l"), l, m, s.tag("a", "v1", "m")}
}

var leases = []test{
	{"a lease finds what has a row and records the use", func(s *scene) {
		for _, k := range s.every() {
			s.later(time.Second)
			s.check(s.lease(k), "%v was not found", k)
			s.used(k, s.Now())
		}
	}},
	{"a lease of what has no row finds nothing and makes no row", func(s *scene) {
		s.every()
		s.unchanged(func() {
			for _, k := range []layout.Key{blob("x"), link("b", "l"), man("b", "m"), tagged("a", "v2"),
				tagged("b", "v1"), link("a", "m"), man("a", "l")} {
				s.check(!s.lease(k), "%v was found", k)
			}
		})
	}},
	{"a lease of a claim finds it", func(s *scene) {
		s.must(s.Claim(s.Context(), blobClaim("b")))
		s.check(s.lease(blob("b")), "the claim was not found")
		s.check(!s.row(blob("b")).Placed, "a lease placed a claim")
	}},
	{"a lease by a process whose clock is behind takes no use back", func(s *scene) {
		ks := s.every()
		slow := newWall()
		slow.move(-time.Hour)
		other := s.open(Beside, slow)
		s.unchanged(func() {
			for _, k := range ks {
				_, err := other.Lease(s.Context(), k)
				s.must(err)
			}
		})
	}},
	{"a claim, a retag and an adoption by a process whose clock is behind take no use back", func(s *scene) {
		s.every()
		slow := newWall()
		slow.move(-time.Hour)
		other := s.open(Beside, slow)
		s.unchanged(func() {
			for _, c := range []index.Claim{blobClaim("l"), {Key: link("a", "l")},
				manClaim("a", "m", content("", "l"))} {
				s.must(other.Claim(s.Context(), c))
				s.must(Place(s.Context(), other, c, nothing))
			}
			s.must(MoveTag(s.Context(), other, "a", "v1", dg("m"), nothing))
		})
	}},
	{"a lease keeps a link and its blob, though nobody used the blob's own row", func(s *scene) {
		l := s.layer("a", "l")
		s.later(time.Hour)
		s.lease(l)
		s.lives(l, blob("l"))
	}},
	{"a lease in one repository keeps no link in another", func(s *scene) {
		l, other := s.layer("a", "l"), s.layer("b", "l")
		s.later(time.Hour)
		s.lease(l)
		s.dies(other)
		s.lives(l, blob("l"))
	}},
	{"a lease of a key that is no digest is an error", func(s *scene) {
		_, err := s.Lease(s.Context(), layout.BlobKey("sha256:zz"))
		s.check(err != nil, "leased a blob without a digest")
	}},
}

func found(c index.Claim) index.Adoption { return index.Adoption{Claim: c} }

func foundTag(repo, tag, name string) index.Adoption {
	return index.Adoption{Claim: index.Claim{Key: tagged(repo, tag)}, Digest: dg(name)}
}

var adoption = []test{
	{"what was unknown is placed and used now", func(s *scene) {
		s.later(time.Hour)
		s.adopt(found(blobClaim("l")), found(index.Claim{Key: link("a", "l")}), found(blobClaim("m")),
			found(manClaim("a", "m", content("", "l"))), foundTag("a", "v1", "m"))
		for _, k := range []layout.Key{blob("l"), link("a", "l"), blob("m"), man("a", "m"), tagged("a", "v1")} {
			s.used(k, s.Now())
			s.check(s.row(k).Placed, "%v is not placed", k)
		}
		want := index.Totals{Tags: 1, Manifests: 1, Blobs: 2, Bytes: size("l") + size("m")}
		s.check(s.totals() == want, "totals %+v, want %+v", s.totals(), want)
		s.check(s.row(tagged("a", "v1")).Digest == dg("m"), "the tag points to %v", s.row(tagged("a", "v1")).Digest)
	}},
	{"an adopted manifest holds what it names and is held by its tag", func(s *scene) {
		s.adopt(foundTag("a", "v1", "m"), found(manClaim("a", "m", content("", "l"))),
			found(index.Claim{Key: link("a", "l")}), found(blobClaim("l")))
		s.later(time.Hour)
		s.lives(blob("l"), link("a", "l"), man("a", "m"))
	}},
	{"a last use that is known is honoured", func(s *scene) {
		past := s.Now().Add(-time.Hour)
		for _, a := range []index.Adoption{found(blobClaim("l")), found(index.Claim{Key: link("a", "l")}),
			found(manClaim("a", "m", content(""))), foundTag("a", "v1", "m")} {
			a.At = past
			s.adopt(a)
			s.used(a.Key, past)
		}
	}},
	{"a manifest that is found takes the last use of what keeps it", func(s *scene) {
		past := s.Now().Add(-time.Hour)
		old := func(c index.Claim) index.Adoption { return index.Adoption{Claim: c, At: past} }
		s.image("a", "top", "child")
		s.tag("a", "v1", "tagged")
		s.adopt(old(manClaim("a", "child", content(""))), old(manClaim("a", "tagged", content(""))),
			old(manClaim("a", "sig", content("child"))))
		for _, name := range []string{"child", "tagged", "sig"} {
			s.used(man("a", name), s.Now())
		}
	}},
	{"a tag that moves as it is found takes along the use that another tag gave it just before", func(s *scene) {
		s.image("a", "m")
		s.image("a", "other")
		s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.adopt(foundTag("a", "new", "m"), foundTag("a", "v1", "other"))
		for _, k := range []layout.Key{man("a", "m"), tagged("a", "v1"), man("a", "other")} {
			s.used(k, s.Now())
		}
	}},
	{"a last use in the future is now", func(s *scene) {
		a := found(blobClaim("b"))
		a.At = s.Now().Add(time.Hour)
		s.adopt(a)
		s.used(a.Key, s.Now())
	}},
	{"what is known is not used by being found, now or by file time", func(s *scene) {
		s.every()
		s.later(time.Hour)
		s.unchanged(func() {
			for _, at := range []time.Time{{}, s.Now(), s.Now().Add(-10 * time.Hour)} {
				for _, a := range []index.Adoption{found(blobClaim("l")), found(index.Claim{Key: link("a", "l")}),
					found(manClaim("a", "m", content("", "l"))), foundTag("a", "v1", "m")} {
					a.At = at
					s.adopt(a)
				}
			}
		})
	}},
	{"a blob of another size than is known is damaged, and counts again when it has its size", func(s *scene) {
		s.put(blobClaim("l"))
		short := blobClaim("l")
		short.Size--
		for range 2 {
			s.adopt(found(short))
			s.check(!s.row(blob("l")).Placed, "a damaged blob is placed")
			s.check(s.row(blob("l")).Size == size("l"), "a damaged blob has %d bytes, want %d", s.row(blob("l")).Size,
				size("l"))
			s.check(s.totals() == index.Totals{}, "totals %+v", s.totals())
		}
		s.adopt(found(blobClaim("l")))
		s.check(s.row(blob("l")).Placed, "a whole blob is not placed")
	}},
	{"a blob whose bytes were read has the size that it has", func(s *scene) {
		s.put(blobClaim("l"))
		a := found(blobClaim("l"))
		a.Size, a.Bytes = a.Size+7, index.Right
		s.adopt(a)
		s.check(s.row(blob("l")).Placed && s.row(blob("l")).Size == a.Size, "the row is %+v", s.row(blob("l")))
		s.check(s.totals().Bytes == a.Size, "totals %+v", s.totals())
	}},
	{"a damaged blob has the size that is said, known before or not", func(s *scene) {
		s.adopt(found(index.Claim{Key: blob("known"), Size: 3}), found(index.Claim{Key: link("a", "known")}))
		for _, name := range []string{"known", "unknown"} {
			s.adopt(index.Adoption{Claim: index.Claim{Key: blob(name), Size: 9}, Bytes: index.Damaged})
			r := s.row(blob(name))
			s.check(!r.Placed && r.Size == 9, "the row is %+v", r)
			s.used(blob(name), s.Now())
		}
		s.check(s.totals() == index.Totals{}, "totals %+v", s.totals())
		s.later(time.Hour)
		s.lives(blob("known"))
		s.dies(blob("unknown"))
	}},
	{"a claim whose file is found is placed and keeps its use", func(s *scene) {
		s.must(s.Claim(s.Context(), index.Claim{Key: blob("b")}))
		at := s.Now()
		s.later(time.Hour)
		s.adopt(found(blobClaim("b")))
		s.used(blob("b"), at)
		want := index.Totals{Blobs: 1, Bytes: size("b")}
		s.check(s.totals() == want, "totals %+v, want %+v", s.totals(), want)
	}},
	{"references that were lost come back with a manifest that is found", func(s *scene) {
		l, m := s.layer("a", "l"), s.put(manClaim("a", "m", content("")))
		s.adopt(found(manClaim("a", "m", content("", "l"))))
		s.later(time.Hour)
		s.lives(l)
		s.dies(m)
	}},
	{"missing content is a claim again and leaves the totals", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m", "l")
		for _, k := range []layout.Key{blob("l"), l, m, blob("m")} {
			s.missing(k)
			s.missing(k)
			s.check(!s.row(k).Placed, "%v is placed", k)
		}
		s.check(s.totals() == index.Totals{}, "totals %+v, want none", s.totals())
		s.put(manClaim("a", "m", content("", "l")))
		s.put(blobClaim("m"))
		want := index.Totals{Manifests: 1, Blobs: 1, Bytes: size("m")}
		s.check(s.totals() == want, "totals %+v, want %+v", s.totals(), want)
	}},
	{"a missing manifest goes by the content cutoff", func(s *scene) {
		m := s.image("a", "m")
		s.missing(m)
		s.later(time.Hour)
		cut := cutoffs{content: s.Back(time.Minute)}
		s.check(s.retire(m, cut) != nil, "the manifest stays")
	}},
	{"a missing tag has no row any more and its manifest inherits its use", func(s *scene) {
		m, k := s.image("a", "m"), tagged("a", "v1")
		s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.lease(k)
		at := s.Now()
		s.later(30 * time.Second)
		s.missing(k)
		s.gone(k)
		s.used(m, at)
		s.lives(m)
		s.later(time.Hour)
		s.dies(m)
	}},
	{"what is missing and unknown makes no row", func(s *scene) {
		s.unchanged(func() {
			for _, k := range []layout.Key{blob("b"), link("a", "l"), man("a", "m"), tagged("a", "v1")} {
				s.missing(k)
			}
		})
	}},
	{"a tag that is read with another digest moves, and is not used by that", func(s *scene) {
		m1, m2 := s.image("a", "m1"), s.image("a", "m2")
		k := s.tag("a", "v1", "m1")
		s.later(time.Hour)
		s.lease(k)
		at := s.Now()
		s.later(30 * time.Second)
		s.adopt(foundTag("a", "v1", "m2"))
		s.check(s.row(k).Digest == dg("m2"), "the tag points to %v", s.row(k).Digest)
		s.used(k, at)
		s.used(m1, at)
		s.later(time.Hour)
		s.lives(m2)
		s.dies(m1)
	}},
	{"a look that fails leaves the index unchanged", func(s *scene) {
		s.unchanged(func() {
			err := s.Adopt(s.Context(), func() (index.Adoption, bool, error) {
				return found(blobClaim("b")), true,
					nil
			},
				func() (index.Adoption, bool, error) { return index.Adoption{}, false, errFailed })
			s.check(errors.Is(err, errFailed), "adopting: %v", err)
		})
	}},
}
