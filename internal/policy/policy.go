// Package policy decides how old is too old. It is pure: no file, no clock, no log.
//
// Tags and placed manifests are kept for the ttl after their last use. Layer links, blobs, and manifests whose file was
// never placed are kept while something refers to them, and for the grace after their last use. A lease in memory may
// be younger than its row by the resolution, so both wait for that too.
package policy

import (
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// maxResolution bounds how much recency a crash can lose. One write a minute for each object costs next to nothing.
const maxResolution = time.Minute

// Resolution returns for how long uses may stay in memory under a grace: a quarter of it, at most a minute.
func Resolution(grace time.Duration) time.Duration {
	return min(maxResolution, grace/4)
}

// Request is the policy that a command outside of a server asks for. A nil field is left to the server's policy.
type Request struct {
	TTL, Grace *time.Duration
	Default    index.Policy // for a directory that never had a server
}

// Explicit says whether the request sets anything.
func (r Request) Explicit() bool { return r.TTL != nil || r.Grace != nil }

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
	p.Grace = max(p.Grace, owed.Grace)
	p.Resolution = max(Resolution(p.Grace), owed.Resolution)
	return p
}

// Life returns for how long an image is kept after its last use; false: for ever.
func Life(p index.Policy) (time.Duration, bool) {
	return max(p.TTL, p.Grace) + p.Resolution, p.TTL > 0
}

// Cutoffs are the times before which a row must have been used last to be removed.
type Cutoffs struct {
	Names   time.Time // tags and placed manifests; zero: they are kept for ever
	Content time.Time // links, blobs, and manifests that are claims
}

// NewCutoffs returns the cutoffs of a policy. back returns the time that lies a duration of watched time ago.
func NewCutoffs(p index.Policy, back func(time.Duration) time.Time) Cutoffs {
	c := Cutoffs{Content: back(p.Grace + p.Resolution)}
	if life, expires := Life(p); expires {
		c.Names = back(life)
	}
	return c
}

// NotAfter returns the cutoffs, none of them later than a time.
func (c Cutoffs) NotAfter(t time.Time) Cutoffs {
	for _, cutoff := range []*time.Time{&c.Names, &c.Content} {
		if cutoff.After(t) {
			*cutoff = t
		}
	}
	return c
}

// Victim returns what gc asks the index to retire a row by.
func (c Cutoffs) Victim(r index.Row) index.Victim {
	if r.Key.Kind == layout.Tag || r.Key.Kind == layout.Manifest && r.Placed {
		return index.Victim{Key: r.Key, UnusedSince: c.Names}
	}
	return index.Victim{Key: r.Key, UnusedSince: c.Content, Claim: !r.Placed}
}

// Unused says whether a row was last used before its cutoff.
func (c Cutoffs) Unused(r index.Row) bool { return r.AccessedAt.Before(c.Victim(r).UnusedSince) }
