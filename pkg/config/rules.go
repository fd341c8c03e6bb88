package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// RuleSet returns the rules in the form that decides. It shares their settings.
func (c *Cache) RuleSet() rule.Rules {
	var rules rule.Rules
	for _, r := range c.Rules {
		rules = append(rules, rule.Rule{Repository: r.Repository, Tag: r.Tag, Keep: r.Keep, TTL: r.TTL,
			UntaggedTTL: r.UntaggedTTL, KeepLast: r.KeepLast})
	}
	return rules
}

// rulePath returns the path of the rule with a number, from 0.
func rulePath(i int) string { return fmt.Sprintf("cache.rules[%d]", i) }

// String returns the rule as a line of the file spells it: {repository: "base/**", tag: "v*", keep: true}.
func (r Rule) String() string {
	var settings []string
	for _, k := range r.keys() {
		if reflect.ValueOf(k.field).Elem().IsZero() {
			continue
		}
		value := text(k.field)
		if kind(k.field) == "string" {
			value = strconv.Quote(value)
		}
		settings = append(settings, k.name+": "+value)
	}
	return "{" + strings.Join(settings, ", ") + "}"
}

// Explain says in plain words which images the rule is for, and what it does: "images base/** tagged v*: kept".
func (r Rule) Explain() string {
	images := "all images"
	switch {
	case r.Repository != "" && r.Tag != "":
		images = "images " + r.Repository + " tagged " + r.Tag
	case r.Repository != "":
		images = "images " + r.Repository
	case r.Tag != "":
		images = "images tagged " + r.Tag
	}
	var effects []string
	if r.Keep != nil && *r.Keep {
		effects = append(effects, "kept")
	} else if r.Keep != nil {
		effects = append(effects, "not kept by a later rule")
	}
	if r.TTL != nil {
		effects = append(effects, removedWhen(*r.TTL))
	}
	if r.UntaggedTTL != nil {
		effects = append(effects, "without a tag "+removedWhen(*r.UntaggedTTL))
	}
	if r.KeepLast != nil && *r.KeepLast > 0 {
		effects = append(effects, fmt.Sprintf("the last used %d tags of each repository kept", *r.KeepLast))
	} else if r.KeepLast != nil {
		effects = append(effects, "no tags kept by keep_last of a later rule")
	}
	return images + ": " + strings.Join(effects, "; ")
}

func removedWhen(unused time.Duration) string {
	if unused == 0 {
		return "never removed for being unused"
	}
	return "removed when unused for " + FormatDuration(unused)
}

// Letters that names have, as the specification of OCI distribution says, and the marks of a glob. A backslash is none
// of them, since no name has a mark that it could escape.
const (
	repositoryLetters = "abcdefghijklmnopqrstuvwxyz0123456789._-/"
	tagLetters        = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	globMarks         = "*?[]^"
)

// check adds the mistakes in the rule at a path.
func (r *Rule) check(found *Errors, path string) {
	err := checkGlob(r.Repository, "repository", repositoryLetters)
	found.unless(err == nil, path+".repository", r.Repository,
		"write it like base/** or team/app-*: in small letters, and without host and tag", "%v", err)
	err = checkGlob(r.Tag, "tag", tagLetters)
	found.unless(err == nil, path+".tag", r.Tag, "write it like v* or release-[0-9]*", "%v", err)
	if r.TTL != nil {
		found.notNegative(path+".ttl", *r.TTL, "use 0 to keep images forever")
	}
	if r.UntaggedTTL != nil {
		key := path + ".untagged_ttl"
		found.notNegative(key, *r.UntaggedTTL, "use 0 to keep images forever")
		found.unless(r.Tag == "", key, FormatDuration(*r.UntaggedTTL), "put it into a rule without tag",
			"has no effect beside tag: what has no tag does not match")
	}
	if r.KeepLast != nil {
		found.unless(*r.KeepLast >= 0, path+".keep_last", strconv.Itoa(*r.KeepLast), "0 keeps none", "is negative")
	}
	if r.MaxSize != nil {
		found.notYet(true, path+".max_size", FormatSize(*r.MaxSize), "remove it")
	}
	without := Rule{Repository: r.Repository, Tag: r.Tag}
	found.unless(*r != without, path, "", "give it keep, ttl, untagged_ttl or keep_last, or remove it", "sets nothing")
}

// checkGlob returns why a glob can match no name of its kind, or nil. The error continues the sentence that the glob
// begins. Where a rule keeps images, a glob that never matches would let them go.
func checkGlob(glob, kind, letters string) error {
	if err := rule.Check(glob); err != nil {
		return err
	}
	for _, letter := range glob {
		if !strings.ContainsRune(letters+globMarks, letter) {
			return fmt.Errorf("has %q, which no %s has", letter, kind)
		}
	}
	if glob != "" && slices.Contains(strings.Split(glob, "/"), "") {
		return errors.New("has a slash at an end, or two together, which no repository has")
	}
	return nil
}
