package rule

import "strings"

// Idle is a setting that decides nothing.
type Idle struct {
	Rule    int    // the number of its rule, from 0
	Setting string // keep, ttl, untagged_ttl or keep_last
	By      int    // the number of the rule that decides for all that Rule matches; it may be Rule itself
	Keeps   bool   // By keeps them, and does not decide the setting itself
}

// Idle returns the settings that decide nothing, in the order of the rules. A setting is idle if a rule before it
// decides it for all that its rule matches, or if all that is kept. Globs are compared as they are written, so some
// that decide nothing are not found.
func (rs Rules) Idle() []Idle {
	var found []Idle
	for i, r := range rs {
		add := func(setting string, set bool, of func(Rule) bool) {
			if !set {
				return
			}
			for j, by := range rs[:i] {
				if of(by) && by.covers(r) {
					found = append(found, Idle{i, setting, j, false})
					return
				}
			}
			if j := rs.keeper(i); j != Default && setting != "keep" {
				found = append(found, Idle{i, setting, j, true})
			}
		}
		add("keep", r.Keep != nil, func(by Rule) bool { return by.Keep != nil })
		add("ttl", r.TTL != nil, func(by Rule) bool { return by.TTL != nil })
		add("untagged_ttl", r.UntaggedTTL != nil, func(by Rule) bool { return by.UntaggedTTL != nil })
		add("keep_last", r.KeepLast != nil, func(by Rule) bool { return by.KeepLast != nil })
	}
	return found
}

// keeper returns the number of the rule, up to i, that keeps all that rule i matches; or Default.
func (rs Rules) keeper(i int) int {
	for j, by := range rs[:i+1] {
		switch {
		case by.Keep == nil:
		case !*by.Keep: // it may take out some of them
			return Default
		case by.covers(rs[i]):
			return j
		}
	}
	return Default
}

// covers says whether r surely matches all that another rule matches.
func (r Rule) covers(other Rule) bool {
	return covers(r.Repository, other.Repository) &&
		(r.Tag == "" || other.Tag != "" && (r.Tag == "*" || covers(r.Tag, other.Tag)))
}

// covers says whether a glob surely matches all names that another one matches.
func covers(wide, narrow string) bool {
	isName := narrow != "" && !strings.ContainsAny(narrow, `*?[\`)
	return wide == "" || wide == "**" || wide == narrow || isName && Match(wide, narrow)
}
