package registry

import (
	"context"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/jc-lab/docker-cache-server/internal/event"
)

// login is what a request's login showed. It is checked once a request, by admit, before anything is looked up.
type login struct {
	result event.Login // empty: no login is needed
	user   string      // who is logged in
	tried  string      // the name that was given, when the login failed
}

// admit refuses a request whose login is missing or wrong. The root needs none: people look at it, and balancers
// probe it.
func (r *Registry) admit(w *response, hr *http.Request, req *request) error {
	if r.opts.Authenticate == nil || req.kind == routeRoot {
		return nil
	}
	req.login = r.checkLogin(hr, req)
	if req.login.result == event.LoggedIn {
		return nil
	}
	// The same answer for a missing, an unknown and a wrong login.
	w.Header().Set("WWW-Authenticate", `Basic realm="dcs"`)
	return errcode.ErrorCodeUnauthorized
}

func (r *Registry) checkLogin(hr *http.Request, req *request) login {
	header := first(hr.Header["Authorization"])
	if header == "" {
		return login{result: event.Challenged}
	}
	last, _ := hr.Context().Value(lastLoginKey{}).(*lastLogin)
	if user, holds := last.again(header, req.client); holds {
		return login{result: event.LoggedIn, user: user}
	}
	user, password, given := hr.BasicAuth()
	if !given {
		return login{result: event.Malformed}
	}
	result, holds := r.opts.Authenticate(hr, NetworkOf(req.client), user, password)
	if result != event.LoggedIn {
		return login{result: result, tried: user}
	}
	last.remember(header, req.client, user, holds)
	return login{result: result, user: user}
}

// lastLogin is the last login of a connection, over which a client sends the same for each request of a pull. It is in
// memory as it was sent, as long as the connection is open. What it was let in by is asked each time whether it still
// holds.
type lastLogin struct {
	is atomic.Pointer[letIn] // an HTTP/2 connection has many requests at a time
}

// letIn is a login that was right.
type letIn struct {
	header string
	client netip.Addr // a proxy has connections for many
	user   string
	holds  func() bool
}

type lastLoginKey struct{}

// ConnContext is for http.Server: logins of requests that come without it are looked up anew each time.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, lastLoginKey{}, &lastLogin{})
}

// again says whether a login is the last one, and holds. It takes the same time wherever the two differ: behind a proxy
// they may be those of two users.
func (l *lastLogin) again(header string, client netip.Addr) (user string, holds bool) {
	if l == nil {
		return "", false
	}
	last := l.is.Load()
	if last == nil || last.client != client || subtle.ConstantTimeCompare([]byte(last.header), []byte(header)) != 1 {
		return "", false
	}
	return last.user, last.holds()
}

func (l *lastLogin) remember(header string, client netip.Addr, user string, holds func() bool) {
	if l != nil && holds != nil {
		l.is.Store(&letIn{header, client, user, holds})
	}
}
