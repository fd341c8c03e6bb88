package indextest

import (
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

var errFailed = errors.New("the rename failed")

func fails() error { return errFailed }

var claims = []test{
	{"a claim is a row that is not placed and not counted", func(s *scene) {
		s.must(s.Claim(s.Context(), blobClaim("b")))
		s.must(s.Claim(s.Context(), manClaim("a", "m", content(""))))
		s.check(!s.row(blob("b")).Placed && !s.row(man("a", "m")).Placed, "a claim counts as placed")
		s.check(s.totals() == index.Totals{}, "totals %+v, want none", s.totals())
		s.used(blob("b"), s.Now())
	}},
	{"a claim is written through each time and counts as use", func(s *scene) {
		k := s.layer("a", "l")
		s.later(time.Millisecond)
		s.must(s.Claim(s.Context(), index.Claim{Key: k}))
		s.used(k, s.Now())
		s.check(s.row(k).Placed, "a claim took a placed row back")
	}},
	{"placing a claim counts its file and its use", func(s *scene) {
		s.must(s.Claim(s.Context(), blobClaim("b")))
		s.later(time.Second)
		s.must(Place(s.Context(), s, blobClaim("b"), nothing))
		s.used(blob("b"), s.Now())
		s.image("a", "m")
		s.image("b", "m")
		want := index.Totals{Manifests: 2, Blobs: 2, Bytes: size("b") + size("m")}
		s.check(s.totals() == want, "totals %+v, want %+v", s.totals(), want)
	}},
	{"a placed size replaces a claimed one", func(s *scene) {
		c := blobClaim("b")
		c.Size = 0
		s.must(s.Claim(s.Context(), c))
		s.put(blobClaim("b"))
		s.must(s.Claim(s.Context(), c))
		want := index.Totals{Blobs: 1, Bytes: size("b")}
		s.check(s.totals() == want, "totals %+v, want %+v", s.totals(), want)
		s.check(s.row(blob("b")).Size == size("b"), "the row has size %d", s.row(blob("b")).Size)
	}},
	{"a failing rename leaves the index unchanged", func(s *scene) {
		s.layer("a", "l")
		s.must(s.Claim(s.Context(), blobClaim("b")))
		s.later(time.Second)
		for _, c := range []index.Claim{
			blobClaim("b"), blobClaim("new"), blobClaim("l"), {Key: link("a", "l")}, {Key: link("b", "l")},
			manClaim("a", "m", content("s", "l")),
		} {
			s.unchanged(func() {
				err := Place(s.Context(), s, c, fails)
				s.check(errors.Is(err, errFailed), "placing %v: %v, want the error of the rename", c.Key, err)
			})
		}
		s.view(func(r index.Reader) error {
			refs, err := r.References("a", dg("m"))
			s.check(len(refs) == 0, "a manifest that was not placed left references %v", refs)
			return err
		})
	}},
	{"a claim that is gone in between is renewed by placing", func(s *scene) {
		c := manClaim("a", "m", content("", "l"))
		l := s.layer("a", "l")
		s.must(s.Claim(s.Context(), c))
		s.later(time.Hour)
		s.dies(c.Key)
		s.must(Place(s.Context(), s, c, nothing))
		s.used(c.Key, s.Now())
		s.check(s.row(c.Key).Placed, "the row is not placed")
		s.later(time.Hour)
		s.lives(l) // so its references came back too
	}},
	{"a link and a blob whose claims are gone are renewed by placing", func(s *scene) {
		for _, c := range []index.Claim{blobClaim("l"), {Key: link("a", "l")}} {
			s.must(s.Claim(s.Context(), c))
			s.later(time.Hour)
			s.dies(c.Key)
			s.must(Place(s.Context(), s, c, nothing))
			s.check(s.row(c.Key).Placed, "%v is not placed", c.Key)
		}
	}},
	{"a claimed manifest holds its references", func(s *scene) {
		l := s.layer("a", "l")
		s.later(time.Hour)
		s.must(s.Claim(s.Context(), manClaim("a", "m", content("", "l"))))
		s.lives(l)
	}},
	{"unclaiming takes a claim and what it held is free", func(s *scene) {
		l := s.layer("a", "l")
		s.must(s.Claim(s.Context(), manClaim("a", "m", content("", "l"))))
		s.must(s.Unclaim(s.Context(), man("a", "m")))
		s.gone(man("a", "m"))
		s.later(time.Hour)
		s.dies(l)
	}},
	{"unclaiming does not take a placed row", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m", "l")
		s.unchanged(func() {
			for _, k := range []layout.Key{blob("l"), l, m} {
				s.must(s.Unclaim(s.Context(), k))
			}
		})
	}},
	{"unclaiming what nobody claimed is no error", func(s *scene) {
		s.must(s.Unclaim(s.Context(), blob("b")))
		s.must(s.Unclaim(s.Context(), man("a", "m")))
	}},
	{"a manifest without its content and a tag cannot be claimed", func(s *scene) {
		s.unchanged(func() {
			s.check(s.Claim(s.Context(), index.Claim{Key: man("a", "m")}) != nil, "claimed a manifest without content")
			s.check(s.Claim(s.Context(), index.Claim{Key: tagged("a", "v1")}) != nil, "claimed a tag")
		})
	}},
	{"many claims are one change, all or none", func(s *scene) {
		s.must(s.Claim(s.Context(), blobClaim("b"), manClaim("a", "m", content("", "l")),
			index.Claim{Key: link("a", "l")}))
		for _, k := range []layout.Key{blob("b"), man("a", "m"), link("a", "l")} {
			s.used(k, s.Now())
		}
		s.later(time.Second)
		s.unchanged(func() {
			s.check(s.Claim(s.Context(), blobClaim("c"), index.Claim{Key: tagged("a", "v1")}) != nil, "claimed a tag")
		})
		s.must(s.Unclaim(s.Context(), man("a", "m"), link("a", "l")))
		s.gone(man("a", "m"))
		s.gone(link("a", "l"))
	}},
	{"of many placings one that is refused undoes only itself", func(s *scene) {
		s.image("old", "m0")
		s.tag("old", "v1", "m0")
		s.later(time.Second)
		var order []layout.Key
		of := func(c index.Claim, to string, err error) index.Placing {
			return index.Placing{Claim: c, To: dg(to), Rename: func() error {
				order = append(order, c.Key)
				return err
			}}
		}
		ps := []index.Placing{
			of(blobClaim("l"), "", nil),
			of(index.Claim{Key: link("a", "l")}, "", nil),
			of(manClaim("refused", "r", content("", "l")), "", errFailed), // the first of its repository
			of(index.Claim{Key: tagged("old", "v1")}, "r", errFailed),
			of(index.Claim{Key: link("refused", "l")}, "", nil), // whose repository is unknown again
			of(manClaim("a", "m", content("", "l")), "", nil),
			of(index.Claim{Key: tagged("a", "v1")}, "m", nil),
		}
		var errs []error
		for len(errs) < len(ps) { // a transaction may end before it has come to all
			some := s.Place(s.Context(), ps[len(errs):]...)
			s.check(len(some) > 0, "it came to none")
			errs = append(errs, some...)
		}
		for i, p := range ps {
			refused := i == 2 || i == 3
			s.check(errors.Is(errs[i], errFailed) == refused, "%v: %v", p.Key, errs[i])
			s.check(order[i] == p.Key, "%v was placed as number %d", p.Key, i)
			if !refused {
				s.used(p.Key, s.Now())
			}
		}
		s.gone(man("refused", "r"))
		s.check(s.row(tagged("old", "v1")).Digest == dg("m0"), "a tag that was refused moved")
		s.later(time.Hour)
		s.lives(link("a", "l"))
		s.dies(link("refused", "l"))
	}},
	{"a claim by another process is the same row", func(s *scene) {
		other := s.second()
		s.must(other.Claim(s.Context(), blobClaim("b")))
		s.must(Place(s.Context(), s, blobClaim("b"), nothing))
		s.must(other.Unclaim(s.Context(), blob("b")))
		s.check(s.row(blob("b")).Placed, "another process took a placed row back")
	}},
}

var tags = []test{
	{"a tag moves with its row and its use", func(s *scene) {
		s.image("a", "m1")
		s.image("a", "m2")
		k := s.tag("a", "v1", "m1")
		s.later(time.Second)
		s.tag("a", "v1", "m2")
		r := s.row(k)
		s.check(r.Digest == dg("m2"), "the tag points to %v", r.Digest)
		s.used(k, s.Now())
		s.check(s.totals().Tags == 1, "%d tags, want 1", s.totals().Tags)
	}},
	{"a tag that cannot move stays where it was", func(s *scene) {
		s.image("a", "m1")
		s.image("a", "m2")
		s.tag("a", "v1", "m1")
		s.later(time.Second)
		s.unchanged(func() {
			err := MoveTag(s.Context(), s, "a", "v1", dg("m2"), fails)
			s.check(errors.Is(err, errFailed), "moving the tag: %v", err)
			err = MoveTag(s.Context(), s, "a", "v2", dg("m2"), fails)
			s.check(errors.Is(err, errFailed), "making the tag: %v", err)
		})
		s.later(time.Hour)
		s.lives(man("a", "m1"))
		s.dies(man("a", "m2"))
	}},
	{"what a tag left is free and what it came to is kept", func(s *scene) {
		m1, m2 := s.image("a", "m1"), s.image("a", "m2")
		s.tag("a", "v1", "m1")
		s.tag("a", "v1", "m2")
		s.later(time.Hour)
		s.lives(m2)
		s.dies(m1)
	}},
	{"a tag that is pushed again was made when it was first pushed, and a moved one when it moved", func(s *scene) {
		s.image("a", "m1")
		s.image("a", "m2")
		k := s.tag("a", "v1", "m1")
		first := s.row(k).CreatedAt
		s.later(time.Second)
		s.tag("a", "v1", "m1")
		s.check(s.row(k).CreatedAt.Equal(first), "created at %v, want %v", s.row(k).CreatedAt, first)
		s.tag("a", "v1", "m2")
		s.check(s.row(k).CreatedAt.Equal(s.Now()), "created at %v, want %v", s.row(k).CreatedAt, s.Now())
	}},
}
