package policy

import (
	"cmp"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// Life returns for how long an image is kept after its last use if no rule decides for it.
func Life(p index.Policy) rule.Life { return floor(p, rule.Life{TTL: p.TTL, Rule: rule.Default}) }

// Tagged returns the life of a tag, and Untagged that of a manifest without an owner, each of a repository.
func Tagged(p index.Policy, repository, tag string) rule.Life {
	return floor(p, p.Rules.Tagged(repository, tag, p.TTL))
}

// Untagged: see Tagged.
func Untagged(p index.Policy, repository string) rule.Life {
	return floor(p, p.Rules.Untagged(repository, p.TTL))
}

// longest is the longest life that ends: sums with longer ones would be wrong.
const longest = 200 * 365 * 24 * time.Hour

// floor makes a life that ends no sooner than what was promised.
func floor(p index.Policy, l rule.Life) rule.Life {
	if l.Forever() {
		return l
	}
	if l.TTL = max(l.TTL, p.Grace); l.TTL > longest {
		l.TTL = 0
	} else {
		l.TTL += p.Resolution
	}
	return l
}

// lives are all lives that a policy can give.
func lives(p index.Policy) []rule.Life {
	all := []rule.Life{Life(p)}
	for i, r := range p.Rules {
		for _, ttl := range []*time.Duration{r.TTL, r.UntaggedTTL} {
			if ttl != nil {
				all = append(all, floor(p, rule.Life{TTL: *ttl, Rule: i}))
			}
		}
	}
	return all
}

// Verdict says when a tag or a manifest expires if it is not used any more.
type Verdict struct {
	Used time.Time
	Life rule.Life // its own
	Due  time.Time // zero: never
	Rule int       // that of the life that ends at Due, rule.Default, or rule.Pinned: the pin ends then
	// Claim says of a manifest that its file was never placed and that nothing else keeps it. It lives as content does,
	// and gives that life to nothing.
	Claim bool
}

// Later says whether v ends later than w.
func (v Verdict) Later(w Verdict) bool {
	if v.Due.IsZero() || w.Due.IsZero() {
		return v.Due.IsZero() && !w.Due.IsZero()
	}
	return v.Due.After(w.Due)
}

// Due returns the time at which a time will lie so long ago, as index.Store says.
type Due func(time.Time, time.Duration) time.Time

// Own returns the verdict on what nothing keeps.
func Own(used time.Time, l rule.Life, due Due) Verdict {
	v := Verdict{Used: used, Life: l, Rule: l.Rule}
	if !l.Forever() {
		v.Due = due(used, l.TTL)
	}
	return v
}

// Alone returns the verdict on a manifest as if nothing kept it.
func Alone(p index.Policy, m index.Row, due Due) Verdict {
	if m.Placed {
		return Own(m.AccessedAt, Untagged(p, m.Key.Repository), due)
	}
	v := Own(m.AccessedAt, rule.Life{TTL: p.Grace + p.Resolution, Rule: rule.Default}, due)
	v.Claim = true
	return v
}

// Kept returns the verdict on a manifest that tags and other manifests keep; own is the one that it has without them.
// It expires with the last of them, unless it was used by itself since: then it lives on as one that has lost them.
// So it makes no difference how many of them an earlier run has removed.
func Kept(own Verdict, keepers []Verdict) Verdict {
	var last *Verdict
	for i, k := range keepers {
		if k.Claim {
			continue
		}
		if last == nil || k.Later(*last) || !last.Later(k) && k.Used.After(last.Used) {
			last = &keepers[i]
		}
	}
	v := own
	if last != nil {
		v.Claim = own.Claim && own.Used.After(last.Used)
		if !own.Used.After(last.Used) {
			v.Life, v.Due, v.Rule = last.Life, last.Due, last.Rule
		} else if last.Later(own) {
			v.Due, v.Rule = last.Due, last.Rule
		}
	}
	for _, k := range keepers {
		if k.Claim && k.Later(v) {
			v.Due, v.Rule = k.Due, k.Rule
		}
	}
	return v
}

// LastUse is when a tag was used last.
type LastUse struct {
	Tag string
	At  time.Time
}

// KeptLast returns the tags of a repository that stay since they are among those that were used last, each with the
// number of the rule that says so. Of tags that were used at one time the first by name counts first. A tag that is
// about an image takes no place and has none: it goes with its image.
func KeptLast(p index.Policy, repository string, tags []LastUse) map[string]int {
	slices.SortFunc(tags, func(a, b LastUse) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Tag, b.Tag)) })
	kept, taken := map[string]int{}, map[int]int{}
	for _, t := range tags {
		if layout.About(t.Tag) != "" {
			continue
		}
		if n, by := p.Rules.KeepLast(repository, t.Tag); taken[by] < n {
			taken[by]++
			kept[t.Tag] = by
		}
	}
	return kept
}
