package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// PolicyOf is what a server with this configuration promises.
func PolicyOf(cfg *config.Config) index.Policy {
	return index.Policy{TTL: cfg.Cache.TTL, Grace: cfg.Cache.Grace, Resolution: policy.Resolution(cfg.Cache.Grace),
		Rules: cfg.Cache.RuleSet(), Budget: cfg.Cache.Budget(), GoneFor: cfg.Cache.GoneFor}
}

// Asked is the policy that a configuration asks for outside of a server: what the operator set. The rest is left to
// what the last server of the directory promised.
func Asked(cfg *config.Config, origins config.Origins) policy.Request {
	r := policy.Request{Default: PolicyOf(cfg), Configured: origins.HasFile()}
	if cfg.Cache.MinFree == nil && !r.Configured { // what a server keeps free unasked; other commands follow one
		r.Default.Budget.MinFree.Percent = 0
	}
	if origins.Explicit("cache.ttl") {
		r.TTL = &cfg.Cache.TTL
	}
	if origins.Explicit("cache.grace") {
		r.Grace = &cfg.Cache.Grace
	}
	if origins.Explicit("cache.rules") {
		rules := cfg.Cache.RuleSet()
		r.Rules = &rules
	}
	if origins.Explicit("cache.gone_for") {
		r.GoneFor = &cfg.Cache.GoneFor
	}
	if budget := cfg.Cache.Budget(); origins.Explicit("cache.max_size") {
		r.MaxSize = &budget.MaxSize
	}
	if budget := cfg.Cache.Budget(); origins.Explicit("cache.min_free") {
		r.MinFree = &budget.MinFree
	}
	return r
}

// NameAge is the age that a configuration gives to tags and manifests that the index does not know. Nil: they count
// as used now.
func NameAge(cfg *config.Config) adopt.Age {
	if cfg.Cache.AdoptAge == "mtime" {
		return func(modified time.Time) time.Time { return modified }
	}
	return nil
}

// ShortTTL says which ttl of a policy has no effect, and why. Empty: each has one.
func ShortTTL(p index.Policy) string {
	if why := tooShort(p, "ttl", &p.TTL); why != "" {
		return why
	}
	for i, r := range p.Rules {
		of := " of rule " + p.Rules.Name(i)
		if why := cmp.Or(tooShort(p, "ttl"+of, r.TTL), tooShort(p, "untagged_ttl"+of, r.UntaggedTTL)); why != "" {
			return why
		}
	}
	return ""
}

func tooShort(p index.Policy, what string, ttl *time.Duration) string {
	if ttl == nil || *ttl == 0 || *ttl >= p.Grace {
		return ""
	}
	return fmt.Sprintf("%s %s has no effect below the grace of %s",
		what, config.FormatDuration(*ttl), config.FormatDuration(p.Grace))
}

// GraceError refuses a grace that is shorter than what servers owe to their clients.
type GraceError struct{ Asked, Owed time.Duration }

func (e *GraceError) Error() string {
	return fmt.Sprintf(
		"grace %s is shorter than the %s that a server of this directory promised; clients may rely on that",
		config.FormatDuration(e.Asked), config.FormatDuration(e.Owed))
}

// resolve decides by which policy a run goes. Who only reads is shown what holds. With remove it returns a *GraceError
// where the operator asked for a shorter grace than what is owed, and a *PolicyError where a server promised something
// that is not known any more and the operator asked for nothing.
func (o Opener) resolve(ctx context.Context, s *Store, remove bool) error {
	last, owed, promised, err := s.promised(ctx)
	var unknown *PolicyError
	switch {
	case errors.As(err, &unknown) && (!remove || o.Asked.Known()):
		o.Log.WithError(err).Warn("the policy of the server is not known")
	case err != nil:
		return err
	case remove && !promised && o.Dir.Served() && !o.Asked.Known():
		return &PolicyError{File: o.Dir.Policy()}
	}
	if asked := o.Asked.Grace; remove && asked != nil && *asked < owed.Grace {
		return &GraceError{*asked, owed.Grace}
	}
	s.Policy = o.Asked.Resolve(last, owed, promised)
	return nil
}
