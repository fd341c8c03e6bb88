package serve

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/registry"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// ErrNoUsers is any NoUsersError.
var ErrNoUsers = errors.New("there is no user who could log in")

// NoUsersError says that a login is required and that no user can log in.
type NoUsersError struct {
	Htpasswd string
	Unusable []string // users of the file without a bcrypt hash
}

func (e *NoUsersError) Error() string {
	s := "authentication is on and there is no user who could log in"
	if len(e.Unusable) > 0 {
		s += fmt.Sprintf(" (%d in %s without a bcrypt hash)", len(e.Unusable), e.Htpasswd)
	}
	return s
}

// Is makes every NoUsersError an ErrNoUsers.
func (e *NoUsersError) Is(target error) bool { return target == ErrNoUsers }

// logins decide whether a client may use the registry. The program around the server decides, or a user must be in the
// configuration or in the htpasswd file, or no login is needed.
type logins struct {
	log   logrus.FieldLogger
	reach reach
	ask   func(r *http.Request, user, password string) bool // of Options; nil: the configured users
	users atomic.Pointer[users.Verifier]                    // nil: ask decides, or no login is needed
}

func newLogins(o Options, reach reach) (*logins, error) {
	l := &logins{log: o.Log, reach: reach, ask: o.Authenticate}
	v, err := l.read(o.Config)
	if v == nil || err != nil {
		return l, err
	}
	if err := v.Err(); err != nil {
		l.log.WithError(err).Warn("users of the htpasswd file cannot log in")
	}
	l.users.Store(v)
	return l, nil
}

// check is what the registry asks about the login of a request; nil: no login is needed.
func (l *logins) check() registry.Authenticate {
	switch {
	case l.ask != nil:
		return l.askProgram
	case l.users.Load() != nil:
		return l.verify
	}
	return nil
}

// askProgram asks for each request: only the program knows how long its answer holds.
func (l *logins) askProgram(r *http.Request, _, user, password string) (event.Login, func() bool) {
	if l.ask(r, user, password) {
		return event.LoggedIn, nil
	}
	return event.Rejected, nil
}

func (l *logins) verify(r *http.Request, client, user, password string) (event.Login, func() bool) {
	v := l.users.Load() // of the newest configuration
	pass := v.Verify(r.Context(), client, user, password)
	switch {
	case pass != nil:
		return event.LoggedIn, func() bool { return l.users.Load() == v && pass.Holds() }
	case r.Context().Err() != nil:
		return event.Abandoned, nil
	case !v.Knows(user):
		return event.UnknownUser, nil
	}
	return event.WrongPassword, nil
}

// read reads the users of a configuration, of whom at least one must be able to log in. Nil: they are not asked.
func (l *logins) read(cfg *config.Config) (*users.Verifier, error) {
	if l.ask != nil || !cfg.Auth.Enabled {
		return nil, nil
	}
	o := users.VerifierOptions{Path: users.Path(cfg.Auth.Htpasswd, tree.Dir(cfg.Storage.Directory)), Access: l.reach,
		After: l.users.Load()}
	o.OnChange = func(n int, err error) { l.changed(o.Path, n, err) }
	for _, u := range cfg.Auth.Users {
		o.Users = append(o.Users, users.Credential{Name: u.Username, Password: u.Password})
	}
	v, err := users.NewVerifier(o)
	if err != nil {
		return nil, err
	}
	n, err := v.Count()
	switch {
	case n == 0 && err != nil:
		return nil, err
	case n == 0:
		return nil, &NoUsersError{o.Path, v.Unusable()}
	}
	for _, name := range v.Unusable() {
		l.log.WithField("user", name).Warn("this entry of the htpasswd file has no bcrypt hash and cannot log in")
	}
	return v, nil
}

// reread is read for a running server. A file that cannot be read is an error here: its users could log in until now.
func (l *logins) reread(cfg *config.Config) (*users.Verifier, error) {
	v, err := l.read(cfg)
	if v == nil || err != nil {
		return nil, err
	}
	return v, v.Err()
}

// take replaces the users by those that reread returned.
func (l *logins) take(v *users.Verifier) {
	if v != nil {
		l.users.Store(v)
	}
}

// watch looks whether the htpasswd file has changed, so that the log reports the change before the next login.
func (l *logins) watch() {
	if v := l.users.Load(); v != nil {
		_ = v.Err() // it reads a changed file, and calls changed
	}
}

// changed tells the operator that the htpasswd file was edited, and how many users it has now.
func (l *logins) changed(file string, n int, err error) {
	log := l.log.WithField("file", file)
	switch {
	case err != nil:
		log.WithError(err).Warn("the htpasswd file cannot be read: its users cannot log in")
	case n == 0:
		log.Warn("the htpasswd file has no user who could log in")
	default:
		log.WithField("users", n).Info("the htpasswd file has changed")
	}
}
