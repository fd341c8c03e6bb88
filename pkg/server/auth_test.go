package server_test

import (
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// TestAnAuthValidatorReplacesAllUsers, whether a login is configured or not; nobody else needs to exist.
func TestAnAuthValidatorReplacesAllUsers(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*config.Auth)
	}{
		{"login on, no users", func(a *config.Auth) { a.Enabled = true }},
		{"login on, with users", func(a *config.Auth) {
			a.Enabled, a.Users = true, []config.User{{Username: "admin", Password: "admin123"}}
		}},
		{"login off", func(a *config.Auth) { a.Enabled = false }},
	} {
		t.Run(c.what, func(t *testing.T) {
			opts := options(t)
			c.change(&opts.Config.Auth)
			opts.AuthValidator = func(user, password string) bool { return user == "custom" && password == "pass" }
			srv := newServer(t, opts)
			front, client := httptest.NewServer(srv), newClient(t)
			for login, want := range map[[2]string]int{{"custom", "pass"}: 200, {"custom", "wrong"}: 401,
				{"admin", "admin123"}: 401, {}: 401} {
				if got := status(t, client, "GET", front.URL+"/v2/", login[0], login[1]); got != want {
					t.Errorf("login %v: %d; want %d", login, got, want)
				}
			}
			custom := remote.WithAuth(&authn.Basic{Username: "custom", Password: "pass"})
			push(t, client, front.URL, "app:v1", newImage(t, 1), custom)
			pull(t, client, front.URL, "app:v1", custom)
			front.Close()
			shutdown(t, srv)
		})
	}
}

// TestAnAuthValidatorIsAskedByEachRequest, so that who is locked out is out at once.
func TestAnAuthValidatorIsAskedByEachRequest(t *testing.T) {
	opts := options(t)
	var asked atomic.Int64
	var locked atomic.Bool
	opts.AuthValidator = func(string, string) bool { asked.Add(1); return !locked.Load() }
	srv := newServer(t, opts)
	front, client := httptest.NewServer(srv), newClient(t)
	for i, request := range [][2]string{{"GET", "/v2/"}, {"GET", "/v2/"}, {"HEAD", "/v2/app/manifests/v1"},
		{"GET", "/v2/app/tags/list"}, {"POST", "/v2/app/blobs/uploads/"}} {
		if got := status(t, client, request[0], front.URL+request[1], "ci", "pass"); got == 401 {
			t.Errorf("%v: %d", request, got)
		}
		if n := asked.Load(); n != int64(i+1) {
			t.Errorf("asked %d times in %d requests", n, i+1)
		}
	}
	locked.Store(true)
	if got := status(t, client, "GET", front.URL+"/v2/", "ci", "pass"); got != 401 {
		t.Errorf("a login is remembered: %d", got)
	}
	front.Close()
	shutdown(t, srv)
}

func TestAnAuthValidatorThatPanicsFailsItsRequest(t *testing.T) {
	opts := options(t)
	opts.AuthValidator = func(user, _ string) bool {
		if user == "bug" {
			panic("validator is broken")
		}
		return true
	}
	srv := newServer(t, opts)
	front, client := httptest.NewServer(srv), newClient(t)
	for _, method := range []string{"GET", "PUT"} {
		if got := status(t, client, method, front.URL+"/v2/app/manifests/v1", "bug", "x"); got != 500 {
			t.Errorf("%s: %d; want 500", method, got)
		}
	}
	if got := status(t, client, "GET", front.URL+"/v2/", "ci", "x"); got != 200 {
		t.Errorf("the next request: %d", got)
	}
	front.Close()
	shutdown(t, srv)
}
