package rule

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestIdle(t *testing.T) {
	yes, no, ten, day := true, false, 10, 24*time.Hour
	for _, c := range []struct {
		what  string
		rules Rules
		want  []Idle
	}{
		{"none", nil, nil},
		{"alone", Rules{{TTL: &day}}, nil},
		{"the same globs", Rules{{Repository: "a*", TTL: &day}, {Repository: "a*", TTL: &day}}, []Idle{{1, "ttl", 0, false}}},
		{"another setting", Rules{{Repository: "a*", TTL: &day}, {Repository: "a*", KeepLast: &ten}}, nil},
		{"all images first", Rules{{TTL: &day}, {Repository: "a", Tag: "b", TTL: &day, KeepLast: &ten}},
			[]Idle{{1, "ttl", 0, false}}},
		{"all images last", Rules{{Repository: "a", TTL: &day}, {TTL: &day}}, nil},
		{"a name that a glob matches", Rules{{Repository: "base/**", UntaggedTTL: &day},
			{Repository: "base/go", UntaggedTTL: &day}}, []Idle{{1, "untagged_ttl", 0, false}}},
		{"every tag is not every image", Rules{{Tag: "**", TTL: &day}, {Repository: "a", TTL: &day}}, nil},
		{"every tag is every tag", Rules{{Tag: "*", Keep: &yes}, {Tag: "v*", Keep: &no}}, []Idle{{1, "keep", 0, false}}},
		{"what is kept needs no ttl", Rules{{Repository: "a", Keep: &yes, KeepLast: &ten}, {Repository: "a", TTL: &day}},
			[]Idle{{0, "keep_last", 0, true}, {1, "ttl", 0, true}}},
		{"a rule before takes some of it out", Rules{{Tag: "x", Keep: &no}, {Repository: "a", Keep: &yes, TTL: &day}}, nil},
	} {
		if got := c.rules.Idle(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v; want %+v", c.what, got, c.want)
		}
	}
}

// TestWithoutWhatIsIdleTheSameIsDecided takes idle settings out of rules at random, and asks about every name.
func TestWithoutWhatIsIdleTheSameIsDecided(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	repositories, tags := []string{"a", "b", "a/b", "a/b/c", "ab"}, []string{"x", "y", "xy"}
	taken := 0
	for range 2_000 {
		rules := make(Rules, 1+random.IntN(5))
		for i := range rules {
			r := Rule{Repository: pick([]string{"", "**", "a/**", "a*", "*", "a", "a/b"}), Tag: pick([]string{"", "*", "**", "x*", "x"})}
			if b := random.IntN(2) == 0; random.IntN(3) == 0 {
				r.Keep = &b
			}
			if d := time.Duration(random.IntN(4)) * time.Hour; random.IntN(2) == 0 {
				r.TTL = &d
			} else if r.Tag == "" {
				r.UntaggedTTL = &d
			}
			if n := random.IntN(3); random.IntN(2) == 0 {
				r.KeepLast = &n
			}
			rules[i] = r
		}
		less := slices.Clone(rules)
		for _, idle := range rules.Idle() {
			taken++
			switch r := &less[idle.Rule]; idle.Setting {
			case "keep":
				r.Keep = nil
			case "ttl":
				r.TTL = nil
			case "untagged_ttl":
				r.UntaggedTTL = nil
			case "keep_last":
				r.KeepLast = nil
			}
		}
		const ttl = 100 * time.Hour
		for _, repository := range repositories {
			if got, want := less.Untagged(repository, ttl), rules.Untagged(repository, ttl); got != want {
				t.Fatalf("seed %d: %+v without %+v: untagged %s %+v; want %+v", seed, rules, rules.Idle(), repository, got, want)
			}
			for _, tag := range tags {
				got, want := less.Tagged(repository, tag, ttl), rules.Tagged(repository, tag, ttl)
				n, by := less.KeepLast(repository, tag)
				wantN, wantBy := rules.KeepLast(repository, tag)
				kept := want.Kept
				if got != want || !kept && (n != wantN || by != wantBy) {
					t.Fatalf("seed %d: %+v without %+v: %s:%s %+v, %d by %d; want %+v, %d by %d", seed, rules,
						rules.Idle(), repository, tag, got, n, by, want, wantN, wantBy)
				}
			}
		}
	}
	if taken < 1_000 {
		t.Errorf("seed %d: only %d settings were idle", seed, taken)
	}
}
