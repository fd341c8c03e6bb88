// Package policy decides how old is too old. It is pure: no file, no clock, no log.
//
// Names (tags and manifests) live by the ttl; content lives by the names that refer to it, and by the
// grace for which its existence was promised. A lease may be younger than its row by the resolution, so
// every cutoff leaves room for it.
package policy

import (
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// maxResolution bounds what a crash can lose of recency, and one write a minute an object costs nothing.
const maxResolution = time.Minute

// Resolution is how long uses may stay in memory under a grace: a quarter of it, at most a minute.
func Resolution(grace time.Duration) time.Duration {
	return min(maxResolution, grace/4)
}

// Request is the policy for which somebody outside of a server asks. What is nil is left to the server.
type Request struct {
	TTL, Grace *time.Duration
	Default    index.Policy // of a directory that never had a server
}

// Explicit says whether anything was asked for.
func (r Request) Explicit() bool { return r.TTL != nil || r.Grace != nil }

// Resolve returns the policy to use, given what index.Store.Promised says. Nobody gets a grace shorter
// than what is owed.
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

// Life is how long a name lives after its last use; false: for ever.
func Life(p index.Policy) (time.Duration, bool) {
	return max(p.TTL, p.Grace) + p.Resolution, p.TTL > 0
}

// Cutoffs are the times before which names and content must have been used last to go. back gives the
// time that lies a duration of watched time ago.
func Cutoffs(p index.Policy, back func(time.Duration) time.Time) index.Cutoffs {
	cut := index.Cutoffs{Content: back(p.Grace + p.Resolution)}
	if life, mortal := Life(p); mortal {
		cut.Names = back(life)
	}
	return cut
}

// Dead says whether a row was last used before its cutoff. A claim whose file never came is content.
func Dead(r index.Row, cut index.Cutoffs) bool {
	name := r.Key.Kind == layout.Tag || (r.Key.Kind == layout.Manifest && r.Placed)
	if name {
		return r.AccessedAt.Before(cut.Names)
	}
	return r.AccessedAt.Before(cut.Content)
}
