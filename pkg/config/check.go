package config

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Checked is what Check says of a file without mistakes.
type Checked struct {
	Rules    []string // what each of cache.rules does, in plain words and with its line
	Warnings Errors   // settings without an effect, each with its line; Load takes them
}

// Check reads a file as Load does, without environment and flags, and explains it. The error is an Errors in the order
// of the lines.
func Check(file string) (*Checked, error) {
	l := newLoader()
	l.readFile(file)
	l.validate()
	if len(l.errs) > 0 {
		l.errs.sort()
		return nil, l.errs
	}
	var c Checked
	for i, r := range l.cfg.Cache.Rules {
		c.Rules = append(c.Rules, fmt.Sprintf("rule %d (line %d): %s", i+1, l.line(rulePath(i)), r.Explain()))
	}
	c.Warnings = l.cfg.Cache.idle()
	for _, w := range c.Warnings {
		l.locate(w)
	}
	c.Warnings.sort()
	return &c, nil
}

// sort puts errors in the order of their lines.
func (e Errors) sort() {
	slices.SortStableFunc(e, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
}

// idle returns the settings of the cache that have no effect.
func (c *Cache) idle() (found Errors) {
	for _, i := range c.RuleSet().Idle() {
		by, why := rulePath(i.By), "decides it for all that matches"
		hint := "remove it, or move its rule before the other"
		if i.Keeps {
			why, hint = "keeps all that matches", "remove it"
		}
		found.unless(false, rulePath(i.Rule)+"."+i.Setting, "", hint, "has no effect: %s %s", by, why)
	}
	found.notBelow("cache.ttl", &c.TTL, c.Grace)
	for i, r := range c.Rules {
		found.notBelow(rulePath(i)+".ttl", r.TTL, c.Grace)
		found.notBelow(rulePath(i)+".untagged_ttl", r.UntaggedTTL, c.Grace)
	}
	return found
}

// notBelow adds that a ttl is shorter than the grace, for which everything stays.
func (e *Errors) notBelow(key string, ttl *time.Duration, grace time.Duration) {
	if ttl != nil && *ttl != 0 {
		e.unless(*ttl >= grace, key, FormatDuration(*ttl), "choose at least "+FormatDuration(grace),
			"is shorter than cache.grace, so %s counts in its place", FormatDuration(grace))
	}
}
