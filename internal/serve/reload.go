package serve

import (
	"context"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// Reloaded says which keys of a configuration a running server took over, and which ones need a restart.
type Reloaded struct{ Taken, Restart []string }

// takes are the keys that a running server can take over. cache.grace is not among them: the server still owes the old
// grace, and leases in memory are as coarse as the old one allowed.
var takes = []string{"auth.users", "auth.htpasswd", "cache.ttl", "cache.rules", "cache.max_size",
	"cache.min_free", "cache.cleanup_interval", "cache.adopt_age", "cache.gone_for", "log.level", "log.format",
	"log.access", "server.drain_timeout", "server.tls.certificate", "server.tls.key"}

// Reload reads users and certificates again, and takes over what a running server can. It first prepares everything
// that can fail, so after an error nothing has changed. The logger belongs to the caller. One call at a time.
func (s *Server) Reload(ctx context.Context, cfg *config.Config) (r Reloaded, err error) {
	if err := cfg.Validate(); err != nil {
		return r, err
	}
	old := s.Config()
	for _, key := range cfg.Differs(old) {
		if slices.Contains(takes, key) && !s.needsStart(key, cfg) {
			r.Taken = append(r.Taken, key)
		} else {
			r.Restart = append(r.Restart, key)
		}
	}
	next := *old
	next.Take(cfg, r.Taken...)
	users, err := s.logins.reread(&next)
	if err != nil {
		return Reloaded{}, err
	}
	cert, err := newCertificate(next.Server.TLS, s.reach)
	if err != nil {
		return Reloaded{}, err
	}
	if slices.ContainsFunc(r.Taken, isPolicy) {
		if err := s.store.Promise(ctx, store.PolicyOf(&next)); err != nil {
			return Reloaded{}, err
		}
	}
	s.logins.take(users)
	s.front.certificate.take(cert)
	s.config.Store(&next)
	s.room.SetBudget(s.budget(&next))
	s.cleaner.follow(schedule(&next))
	if why := store.ShortTTL(store.PolicyOf(&next)); why != "" {
		s.log.Warn(why)
	}
	return r, nil
}

// isPolicy says whether other processes, such as a gc beside the server, are told a new value of a key.
func isPolicy(key string) bool {
	return slices.Contains([]string{"cache.ttl", "cache.rules", "cache.max_size", "cache.min_free", "cache.gone_for"},
		key)
}

// needsStart says whether a key turns TLS on or off. The listener was opened with or without it.
func (s *Server) needsStart(key string, cfg *config.Config) bool {
	tls := key == "server.tls.certificate" || key == "server.tls.key"
	return tls && (s.front.certificate != nil) != (cfg.Server.TLS.Certificate != "")
}
