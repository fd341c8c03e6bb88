package indextest

import (
	"crypto/sha512"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// about is what a tag is called that is about a manifest.
func about(d digest.Digest, suffix string) string {
	return strings.Replace(d.String(), ":", "-", 1) + suffix
}

// signed makes an image with a signature under cosign's tag, one under a tag of another form, and one of
// another image. An hour passes.
func (s *scene) signed(repo, image string) (old, other layout.Key) {
	s.Helper()
	s.image(repo, "signature of "+image)
	old = s.tag(repo, about(dg(image), ".sig"), "signature of "+image)
	s.tag(repo, about(dg(image), ""), "signature of "+image)
	s.image(repo, "signature of another")
	other = s.tag(repo, about(dg("another"), ".sig"), "signature of another")
	s.later(time.Hour)
	return old, other
}

// signatures: a tag that is about a manifest by its name is used when that is.
var signatures = []test{
	{"a use of an image is one of its signature", func(s *scene) {
		m := s.image("a", "m")
		sig, other := s.signed("a", "m")
		made := s.row(sig).AccessedAt
		s.lease(m)
		s.used(sig, s.Now())
		s.used(tagged("a", about(dg("m"), "")), s.Now())
		s.used(other, made)
	}},
	{"what a tag is about is found in all repositories", func(s *scene) {
		a, b := s.image("a", "m"), s.image("b", "m")
		s.image("a", "other")
		s.view(func(r index.Reader) error {
			for tag, want := range map[string][]layout.Key{about(dg("m"), ".sig"): {a, b}, about(dg("m"), ""): {a, b},
				about(dg("nothing"), ".sig"): nil, "v1": nil} {
				rows, err := r.About(tag)
				s.must(err)
				s.check(same(keys(rows), want), "%s is about %v, want %v", tag, keys(rows), want)
			}
			return nil
		})
	}},
	{"the tags of a repository are listed", func(s *scene) {
		s.image("a", "m")
		s.image("a/b", "m")
		v1, v2 := s.tag("a", "v1", "m"), s.tag("a", "v2", "m")
		s.tag("a/b", "v1", "m")
		s.view(func(r index.Reader) error {
			rows, err := list(func(f func(index.Row) error) error { return r.EachTag("a", f) })
			s.check(same(keys(rows), []layout.Key{v1, v2}), "the tags are %v", keys(rows))
			return err
		})
	}},
	{"a use of a tag is one of the signature of what it points at", func(s *scene) {
		s.image("a", "m")
		v := s.tag("a", "v1", "m")
		sig, _ := s.signed("a", "m")
		s.lease(v)
		s.used(sig, s.Now())
	}},
	{"a push of an image is one of its signature", func(s *scene) {
		s.image("a", "m")
		sig, _ := s.signed("a", "m")
		s.must(s.Claim(s.Context(), manClaim("a", "m", content(""))))
		s.used(sig, s.Now())
		s.later(time.Hour)
		s.tag("a", "v2", "m")
		s.used(sig, s.Now())
	}},
	{"a use of an index is one of the signatures of its platforms", func(s *scene) {
		s.image("a", "m")
		top := s.image("a", "top", "m")
		sig, _ := s.signed("a", "m")
		s.lease(top)
		s.used(sig, s.Now())
	}},
	{"a use of an image is one of the signatures of its referrers, and of its signatures", func(s *scene) {
		m := s.image("a", "m")
		s.referrer("a", "sbom", "m")
		ofSBOM, _ := s.signed("a", "sbom")
		s.signed("a", "m")
		ofSignature, _ := s.signed("a", "signature of m")
		s.lease(m)
		s.used(ofSBOM, s.Now())
		s.used(ofSignature, s.Now())
	}},
	{"a use of a signature is none of its image", func(s *scene) {
		m := s.image("a", "m")
		sig, _ := s.signed("a", "m")
		s.lease(sig)
		s.lease(man("a", "signature of m"))
		s.dies(m)
		s.lives(sig)
	}},
	{"a use of an image is recency for its signatures in other repositories, and no more", func(s *scene) {
		s.image("b", "m")
		top := s.image("b", "top", "m")
		sig, other := s.signed("a", "m")
		made := s.row(other).AccessedAt
		s.lease(top)
		s.used(sig, s.Now())
		s.used(man("a", "signature of m"), s.Now())
		s.used(other, made)
		s.later(time.Hour)
		s.dies(top, man("b", "m")) // which it holds nothing of
		s.dies(sig)
		s.tag("a", about(dg("m"), ".sig"), "signature of m")
		s.image("b", "m")
		s.later(time.Hour)
		s.lease(sig)
		s.dies(man("b", "m")) // a use of it is none of the image
		s.lives(sig)
	}},
	{"a use of an image is written to a hundred tags of other repositories at most", func(s *scene) {
		m := s.image("a", "m")
		tags := s.decoys("m")
		s.later(time.Hour)
		used := func() (n int) {
			for _, k := range tags {
				if s.row(k).AccessedAt.Equal(s.Now()) {
					n++
				}
			}
			return n
		}
		s.lease(m)
		s.check(used() == 100, "%d tags were used with it", used())
	}},
	{"what was used longest ago is written to first, so no number of tags of others hides a signature", func(s *scene) {
		m := s.image("a", "m")
		sig := s.signBehind("m")
		s.later(time.Hour)
		s.lease(m)
		s.later(time.Hour)
		s.lease(m)
		s.used(sig, s.Now())
		s.used(man("c", "signature"), s.Now())
	}},
	{"nor do those about an index hide the signature of its platform", func(s *scene) {
		s.image("a", "m")
		top := s.image("a", "top", "m")
		sig := s.signBehind("top")
		s.later(time.Hour)
		s.lease(top)
		s.later(time.Hour)
		s.lease(top)
		s.used(sig, s.Now())
	}},
	{"a use of an image is written to few rows of other repositories, and to the others next time", func(s *scene) {
		const tags, children = 10, 100
		var found []index.Adoption
		for i := range tags {
			var platforms []string
			for j := range children {
				platforms = append(platforms, fmt.Sprint("platform ", i, j))
				found = append(found, index.Adoption{Claim: manClaim("b", platforms[j], content(""))})
			}
			top := fmt.Sprint("top ", i)
			found = append(found, index.Adoption{Claim: manClaim("b", top, content("", platforms...))},
				foundTag("b", about(dg("m"), fmt.Sprint(".", i)), top))
		}
		s.adopt(found...)
		m := s.image("a", "m")
		s.later(2 * time.Hour)
		for _, want := range []int{tags / 2, tags} { // 500 rows, and what the last of the tags needs
			s.later(time.Hour)
			s.lease(m)
			used := 0
			for i := range tags {
				at := s.row(tagged("b", about(dg("m"), fmt.Sprint(".", i)))).AccessedAt
				if s.Now().Sub(at) < 2*time.Hour {
					used++
					s.used(man("b", fmt.Sprint("top ", i)), at)
					s.used(man("b", fmt.Sprint("platform ", i, children-1)), at)
				}
			}
			s.check(used == want, "%d tags were used with it, want %d", used, want)
		}
	}},
	{"a signature goes in the same run as its image", func(s *scene) {
		m := s.image("a", "m")
		sig, _ := s.signed("a", "m")
		s.lease(m)
		s.later(time.Hour)
		cut := s.idle(time.Minute)
		s.check(s.retire(m, cut) != nil, "the image stays")
		s.check(s.retire(sig, cut) != nil, "its signature stays")
	}},
	{"tags that are about each other's images expire", func(s *scene) {
		one, two := s.image("a", "one"), s.image("a", "two")
		first, second := s.tag("a", about(dg("one"), ""), "two"), s.tag("a", about(dg("two"), ""), "one")
		own := s.tag("a", about(dg("one"), ".own"), "one")
		s.later(time.Hour)
		s.dies(first)
		s.dies(second)
		s.dies(own)
		s.dies(one)
		s.dies(two)
	}},
	{"what an image that goes was used last, its signature was", func(s *scene) {
		s.image("a", "m")
		sig, _ := s.signed("a", "m")
		s.lease(man("a", "m"))
		used := s.Now()
		s.later(time.Minute)
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), noTags))
		s.used(sig, used)
	}},
	{"the tag of a long digest has its first 64 digits", func(s *scene) {
		d := digest.NewDigestFromEncoded(digest.SHA512, fmt.Sprintf("%x", sha512.Sum512([]byte("m"))))
		k := s.put(index.Claim{Key: layout.ManifestKey("a", d), Manifest: content("")})
		s.image("a", "signature")
		sig := s.tag("a", "sha512-"+d.Encoded()[:64], "signature")
		s.later(time.Hour)
		s.lease(k)
		s.used(sig, s.Now())
	}},
	{"what only looks like such a tag is a tag like any other", func(s *scene) {
		m := s.image("a", "m")
		s.image("a", "other")
		hex := dg("m").Encoded()
		var others []layout.Key
		for _, name := range []string{hex, "sha256-" + hex[:63], "sha256-" + hex + "0",
			"sha256-" + strings.ToUpper(hex), "sha256_" + hex, "v-sha256-" + hex} {
			others = append(others, s.tag("a", name, "other"))
		}
		made := s.Now()
		s.later(time.Hour)
		s.lease(m)
		for _, k := range others {
			s.used(k, made)
		}
	}},
}

// decoys are 150 tags of repository b about a manifest, which point to nothing.
func (s *scene) decoys(name string) (tags []layout.Key) {
	for i := range 150 {
		tags = append(tags, s.tag("b", about(dg(name), fmt.Sprintf(".%03d", i)), "of nothing"))
	}
	return tags
}

// signBehind signs m in repository c, after decoys were pushed, whose names are also before that of the signature.
func (s *scene) signBehind(decoys string) (signature layout.Key) {
	s.decoys(decoys)
	s.later(time.Second)
	s.image("c", "signature")
	return s.tag("c", about(dg("m"), ".sig"), "signature")
}
