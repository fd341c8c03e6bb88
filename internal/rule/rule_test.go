package rule

import (
	"testing"
	"time"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		glob, name string
		want       bool
	}{
		{"", "a/b", true}, {"a", "a", true}, {"a", "a/b", false}, {"*", "a", true}, {"*", "a/b", false},
		{"**", "a/b/c", true}, {"base/**", "base/x", true}, {"base/**", "base/x/y", true}, {"base/**", "base", true},
		{"base/**", "basement", false}, {"**/app", "app", true}, {"**/app", "a/b/app", true}, {"**/app", "a/app/b", false},
		{"a/**/z", "a/z", true}, {"a/**/z", "a/b/c/z", true}, {"a/**/z", "a/b/zz", false},
		{"**/a/**/a/b", "a/a/x/a/b", true}, {"v*", "v1.2", true}, {"v?", "v12", false}, {"[a-c]x", "bx", true},
		{"[", "[", false}, {"app", "app2", false}, {"team/*", "team/a/b", false}, {"team/*", "team", false},
		{"a/**/z", "a/b/c", false}, {"a?p", "app", true},
	} {
		if got := Match(c.glob, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.glob, c.name, got)
		}
	}
}

func TestCheck(t *testing.T) {
	for glob, good := range map[string]bool{"": true, "base/**": true, "v[0-9]*": true, "a**": false, "x/[": false, `a\`: false} {
		if err := Check(glob); (err == nil) != good {
			t.Errorf("Check(%q): %v", glob, err)
		}
	}
}

func TestTheFirstRuleThatMatchesAndHasASettingDecides(t *testing.T) {
	yes, no, ten, day, week := true, false, 10, 24*time.Hour, 7*24*time.Hour
	rules := Rules{
		{Repository: "base/tmp/**", Keep: &no},
		{Repository: "base/**", Tag: "v*", Keep: &yes},
		{Repository: "base/**", UntaggedTTL: &day, KeepLast: &ten},
		{Repository: "**", TTL: &week},
	}
	for _, c := range []struct {
		what string
		got  Life
		want Life
	}{
		{"kept", rules.Tagged("base/go", "v1", day), Life{0, 1, true}},
		{"an earlier rule takes it out", rules.Tagged("base/tmp/go", "v1", day), Life{TTL: week, Rule: 3}},
		{"another tag", rules.Tagged("base/go", "dev", day), Life{TTL: week, Rule: 3}},
		{"a rule with a tag is not for untagged manifests", rules.Untagged("base/go", week), Life{TTL: day, Rule: 2}},
		{"untagged manifests have the ttl where there is no untagged_ttl", rules.Untagged("ci", day), Life{TTL: week, Rule: 3}},
		{"no rule", Rules(nil).Tagged("a", "b", day), Life{TTL: day, Rule: Default}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v; want %+v", c.what, c.got, c.want)
		}
	}
	if one, all := rules.Name(1), rules.Name(3); one != "2 (base/**:v*)" || all != "4 (**)" {
		t.Errorf("named %s and %s", one, all)
	}
	if n, by := rules.KeepLast("base/go", "dev"); n != 10 || by != 2 {
		t.Errorf("KeepLast = %d by %d", n, by)
	}
}
