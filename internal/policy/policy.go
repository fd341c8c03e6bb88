// Package policy decides how old is too old. It is pure: no file, no clock, no log.
//
// Tags and placed manifests are kept for their life after their last use: the ttl, or what a rule says. Layer links,
// blobs, and manifests whose file was never placed are kept while something refers to them, and for the grace after
// their last use. A lease in memory may be younger than its row by the resolution, so both wait for that too.
package policy

import (
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// maxResolution bounds how much recency a crash can lose. One write a minute for each object costs next to nothing.
const maxResolution = time.Minute

// Resolution returns for how long uses may stay in memory under a grace: a quarter of it, at most a minute.
func Resolution(grace time.Duration) time.Duration {
	return min(maxResolution, grace/4)
}

// Request is the policy that a command outside of a server asks for. A nil field is left to the server's policy.
type Request struct {
	TTL, Grace       *time.Duration
	Rules            *rule.Rules
	MaxSize, MinFree *rule.Size
	GoneFor          *time.Duration
	Default          index.Policy // for a directory that never had a server
	Configured       bool         // the operator named a configuration: what it leaves out has its default
}

// Known says whether the request alone says for how long images stay.
func (r Request) Known() bool { return r.TTL != nil || r.Configured }

// Explicit says whether the request sets anything.
func (r Request) Explicit() bool {
	return r.TTL != nil || r.Grace != nil || r.Rules != nil || r.MaxSize != nil || r.MinFree != nil
}

// Resolve returns the policy to use, given what index.Store.Promised returned. The grace is never shorter than what is
// owed.
func (r Request) Resolve(last, owed index.Policy, promised bool) index.Policy {
	p := r.Default
	if promised {
		p = last
	}
	if r.TTL != nil {
		p.TTL = *r.TTL
	}
	if r.Grace != nil {
		p.Grace = *r.Grace
	}
	if r.Rules != nil {
		p.Rules = *r.Rules
	}
	if r.GoneFor != nil {
		p.GoneFor = *r.GoneFor
	}
	if r.MaxSize != nil {
		p.Budget.MaxSize = *r.MaxSize
	}
	if r.MinFree != nil {
		p.Budget.MinFree = *r.MinFree
	}
	p.Grace = max(p.Grace, owed.Grace)
	p.Resolution = max(Resolution(p.Grace), owed.Resolution)
	return p
}

// Cutoffs are the times before which a row must have been used last to be removed.
type Cutoffs struct {
	Names   time.Time // tags and placed manifests that no rule decides for; zero: they are kept for ever
	Latest  time.Time // of the names with the shortest life that the policy can give; zero: all are kept for ever
	Content time.Time // links, blobs, and manifests that are claims

	names map[time.Duration]time.Time // of the lives that the policy can give
}

// NewCutoffs returns the cutoffs of a policy, none of them later than notAfter unless that is zero. back returns the
// time that lies a duration of watched time ago.
func NewCutoffs(p index.Policy, back func(time.Duration) time.Time, notAfter time.Time) Cutoffs {
	ago := func(d time.Duration) time.Time {
		t := back(d)
		if !notAfter.IsZero() && t.After(notAfter) {
			return notAfter
		}
		return t
	}
	c := Cutoffs{Content: ago(p.Grace + p.Resolution), names: map[time.Duration]time.Time{}}
	for _, l := range lives(p) {
		if l.Forever() {
			continue
		}
		c.names[l.TTL] = ago(l.TTL)
		if t := c.names[l.TTL]; t.After(c.Latest) {
			c.Latest = t
		}
	}
	c.Names = c.Of(Life(p))
	return c
}

// Of returns the cutoff of a life that the policy gives; zero: for ever.
func (c Cutoffs) Of(l rule.Life) time.Time { return c.names[l.TTL] }

// Victim returns what gc asks the index to retire a row by. The life is that of a tag or a placed manifest, and means
// nothing for another row.
func (c Cutoffs) Victim(r index.Row, l rule.Life) index.Victim {
	if r.Key.Kind == layout.Tag || r.Key.Kind == layout.Manifest && r.Placed {
		return index.Victim{Key: r.Key, UnusedSince: c.Of(l)}
	}
	return index.Victim{Key: r.Key, UnusedSince: c.Content, Claim: !r.Placed}
}

// Unused says whether a row was last used before its cutoff.
func (c Cutoffs) Unused(r index.Row, l rule.Life) bool {
	return r.AccessedAt.Before(c.Victim(r, l).UnusedSince)
}
