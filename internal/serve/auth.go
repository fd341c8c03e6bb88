package serve

import (
	"net/http"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/registry"
	"github.com/jc-lab/docker-cache-server/internal/users"
)

// asking lets another program decide.
func asking(ask func(r *http.Request, user, password string) bool) registry.Authenticate {
	return func(r *http.Request, _, user, password string) registry.Login {
		if ask(r, user, password) {
			return registry.LoggedIn
		}
		return registry.Rejected
	}
}

// verifying lets in who is among the users.
func verifying(v *users.Verifier) registry.Authenticate {
	return func(r *http.Request, client, user, password string) registry.Login {
		switch {
		case v.Verify(r.Context(), client, user, password):
			return registry.LoggedIn
		case r.Context().Err() != nil:
			return registry.Abandoned
		case !v.Knows(user):
			return registry.UnknownUser
		}
		return registry.WrongPassword
	}
}

// usersChanged tells the operator that somebody edited the htpasswd file, and what it says now.
func (s *Server) usersChanged(file string, n int, err error) {
	log := s.log.WithField("file", file)
	switch {
	case err != nil:
		log.WithError(err).Warn("the htpasswd file cannot be read: nobody in it can log in")
	case n == 0:
		log.Warn("the htpasswd file has no user who could log in")
	default:
		log.WithField("users", n).Info("the htpasswd file has changed")
	}
}

// watchLogins tells what no request tells in time: that the htpasswd file has changed, and how many logins failed
// that got no line.
func (s *Server) watchLogins(now time.Time) {
	if v := s.users.Load(); v != nil {
		_ = v.Err() // it looks at the file, and usersChanged tells
	}
	if n := s.failures.end(now); n > 0 {
		s.log.WithField("count", n).Warn(failureSummary)
	}
}
