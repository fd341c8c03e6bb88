package policy

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

var (
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	after = func(t time.Time, d time.Duration) time.Time { return t.Add(d) }
)

func random(rnd *rand.Rand) index.Policy {
	hours := func(most int) *time.Duration { d := time.Duration(rnd.IntN(most)) * time.Hour; return &d }
	p := index.Policy{TTL: *hours(5), Grace: *hours(3) + time.Minute, Resolution: time.Second}
	for range rnd.IntN(4) {
		r := rule.Rule{Repository: []string{"", "a", "b"}[rnd.IntN(3)], Tag: []string{"", "v*"}[rnd.IntN(2)]}
		if rnd.IntN(2) == 0 {
			r.TTL = hours(5)
		}
		if rnd.IntN(3) == 0 {
			r.UntaggedTTL = hours(5)
		}
		if rnd.IntN(4) == 0 {
			keep := rnd.IntN(2) == 0
			r.Keep = &keep
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

// everyLife are those of what there is in two repositories.
func everyLife(p index.Policy) (all []rule.Life) {
	for _, repo := range []string{"a", "b"} {
		all = append(all, Untagged(p, repo), Tagged(p, repo, "v1"), Tagged(p, repo, "dev"))
	}
	return all
}

func TestLivesAreNoShorterThanTheGraceAndAllHaveACutoff(t *testing.T) {
	for seed := range uint64(2000) {
		p := random(rand.New(rand.NewPCG(seed, 1)))
		cut := NewCutoffs(p, func(d time.Duration) time.Time { return noon.Add(-d) }, time.Time{})
		for _, l := range everyLife(p) {
			if !l.Forever() && l.TTL < p.Grace+p.Resolution {
				t.Fatalf("seed %d: %+v lives for %s", seed, p, l.TTL)
			}
			want := time.Time{}
			if !l.Forever() {
				want = noon.Add(-l.TTL)
			}
			if got := cut.Of(l); !got.Equal(want) || got.After(cut.Latest) {
				t.Fatalf("seed %d: cutoff %s of %+v, want %s; the latest is %s", seed, got, l, want, cut.Latest)
			}
		}
	}
}

func longer(l, m rule.Life) bool { return !m.Forever() && (l.Forever() || l.TTL > m.TTL) }

func TestAStricterRuleKeepsNothingLonger(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		p := random(rnd)
		if len(p.Rules) == 0 {
			continue
		}
		strict := p
		strict.Rules = slices.Clone(p.Rules)
		r := &strict.Rules[rnd.IntN(len(p.Rules))]
		for _, ttl := range []**time.Duration{&r.TTL, &r.UntaggedTTL} {
			if *ttl != nil {
				shorter := **ttl / 2
				if shorter == 0 { // which was for ever
					shorter = time.Hour
				}
				*ttl = &shorter
			}
		}
		if no := false; r.Keep != nil {
			r.Keep = &no
		}
		for i, l := range everyLife(strict) {
			if was := everyLife(p)[i]; longer(l, was) {
				t.Fatalf("seed %d: %+v under the stricter rules, %+v before\n%+v", seed, l, was, p.Rules)
			}
		}
	}
}

// A manifest goes no sooner than what keeps it, and it makes no difference whether an earlier run removed what went
// before the last of that.
func TestAManifestGoesWithTheLastOfWhatKeepsIt(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		life := func() rule.Life { return rule.Life{TTL: time.Duration(rnd.IntN(6)) * time.Hour, Rule: rnd.IntN(3)} }
		used := noon.Add(3 * time.Hour)
		own := Own(used, life(), after)
		var keepers []Verdict
		for range 1 + rnd.IntN(3) {
			keepers = append(keepers, Own(used.Add(-time.Duration(rnd.IntN(4))*time.Hour), life(), after))
		}
		got := Kept(own, keepers)
		last := keepers[0]
		for _, k := range keepers {
			if k.Later(got) {
				t.Fatalf("seed %d: goes at %s, and what keeps it at %s", seed, got.Due, k.Due)
			}
			if k.Later(last) || !last.Later(k) && k.Used.After(last.Used) {
				last = k
			}
		}
		if alone := Kept(own, []Verdict{last}); alone.Due != got.Due || alone.Life.TTL != got.Life.TTL {
			t.Fatalf("seed %d: %+v with the last alone, %+v with all of %+v", seed, alone, got, keepers)
		}
		want := last.Due
		if used.After(last.Used) && own.Later(last) {
			want = own.Due
		}
		if got.Due != want {
			t.Fatalf("seed %d: goes at %s, want %s; by itself %+v, kept by %+v", seed, got.Due, want, own, keepers)
		}
	}
}

// A push that broke off keeps what it names, and shortens no life.
func TestAClaimGivesNoLife(t *testing.T) {
	p := index.Policy{TTL: 10 * time.Hour, Grace: time.Hour}
	m := index.Row{Key: layout.ManifestKey("a", "m"), Placed: true, AccessedAt: noon}
	claim := Alone(p, index.Row{Key: layout.ManifestKey("a", "c"), AccessedAt: noon.Add(time.Hour)}, after)
	if got := Kept(Alone(p, m, after), []Verdict{claim}); !got.Due.Equal(noon.Add(10*time.Hour)) || got.Claim {
		t.Errorf("%+v", got)
	}
	claim.Due = noon.Add(20 * time.Hour)
	if got := Kept(Alone(p, m, after), []Verdict{claim}); !got.Due.Equal(claim.Due) {
		t.Errorf("goes before the claim: %+v", got)
	}
}

func TestKeptLast(t *testing.T) {
	one, two := 1, 2
	p := index.Policy{Rules: rule.Rules{{Tag: "v*", KeepLast: &one}, {Repository: "a", KeepLast: &two}}}
	about := "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	tags := []LastUse{{"v1", noon}, {"v2", noon}, {"old", noon.Add(-time.Hour)}, {"b", noon}, {"a", noon},
		{about, noon.Add(time.Hour)}, {about + ".sig", noon.Add(time.Hour)}}
	if got, want := KeptLast(p, "a", tags), map[string]int{"v1": 0, "a": 1, "b": 1}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := KeptLast(p, "b", tags), map[string]int{"v1": 0}; !reflect.DeepEqual(got, want) {
		t.Errorf("elsewhere: got %v, want %v", got, want)
	}
}

func TestNoLifeIsSoLongThatItWrapsAround(t *testing.T) {
	most := time.Duration(math.MaxInt64)
	p := index.Policy{TTL: most, Grace: time.Hour, Resolution: time.Minute, Rules: rule.Rules{{Tag: "v*", TTL: &most}}}
	if l := Life(p); !l.Forever() {
		t.Errorf("the ttl: %+v", l)
	}
	if l := Tagged(p, "a", "v1"); !l.Forever() {
		t.Errorf("the rule: %+v", l)
	}
}
