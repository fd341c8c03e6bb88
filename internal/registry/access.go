package registry

import (
	"errors"
	"net/http"

	"github.com/distribution/distribution/v3/registry/auth"
)

// accessController asks for a name and a password. Who is let in may do everything.
type accessController struct {
	authenticate Authenticate
}

func newAccessController(options map[string]any) (auth.AccessController, error) {
	f, ok := options["authenticate"].(Authenticate)
	if !ok {
		return nil, errors.New("access controller dcs needs an authenticate function")
	}
	return accessController{f}, nil
}

// Authorized implements auth.AccessController.
func (a accessController) Authorized(r *http.Request, _ ...auth.Access) (*auth.Grant, error) {
	req := requestOf(r.Context())
	if req == nil || !req.login.check(r, a.authenticate) {
		return nil, challenge{}
	}
	return &auth.Grant{User: auth.UserInfo{Name: req.login.user}}, nil
}

// challenge asks a client to log in. It is the same for a missing, an unknown and a wrong login.
type challenge struct{}

func (challenge) Error() string { return "authentication required" }

// SetHeaders implements auth.Challenge.
func (challenge) SetHeaders(_ *http.Request, w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="dcs"`)
}
