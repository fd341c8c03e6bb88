package registry

import (
	"net/http"

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
	user, password, given := hr.BasicAuth()
	result := event.Malformed
	switch {
	case given:
		result = r.opts.Authenticate(hr, NetworkOf(req.client), user, password)
	case hr.Header.Get("Authorization") == "":
		result = event.Challenged
	}
	if result != event.LoggedIn {
		return login{result: result, tried: user}
	}
	return login{result: result, user: user}
}
