package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
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
	sent := r.key.mark(header)
	if user, holds := last.again(sent, req.client); holds {
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
	last.remember(sent, req.client, user, holds)
	return login{result: result, user: user}
}

// key is random in each process, so that a mark says nothing about what it stands for.
type key [sha256.Size]byte

func newKey() (k key) {
	rand.Read(k[:]) // never fails, see crypto/rand
	return k
}

// mark stands for what a client sent, which is not kept.
func (k *key) mark(sent string) [sha256.Size]byte {
	var space [512]byte // for usual ones
	return sha256.Sum256(append(append(space[:0], k[:]...), sent...))
}

// lastLogin is the last login of a connection, over which a client sends the same for each request of a pull. What let
// it in is asked each time whether that still holds.
type lastLogin struct {
	is atomic.Pointer[letIn] // an HTTP/2 connection has many requests at a time
}

// letIn is a login that was right.
type letIn struct {
	sent   [sha256.Size]byte // its mark
	client netip.Addr        // a proxy has connections for many
	user   string
	holds  func() bool
}

type lastLoginKey struct{}

// ConnContext is for http.Server: logins of requests that come without it are looked up anew each time.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, lastLoginKey{}, &lastLogin{})
}

// again says whether a login is the last one, and holds.
func (l *lastLogin) again(sent [sha256.Size]byte, client netip.Addr) (user string, holds bool) {
	if l == nil {
		return "", false
	}
	last := l.is.Load()
	if last == nil || last.sent != sent || last.client != client {
		return "", false
	}
	return last.user, last.holds()
}

func (l *lastLogin) remember(sent [sha256.Size]byte, client netip.Addr, user string, holds func() bool) {
	if l != nil && holds != nil {
		l.is.Store(&letIn{sent, client, user, holds})
	}
}
