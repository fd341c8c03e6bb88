package gc

import (
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// pin replaces all pins; each that ends does so after a time.
func (w *world) pin(pins map[layout.Key]time.Duration) {
	w.t.Helper()
	var all []index.Pin
	for k, d := range pins {
		p := index.Pin{Key: k, Made: w.now}
		if d > 0 {
			p.Until = w.now.Add(d)
		}
		all = append(all, p)
	}
	w.must(w.Index.SetPins(w.t.Context(), all...))
}

// A pin keeps an image with its parts, its referrers and its signatures, under whatever ttl and rules, until it ends.
func TestAPinKeepsAnImage(t *testing.T) {
	short := under(rule.Rule{TTL: ptr(time.Hour)}, rule.Rule{UntaggedTTL: ptr(time.Hour)})
	for _, p := range []index.Policy{rules, short} {
		w := newWorld(t)
		amd, arm := w.image("multi", "", "base", "amd"), w.image("multi", "", "base", "arm")
		top := w.manifest("multi", "manifests", []digest.Digest{amd, arm}, "")
		w.tag("multi", "v1", top)
		w.tag("multi", "v2", top)
		w.manifest("multi", "layers", []digest.Digest{w.layer("multi", "sbom")}, amd)
		w.image("sigs", strings.Replace(amd.String(), ":", "-", 1)+".sig", "signature")
		loose := w.image("app", "", "one")
		w.image("app", "v1", "two")
		w.adopt(false)
		w.pin(map[layout.Key]time.Duration{layout.TagKey("multi", "v1"): 0,
			layout.ManifestKey("app", loose): 200 * time.Hour, layout.TagKey("app", "later"): 0})
		w.pass(100 * time.Hour)
		reason, no := ReasonTTL, 0
		if len(p.Rules) > 0 {
			reason, no = ReasonRule, 1
		}
		gone := func(name string) string { return name + " " + reason + " " + string(rune('0'+no)) }
		w.goes(p, nil, gone("app:v1"), gone("multi:v2"))
		if r := w.goes(p, nil); r.Removed.Any() {
			t.Errorf("removed %+v", r.Removed)
		}
		w.pass(100 * time.Hour)
		rep := w.goes(p, map[digest.Digest]string{loose: "one"}, map[bool]string{true: "app@one rule 2",
			false: "app@one untagged 0"}[no == 1])
		if rep.Removed.Manifests != 1 || rep.Remaining.Manifests != 5 || rep.Remaining.Tags != 2 {
			t.Errorf("removed %+v, left %+v", rep.Removed, rep.Remaining)
		}
		w.pin(nil)
		if rep, err := w.Run(t.Context(), p, false); err != nil || rep.Remaining.Tags+rep.Remaining.Manifests > 0 {
			t.Errorf("left %+v, %v", rep.Remaining, err)
		}
	}
}

// A run does not remove what was pinned since it made its plan.
func TestAPinCountsAtOnce(t *testing.T) {
	w := newWorld(t)
	d := w.image("app", "v1", "one")
	w.image("sigs", strings.Replace(d.String(), ":", "-", 1)+".sig", "signature")
	w.adopt(false)
	w.pass(100 * time.Hour)
	plan, err := w.NewPlan(t.Context(), rules)
	w.must(err)
	w.pin(map[layout.Key]time.Duration{layout.TagKey("app", "v1"): 0})
	got, err := w.Execute(t.Context(), plan)
	w.must(err)
	if len(plan.Images) != 2 || got.Removed.Any() {
		t.Errorf("planned %v, removed %+v", plan.Images, got.Removed)
	}
}
