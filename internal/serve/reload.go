package serve

import (
	"context"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// Reloaded says which keys of a configuration a running server took, and which ones count from its next start on.
type Reloaded struct{ Taken, Restart []string }

// takes are the keys that a running server can take. cache.grace is not among them: what was promised by the old one
// is still owed, and leases in memory are as coarse as the old one allowed.
var takes = []string{"auth.users", "auth.htpasswd", "cache.ttl", "cache.cleanup_interval", "cache.adopt_age",
	"log.level", "log.format", "log.access", "server.drain_timeout", "server.tls.certificate", "server.tls.key"}

// Reload reads users and certificates again, and takes from a configuration what a running server can take. The
// logger belongs to the caller. After an error everything is as it was.
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
	users, err := s.reread(&next)
	if err != nil {
		return Reloaded{}, err
	}
	cert, err := newCertificate(next.Server.TLS, s.reach)
	if err != nil {
		return Reloaded{}, err
	}
	if next.Cache.TTL != old.Cache.TTL {
		if err := s.store.Index.Promise(ctx, store.PolicyOf(&next)); err != nil {
			return Reloaded{}, err
		}
	}
	if users != nil {
		verify := verifying(users)
		s.verify.Store(&verify)
		s.users.Store(users)
	}
	s.certificate.take(cert)
	s.live.Store(&next)
	s.reschedule(schedule(&next))
	if why := store.ShortTTL(store.PolicyOf(&next)); why != "" {
		s.log.Warn(why)
	}
	return r, nil
}

// needsStart says whether a key turns TLS on or off, which is decided when the listener is opened.
func (s *Server) needsStart(key string, cfg *config.Config) bool {
	tls := key == "server.tls.certificate" || key == "server.tls.key"
	return tls && (s.certificate != nil) != (cfg.Server.TLS.Certificate != "")
}

// reread reads the users. Nil: there is no login, or not by them. A file that cannot be read is refused here, since
// there are users who could log in until now.
func (s *Server) reread(cfg *config.Config) (*users.Verifier, error) {
	if s.opts.Authenticate != nil || !cfg.Auth.Enabled {
		return nil, nil
	}
	v, err := s.verifier(cfg)
	if err == nil {
		err = v.Err()
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// reschedule leaves the newest schedule for the sweeper. Nobody else sends.
func (s *Server) reschedule(now gc.Schedule) {
	select {
	case <-s.schedule: // the sweeper has not come to it
	default:
	}
	s.schedule <- now
}
