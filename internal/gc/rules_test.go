package gc

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

func ptr[T any](v T) *T { return &v }

// under is the policy of the stories here with rules.
func under(rs ...rule.Rule) index.Policy {
	p := rules
	p.Rules = rs
	return p
}

// goes wants a run under a policy to remove these images, and no others, for these reasons, and a dry run to say so
// before. An image is repository:tag, or repository@ the name that it has in digests.
func (w *world) goes(p index.Policy, digests map[digest.Digest]string, want ...string) Report {
	w.t.Helper()
	dry, err := w.Run(w.t.Context(), p, true)
	w.must(err)
	rep, err := w.Run(w.t.Context(), p, false)
	w.must(err)
	var got []string
	for _, i := range rep.Images {
		name := i.Repository + ":" + i.Tag
		if i.Tag == "" {
			name = i.Repository + "@" + digests[i.Digest]
		}
		got = append(got, fmt.Sprint(name, " ", i.Reason, " ", i.Rule))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("removed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !slices.Equal(dry.Images, rep.Images) || dry.Removed != rep.Removed || dry.FreedBytes != rep.FreedBytes {
		w.t.Errorf("planned %+v\nremoved %+v", dry, rep)
	}
	w.whole()
	again, err := w.Run(w.t.Context(), p, true)
	w.must(err)
	if n := again.Removed; n.Tags+n.Manifests > 0 {
		w.t.Errorf("a run right after it would remove %+v", again.Images)
	}
	return rep
}

func TestTagsOfOneImageGoByTheirOwnLives(t *testing.T) {
	w := newWorld(t)
	d := w.image("app", "dev-1", "base")
	w.tag("app", "v1", d)
	w.tag("app", "latest", d)
	w.image("other", "dev-1", "base")
	w.adopt(false)
	p := under(rule.Rule{Repository: "app", Tag: "dev-*", TTL: ptr(2 * time.Hour)},
		rule.Rule{Tag: "v*", TTL: ptr(20 * time.Hour)})
	w.pass(3 * time.Hour)
	w.goes(p, nil, "app:dev-1 rule 1")
	w.pass(8 * time.Hour)
	w.goes(p, nil, "app:latest ttl 0", "other:dev-1 ttl 0")
	if !w.has(layout.ManifestKey("app", d)) {
		t.Error("the image went before its last tag")
	}
	w.pass(8 * time.Hour)
	w.goes(p, nil)
	w.pass(2 * time.Hour)
	w.goes(p, nil, "app:v1 rule 2")
	w.pass(2 * time.Hour)
	w.goes(p, nil) // content
	w.empty()
}

func TestARuleMayBeShorterThanAnything(t *testing.T) {
	w := newWorld(t)
	w.image("ci", "1", "base")
	w.image("app", "1", "base")
	w.adopt(false)
	p := under(rule.Rule{Repository: "ci", TTL: ptr(time.Second)})
	p.TTL = 0
	w.pass(p.Grace)
	w.goes(p, nil) // the grace is the floor
	w.pass(p.Resolution + time.Second)
	w.goes(p, nil, "ci:1 rule 1")
	w.pass(1000 * time.Hour)
	w.goes(p, nil)
}

// An index is one image with its platforms and what refers to it, by whichever rule.
func TestPartsGoWithWhatKeepsThem(t *testing.T) {
	w := newWorld(t)
	amd, arm := w.image("multi", "", "base", "amd"), w.image("multi", "", "base", "arm")
	top := w.manifest("multi", "manifests", []digest.Digest{amd, arm}, "")
	w.tag("multi", "v1", top)
	sbom := w.manifest("multi", "layers", []digest.Digest{w.layer("multi", "sbom")}, amd)
	loose := w.image("multi", "", "nobody named it")
	w.adopt(false)
	p := under(rule.Rule{Tag: "v*", TTL: ptr(20 * time.Hour)}, rule.Rule{UntaggedTTL: ptr(2 * time.Hour)})
	w.pass(3 * time.Hour)
	w.goes(p, map[digest.Digest]string{loose: "loose"}, "multi@loose rule 2")
	for _, d := range []digest.Digest{top, amd, arm, sbom} {
		if !w.has(layout.ManifestKey("multi", d)) {
			t.Errorf("%s is gone", d)
		}
	}
	w.pass(18 * time.Hour)
	w.goes(p, nil, "multi:v1 rule 1")
	w.pass(2 * time.Hour)
	w.goes(p, nil)
	w.empty()
}

// A tag with a short life takes all of its image with it, though untagged images live longer.
func TestPartsGoWithATagOfAShortLife(t *testing.T) {
	w := newWorld(t)
	amd := w.image("ci", "", "base", "amd")
	w.tag("ci", "1", w.manifest("ci", "manifests", []digest.Digest{amd}, ""))
	w.manifest("ci", "layers", []digest.Digest{w.layer("ci", "sbom")}, amd)
	w.adopt(false)
	w.pass(3 * time.Hour)
	rep := w.goes(under(rule.Rule{Tag: "*", TTL: ptr(2 * time.Hour)}), nil, "ci:1 rule 1")
	if rep.Removed.Manifests != 3 {
		t.Errorf("removed %+v", rep.Removed)
	}
}

// A platform that is pulled by its digest outlives its index, as an untagged image from then on.
func TestAPartThatWasUsedByItselfLivesOnAsAnUntaggedImage(t *testing.T) {
	w := newWorld(t)
	amd, arm := w.image("multi", "", "base", "amd"), w.image("multi", "", "base", "arm")
	w.tag("multi", "v1", w.manifest("multi", "manifests", []digest.Digest{amd, arm}, ""))
	w.adopt(false)
	p := under(rule.Rule{Tag: "v*", TTL: ptr(4 * time.Hour)}, rule.Rule{UntaggedTTL: ptr(7 * time.Hour)})
	w.pass(3 * time.Hour)
	_, err := w.Index.Lease(t.Context(), layout.ManifestKey("multi", amd))
	w.must(err)
	w.pass(4*time.Hour + 30*time.Minute) // by the life of the tag it is due, too
	w.goes(p, map[digest.Digest]string{amd: "amd"}, "multi:v1 rule 1")
	if !w.has(layout.ManifestKey("multi", amd)) || w.has(layout.ManifestKey("multi", arm)) {
		t.Error("want the platform that was used, and no other")
	}
	w.pass(3 * time.Hour)
	w.goes(p, map[digest.Digest]string{amd: "amd"}, "multi@amd rule 2")
}

// A signature is what an image is kept for, as much as its layers: in its repository and in others.
func TestSignaturesStayWithWhatARuleKeeps(t *testing.T) {
	w := newWorld(t)
	child := w.image("app", "", "base")
	d := w.manifest("app", "manifests", []digest.Digest{child}, "")
	w.tag("app", "v1", d)
	about := func(d digest.Digest, suffix string) string {
		return strings.Replace(d.String(), ":", "-", 1) + suffix
	}
	sig := w.image("app", about(d, ".sig"), "signature")
	w.image("app", about(sig, ".sig"), "signature of the signature")
	w.image("elsewhere", about(d, ".att"), "attestation")
	w.image("elsewhere", about(child, ".sig"), "signature of a platform")
	w.image("app", "dev", "dev")
	w.image("app", about(digest.FromString("gone"), ".sig"), "of what is gone")
	w.adopt(false)
	p := under(rule.Rule{Tag: "v*", TTL: ptr(20 * time.Hour)}, rule.Rule{Tag: "sha256-*", TTL: ptr(2 * time.Hour)})
	w.pass(12 * time.Hour)
	w.goes(p, nil, "app:dev ttl 0", "app:"+about(digest.FromString("gone"), ".sig")+" rule 2")
	w.pass(9 * time.Hour)
	w.goes(p, nil, "app:v1 rule 1", "app:"+about(d, ".sig")+" rule 2", "app:"+about(sig, ".sig")+" rule 2",
		"elsewhere:"+about(d, ".att")+" rule 2", "elsewhere:"+about(child, ".sig")+" rule 2")
	w.pass(2 * time.Hour)
	w.goes(p, nil)
	w.empty()
}

// Two tags may be about each other's images. They keep each other no longer than the longer of their lives.
func TestTagsAboutEachOtherEnd(t *testing.T) {
	w := newWorld(t)
	a, b := w.image("app", "", "a"), w.image("app", "", "b")
	w.tag("app", strings.Replace(a.String(), ":", "-", 1), b)
	w.tag("app", strings.Replace(b.String(), ":", "-", 1), a)
	w.adopt(false)
	p := under(rule.Rule{Repository: "nothing", Keep: ptr(true)})
	w.pass(11 * time.Hour)
	rep, err := w.Run(t.Context(), p, false)
	w.must(err)
	if rep.Removed.Tags != 2 || rep.Removed.Manifests != 2 {
		t.Errorf("removed %+v", rep.Removed)
	}
}

// The last used tags stay, those of one time by name. What is about an image takes no place.
func TestTheLastTagsStay(t *testing.T) {
	w := newWorld(t)
	for _, tag := range []string{"a", "b", "c"} {
		w.image("app", tag, "layer of "+tag)
	}
	w.adopt(false)
	w.pass(time.Hour)
	d := w.image("app", "d", "layer of d")
	w.tag("app", "release", d)
	w.image("app", strings.Replace(d.String(), ":", "-", 1)+".sig", "signature")
	w.image("other", "x", "x")
	w.adopt(false)
	p := under(rule.Rule{Tag: "release", KeepLast: ptr(0)}, rule.Rule{Repository: "app", KeepLast: ptr(2)},
		rule.Rule{Repository: "app", Tag: "sha256-*", TTL: ptr(2 * time.Hour)})
	w.pass(20 * time.Hour)
	w.goes(p, nil, "app:b ttl 0", "app:c ttl 0", "app:release ttl 0", "other:x ttl 0")
	w.pass(20 * time.Hour)
	w.goes(p, nil)
	w.tag("app", "b", w.image("app", "", "pushed again"))
	w.adopt(false)
	w.pass(20 * time.Hour)
	w.goes(p, nil, "app:a ttl 0")
}

// A tag that moves takes its life with it. What it pointed to before is untagged from then on.
func TestAMovedTagTakesItsLifeWithIt(t *testing.T) {
	w := newWorld(t)
	first := w.image("app", "v1", "one")
	w.adopt(false)
	p := under(rule.Rule{Tag: "v*", Keep: ptr(true)}, rule.Rule{UntaggedTTL: ptr(2 * time.Hour)})
	w.pass(time.Hour)
	second := w.image("app", "", "two")
	w.tag("app", "v1", second)
	w.adopt(false)
	w.pass(1000 * time.Hour)
	w.goes(p, map[digest.Digest]string{first: "first"}, "app@first rule 2")
	if !w.has(layout.ManifestKey("app", second)) {
		t.Error("the tag lost what it points to")
	}
}

// Rules count at the next run, and leave no trace in the rows.
func TestRulesCountAtTheNextRun(t *testing.T) {
	w := newWorld(t)
	w.image("app", "v1", "one")
	w.adopt(false)
	w.pass(1000 * time.Hour)
	w.goes(under(rule.Rule{Tag: "v*", Keep: ptr(true)}), nil)
	w.goes(under(rule.Rule{Tag: "v*", Keep: ptr(false)}), nil, "app:v1 ttl 0")
}

// What is at the end of a very long chain of subjects is not judged: a tag that is about it stays.
func TestAChainOfSubjectsIsNotFollowedForEver(t *testing.T) {
	w := newWorld(t)
	w.image("app", "v1", "base")
	last := w.image("app", "", "end")
	for n := range 1100 {
		last = w.manifest("app", "layers", []digest.Digest{w.layer("app", fmt.Sprint(n%3))}, last)
	}
	about := "sha256-" + last.Encoded() + ".x"
	w.image("app", about, "base")
	w.adopt(false)
	w.pass(11 * time.Hour)
	rep, err := w.Run(t.Context(), under(rule.Rule{Tag: "w*", TTL: ptr(2 * time.Hour)}), false)
	w.must(err)
	if w.has(layout.TagKey("app", "v1")) || !w.has(layout.TagKey("app", about)) {
		t.Errorf("removed %+v", rep.Removed)
	}
}
