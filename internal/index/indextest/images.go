package indextest

import (
	"errors"
	"fmt"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

var images = []test{
	{"a pull of a layer does not keep the images that hold it", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m", "l")
		s.later(time.Hour)
		s.lease(l)
		s.lease(blob("l"))
		s.dies(m)
		s.lives(l, blob("l"))
	}},
	{"a read of a layer's bytes keeps the last used image that holds it, and no other", func(s *scene) {
		l := s.layer("a", "base")
		other, elsewhere := s.image("a", "other", "base"), s.image("b", "m", "base")
		var images []layout.Key
		for i := range 50 {
			s.later(time.Second)
			images = append(images, s.image("a", fmt.Sprint("m", i), "base"))
		}
		last := images[20]
		s.later(time.Second)
		s.lease(last)
		used := s.row(last).AccessedAt
		for range 5 {
			s.later(time.Hour)
			s.read("a", "base", s.Now())
			s.used(last, s.Now())
		}
		s.check(s.Now().Sub(used) > 4*time.Hour, "no time passed")
		for _, k := range append(images, other, elsewhere) {
			if k != last {
				s.dies(k)
			}
		}
		s.lives(last, l)
	}},
	{"a read of a layer's bytes writes its image only, from which the layer inherits", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m", "l")
		k := s.tag("a", "v1", "m")
		pushed := s.Now()
		s.later(time.Hour)
		links := s.read("a", "l", s.Now())
		read := s.Now()
		s.check(links[0].At.Equal(read), "the use is of %v, want %v", links[0].At, read)
		s.used(m, read)
		s.used(k, read)
		s.used(l, pushed)
		s.later(time.Second)
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), func([]string) error { return nil }))
		s.used(l, read)
		s.lives(l, blob("l"))
	}},
	{"a read of a layer's bytes writes nothing for an image that was used after a time", func(s *scene) {
		s.layer("a", "l")
		m := s.image("a", "m", "l")
		s.image("a", "top", "m")
		used := s.Now()
		s.later(time.Minute)
		s.lease(m) // which is no use of the index over it
		s.later(time.Minute)
		s.unchanged(func() {
			links := s.read("a", "l", used.Add(-time.Millisecond))
			s.check(links[0].At.Equal(used), "the use is of %v, want that of the index, %v", links[0].At, used)
		})
		s.check(s.read("a", "l", used)[0].At.Equal(s.Now()), "a use at the time itself counted as one after it")
		s.used(man("a", "top"), s.Now())
	}},
	{"a read of a layer's bytes finds the other layers of the manifest that it uses, and no others", func(s *scene) {
		for _, name := range []string{"one", "two", "three", "unknown"} {
			s.layer("a", name)
		}
		s.layer("b", "elsewhere")
		s.put(index.Claim{Key: link("a", "claim")})
		s.image("a", "older", "two", "three")
		s.later(time.Second)
		s.image("a", "m", "one", "two", "claim", "elsewhere")
		s.later(time.Second)
		for range 2 { // written, and not
			links := s.read("a", "two", s.Now().Add(-time.Second))
			s.check(links[0].Digest == dg("two") && len(links) == 3, "found %+v", links)
			for _, l := range links {
				claim := l.Digest == dg("claim")
				s.check(l.Found && l.Placed != claim && (claim || l.Digest == dg("one") || l.Digest == dg("two")) &&
					l.At.Equal(links[0].At), "found %+v", l)
			}
		}
	}},
	{"a read of the bytes of what has no link is no use of an image that names it", func(s *scene) {
		s.layer("a", "other")
		m := s.image("a", "m", "l", "other")
		s.later(time.Hour)
		s.check(!s.read("a", "l", s.Now())[0].Found, "a link without a row was found")
		s.dies(m)
	}},
	{"so it does where hundreds of images hold it, however many others were used since", func(s *scene) {
		s.layer("a", "base")
		var found []index.Adoption
		for i := range 300 {
			found = append(found, index.Adoption{Claim: manClaim("a", fmt.Sprint("m", i), content("", "base"))},
				index.Adoption{Claim: manClaim("b", fmt.Sprint("m", i), content("", "base"))})
		}
		s.adopt(found...)
		for _, last := range []string{"m7", "m299"} {
			s.later(time.Second)
			s.lease(man("a", last))
			s.later(time.Second)
			for i := range 300 {
				s.lease(man("b", fmt.Sprint("m", i)))
			}
			for range 2 { // the second time it is among the manifests that were used last
				s.later(time.Hour)
				s.read("a", "base", s.Now())
				s.used(man("a", last), s.Now())
			}
		}
		for i := range 300 {
			at := s.row(man("a", fmt.Sprint("m", i))).AccessedAt
			s.check(i == 7 || i == 299 || s.Now().Sub(at) > 4*time.Hour, "image %d was used, too", i)
		}
	}},
	{"a read of a layer's bytes keeps the index over its image, with its tag", func(s *scene) {
		s.layer("a", "l")
		m, old := s.image("a", "m", "l"), s.image("a", "old", "m")
		s.later(time.Minute)
		top := s.image("a", "top", "m")
		k := s.tag("a", "v1", "top")
		s.later(time.Hour)
		leased := s.read("a", "l", s.Now())[0]
		s.check(leased.Found && leased.Placed && leased.Size == size("l"), "leased %+v", leased)
		s.lives(k, top, m)
		s.dies(old)
	}},
	{"a read of a layer's bytes keeps the tag that was used, and not an older index over it", func(s *scene) {
		s.layer("a", "l")
		m, top := s.image("a", "m", "l"), s.image("a", "top", "m")
		v1, old := s.tag("a", "v1", "m"), s.tag("a", "old", "top")
		for range 5 {
			s.later(time.Hour)
			s.lease(v1)
			s.later(time.Minute)
			s.read("a", "l", s.Now())
		}
		s.lives(v1, m)
		s.dies(old)
		s.dies(top)
	}},
	{"a read of the bytes of what no image holds is a use of that alone", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m")
		s.later(time.Hour)
		for _, name := range []string{"l", "m", "nothing"} {
			s.read("a", name, s.Now())
		}
		s.lives(l)
		s.dies(m)
	}},
	{"a manifest keeps its layers and its blob, though nobody asks for them", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m", "l")
		s.later(time.Hour)
		s.lease(m)
		s.lives(m, l, blob("l"), blob("m"))
	}},
	{"a tag keeps its manifest", func(s *scene) {
		m, k := s.image("a", "m"), s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.lease(k)
		s.lives(m, blob("m"))
	}},
	{"a tag in another repository keeps nothing", func(s *scene) {
		m := s.image("a", "m")
		s.tag("b", "v1", "m")
		s.later(time.Hour)
		s.dies(m)
	}},
	{"an index keeps its children, of which nobody asked for one", func(s *scene) {
		s.layer("a", "l")
		child, top := s.image("a", "child", "l"), s.image("a", "top", "child")
		s.later(time.Hour)
		s.lease(top)
		s.lives(child, link("a", "l"), blob("l"))
	}},
	{"a child that is used keeps no index", func(s *scene) {
		child, top := s.image("a", "child"), s.image("a", "top", "child")
		s.later(time.Hour)
		s.lease(child)
		s.dies(top)
		s.lives(child)
	}},
	{"an index keeps no child in another repository", func(s *scene) {
		child, top := s.image("a", "child"), s.image("b", "top", "child")
		s.later(time.Hour)
		s.lease(top)
		s.dies(child)
	}},
	{"an index keeps the layers that it lists as manifests", func(s *scene) {
		l, top := s.layer("a", "cache"), s.image("a", "top", "cache")
		s.later(time.Hour)
		s.lease(top)
		s.lives(l, blob("cache"))
	}},
	{"a subject keeps its referrers, and a referrer does not keep its subject", func(s *scene) {
		m, sig := s.image("a", "m"), s.referrer("a", "sig", "m")
		s.later(time.Hour)
		s.lease(m)
		s.lives(sig)
		s.later(time.Hour)
		s.lease(sig)
		s.dies(m)
		s.lives(sig)
	}},
	{"a subject in another repository keeps no referrer", func(s *scene) {
		m, sig := s.image("b", "m"), s.referrer("a", "sig", "m")
		s.later(time.Hour)
		s.lease(m)
		s.dies(sig)
	}},
	{"a referrer whose subject is absent lives by its own use", func(s *scene) {
		sig := s.referrer("a", "sig", "m")
		s.later(time.Hour)
		s.lease(sig)
		s.lives(sig)
		s.later(time.Hour)
		s.dies(sig)
	}},
	{"a subject that comes after its referrers keeps them", func(s *scene) {
		sig := s.referrer("a", "sig", "m")
		s.later(time.Hour)
		s.image("a", "m")
		s.lives(sig)
	}},
	{"what a far ancestor keeps is kept", func(s *scene) {
		s.layer("a", "l")
		s.referrer("a", "sig", "child", "l")
		s.referrer("a", "sigsig", "sig")
		s.image("a", "child")
		s.image("a", "mid", "child")
		s.image("a", "top", "mid")
		k := s.tag("a", "v1", "top")
		all := []layout.Key{man("a", "top"), man("a", "mid"), man("a", "child"), man("a", "sig"), man("a", "sigsig"),
			link("a", "l"), blob("l")}
		s.later(time.Hour)
		s.lease(k)
		s.lives(all...)
		s.later(time.Hour)
		s.dies(k)
		s.dies(all[:5]...)
	}},
	{"a manifest that one index forgot and another lists is kept", func(s *scene) {
		child := s.image("a", "child")
		top1, top2 := s.image("a", "top1", "child"), s.image("a", "top2", "child")
		s.later(time.Hour)
		s.lease(top2)
		s.dies(top1)
		s.lives(child)
	}},
	{"the same digest in another repository keeps the blob and not the link", func(s *scene) {
		s.layer("b", "l")
		l, m := s.layer("a", "l"), s.image("b", "m", "l")
		s.later(time.Hour)
		s.lease(m)
		s.dies(l)
		s.lives(blob("l"), link("b", "l"))
	}},
	{"references go with the row of their repository, and no other", func(s *scene) {
		s.layer("b", "l")
		ma, mb := s.image("a", "m", "l"), s.image("b", "m", "l")
		refs := func(inA, inB int) {
			s.Helper()
			s.view(func(r index.Reader) error {
				a, erra := r.References("a", dg("m"))
				b, errb := r.References("b", dg("m"))
				s.check(len(a) == inA && len(b) == inB, "references %v and %v, want %d and %d", a, b, inA, inB)
				return errors.Join(erra, errb)
			})
		}
		refs(1, 1)
		s.later(time.Hour)
		s.lease(mb)
		s.dies(ma)
		refs(0, 1)
		s.lives(link("b", "l"))
		s.must(s.DeleteManifest(s.Context(), "b", dg("m"), noTags))
		refs(0, 0)
		s.must(s.Claim(s.Context(), manClaim("a", "m", content("", "l"))))
		refs(1, 0)
		s.must(s.Unclaim(s.Context(), man("a", "m")))
		refs(0, 0)
	}},
	{"references come back with a new claim", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m", "l")
		s.later(time.Hour)
		s.dies(m)
		s.image("a", "m", "l")
		s.lives(l)
	}},
	{"a layer that comes after its manifest is held", func(s *scene) {
		s.image("a", "m", "l")
		l := s.layer("a", "l")
		s.later(time.Hour)
		s.lease(man("a", "m"))
		s.lives(l)
	}},
}

var inheritance = []test{
	{"a retired manifest leaves its use to what it named", func(s *scene) {
		s.layer("a", "l")
		s.image("a", "child")
		s.referrer("a", "sig", "m")
		m := s.image("a", "m", "l", "child")
		s.later(time.Hour)
		s.lease(m)
		at := s.Now()
		s.later(10 * time.Minute)
		cut := cutoffs{names: s.Back(time.Minute), content: s.Back(30 * time.Minute)}
		s.check(s.retire(m, cut) != nil, "the manifest stays")
		for _, k := range []layout.Key{link("a", "l"), man("a", "child"), man("a", "sig"), blob("m")} {
			s.used(k, at)
		}
		s.check(s.retire(link("a", "l"), cut) == nil, "the layer went at once")
	}},
	{"a retired tag leaves its use to its manifest, and a retired link to its blob", func(s *scene) {
		l, m, k := s.layer("a", "l"), s.image("a", "m"), s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.lease(k)
		s.lease(l)
		at := s.Now()
		s.later(10 * time.Minute)
		s.dies(k)
		s.dies(l)
		s.used(m, at)
		s.used(blob("l"), at)
	}},
	{"an older use takes nothing from what inherits it", func(s *scene) {
		l, m, k := s.layer("a", "l"), s.image("a", "m", "l"), s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.lease(m)
		s.lease(l)
		at := s.Now()
		s.later(time.Hour)
		s.dies(k)
		s.used(m, at)
		s.dies(m)
		s.used(l, at)
	}},
	{"a deleted tag leaves its use to its manifest", func(s *scene) {
		m, k := s.image("a", "m"), s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.lease(k)
		at := s.Now()
		s.must(s.DeleteTag(s.Context(), "a", "v1", nothing))
		s.used(m, at)
		s.lives(m)
	}},
	{"a deleted manifest leaves its use to what it named", func(s *scene) {
		s.layer("a", "l")
		s.layer("b", "l")
		s.image("a", "child")
		s.referrer("a", "sig", "m")
		old := s.Now()
		m := s.image("a", "m", "l", "child")
		s.later(time.Hour)
		s.lease(m)
		at := s.Now()
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), noTags))
		for _, k := range []layout.Key{link("a", "l"), man("a", "child"), man("a", "sig"), blob("m")} {
			s.used(k, at)
			s.lives(k)
		}
		s.used(link("b", "l"), old)
	}},
	{"a manifest deleted with its tags leaves their use to what it named", func(s *scene) {
		l := s.layer("a", "l")
		s.image("a", "m", "l")
		k := s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.lease(k)
		at := s.Now()
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), noTags))
		s.used(l, at)
		s.lives(l)
	}},
	{"a deleted layer leaves its use to its blob", func(s *scene) {
		l := s.layer("a", "l")
		s.later(time.Hour)
		s.lease(l)
		at := s.Now()
		s.must(s.DeleteLayer(s.Context(), "a", dg("l"), nothing))
		s.used(blob("l"), at)
		s.lives(blob("l"))
	}},
	{"a tag that moves leaves its use to what it pointed to", func(s *scene) {
		m1 := s.image("a", "m1")
		k := s.tag("a", "v1", "m1")
		s.later(time.Hour)
		s.lease(k)
		at := s.Now()
		s.later(30 * time.Second)
		s.image("a", "m2")
		s.tag("a", "v1", "m2")
		s.used(m1, at)
		s.lives(m1)
	}},
	{"a claim that is taken back leaves its use to what it named", func(s *scene) {
		l := s.layer("a", "l")
		s.later(time.Hour)
		s.must(s.Claim(s.Context(), manClaim("a", "m", content("", "l"))))
		s.must(s.Unclaim(s.Context(), man("a", "m")))
		s.used(l, s.Now())
	}},
}
