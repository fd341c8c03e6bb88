// Package rule says what the rules of an operator decide for a tag, and for a manifest without a tag. It is pure: no
// file, no clock, no index.
//
// Each setting is decided by the first rule that matches and has it. So one rule can keep an image, and a later one
// can give the ttl of its repository.
package rule

import (
	"cmp"
	"fmt"
	"time"
)

// Rule is one rule. A setting that is nil is left to the rules after it.
type Rule struct {
	Repository string `json:"repository,omitempty"` // glob; empty: every repository
	Tag        string `json:"tag,omitempty"`        // glob; empty: every tag, and what has no tag

	Keep        *bool          `json:"keep,omitempty"`         // what matches stays
	TTL         *time.Duration `json:"ttl,omitempty"`          // for how long it stays unused, at least 0; 0: for ever
	UntaggedTTL *time.Duration `json:"untagged_ttl,omitempty"` // the same, of manifests without a tag
	KeepLast    *int           `json:"keep_last,omitempty"`    // so many tags of each repository stay, at least 0
}

// Rules are in the order of the configuration.
type Rules []Rule

// Default is the number of the rule that decided where no rule did.
const Default = -1

// Pinned is the number in place of a rule where a pin decided.
const Pinned = -2

// Life is how long an image stays after its last use.
type Life struct {
	TTL time.Duration // 0: for ever
	// Rule is the number of the rule that decided, from 0, or Default or Pinned.
	Rule int
	// Kept says that a rule keeps the image, also where there is no room for it. Then TTL is 0.
	Kept bool
}

// Forever says whether the image stays whenever it was used.
func (l Life) Forever() bool { return l.TTL == 0 }

// Tagged returns the life of a tag, where ttl is that of images without a rule.
func (rs Rules) Tagged(repository, tag string, ttl time.Duration) Life {
	matches := func(r Rule) bool { return Match(r.Repository, repository) && Match(r.Tag, tag) }
	if l, decided := rs.kept(matches); decided {
		return l
	}
	l, _ := rs.first(matches, func(r Rule) *time.Duration { return r.TTL }, ttl)
	return l
}

// Untagged returns the life of a manifest without a tag, where ttl is that of images without a rule.
func (rs Rules) Untagged(repository string, ttl time.Duration) Life {
	matches := func(r Rule) bool { return r.Tag == "" && Match(r.Repository, repository) }
	if l, decided := rs.kept(matches); decided {
		return l
	}
	if l, decided := rs.first(matches, func(r Rule) *time.Duration { return r.UntaggedTTL }, ttl); decided {
		return l
	}
	l, _ := rs.first(matches, func(r Rule) *time.Duration { return r.TTL }, ttl)
	return l
}

// KeepLast returns how many of the last used tags of a repository stay by the rule that decides for this tag, and its
// number; 0 and Default: no rule does. Only the tags that the same rule decides for compete for these places.
func (rs Rules) KeepLast(repository, tag string) (n, rule int) {
	for i, r := range rs {
		if r.KeepLast != nil && Match(r.Repository, repository) && Match(r.Tag, tag) {
			return *r.KeepLast, i
		}
	}
	return 0, Default
}

// kept returns a life without an end, if the first rule that decides keep says so.
func (rs Rules) kept(matches func(Rule) bool) (Life, bool) {
	for i, r := range rs {
		if r.Keep != nil && matches(r) {
			return Life{0, i, *r.Keep}, *r.Keep
		}
	}
	return Life{}, false
}

// first returns the life that the first matching rule sets, or the one of the default.
func (rs Rules) first(matches func(Rule) bool, setting func(Rule) *time.Duration, ttl time.Duration) (Life, bool) {
	for i, r := range rs {
		if d := setting(r); d != nil && matches(r) {
			return Life{TTL: *d, Rule: i}, true
		}
	}
	return Life{TTL: ttl, Rule: Default}, false
}

// Name says which rule a number means, as people count: its place from 1, and what it matches.
func (rs Rules) Name(n int) string {
	matches := cmp.Or(rs[n].Repository, "**")
	if rs[n].Tag != "" {
		matches += ":" + rs[n].Tag
	}
	return fmt.Sprintf("%d (%s)", n+1, matches)
}
