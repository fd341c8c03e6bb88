package serve

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// cheapest is the bcrypt cost of tests.
const cheapest = 4

func guarded(t *testing.T, change func(*config.Config, *Options), made ...func(*Server)) (url string,
	cfg *config.Config) {
	t.Helper()
	cfg = config.DefaultConfig()
	cfg.Storage.Directory, cfg.Log.Access = t.TempDir(), false
	cfg.Auth.Htpasswd = filepath.Join(t.TempDir(), "htpasswd")
	log := logrus.New()
	log.SetOutput(io.Discard)
	opts := Options{Config: cfg, Log: log}
	if change != nil {
		change(cfg, &opts)
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range made {
		f(s)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		srv.Close()
		if err := s.Shutdown(time.Second); err != nil {
			t.Error(err)
		}
	})
	return srv.URL, cfg
}

func login(t *testing.T, method, url, user, password, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func TestOnlyUsersGetIn(t *testing.T) {
	url, cfg := guarded(t, func(cfg *config.Config, _ *Options) {
		cfg.Auth.Users = []config.User{{Username: "admin", Password: "admin123"}}
		if _, err := users.Open(cfg.Auth.Htpasswd).Add("ci", "s3cret", cheapest); err != nil {
			t.Fatal(err)
		}
	})
	for _, c := range []struct {
		who, user, password string
		status              int
	}{
		{"a user of the configuration", "admin", "admin123", 200},
		{"a user of the file", "ci", "s3cret", 200},
		{"a user with another's password", "ci", "admin123", 401},
		{"a user without password", "ci", "", 401},
		{"nobody", "", "", 401},
		{"a stranger", "eve", "s3cret", 401},
	} {
		resp := login(t, "GET", url+"/v2/", c.user, c.password, "")
		if resp.StatusCode != c.status {
			t.Errorf("%s: %d; want %d", c.who, resp.StatusCode, c.status)
		}
		if c.status == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic realm=") {
			t.Errorf("%s is not asked to log in: %q", c.who, resp.Header.Get("WWW-Authenticate"))
		}
	}
	for _, target := range [][2]string{{"PUT", "/v2/app/manifests/v1"}, {"POST", "/v2/app/blobs/uploads/"},
		{"DELETE", "/v2/app/manifests/v1"},
		{"GET", "/v2/_catalog"}, {"GET", "/v2/app/tags/list"}, {"HEAD", "/v2/app/blobs/" + digestOf(nil)}} {
		if resp := login(t, target[0], url+target[1], "", "", "{}"); resp.StatusCode != 401 {
			t.Errorf("%s %s without login: %d", target[0], target[1], resp.StatusCode)
		}
	}
	if err := users.Open(cfg.Auth.Htpasswd).Remove("ci"); err != nil {
		t.Fatal(err)
	}
	if resp := login(t, "GET", url+"/v2/", "ci", "s3cret", ""); resp.StatusCode != 401 {
		t.Errorf("a removed user is let in: %d", resp.StatusCode)
	}
	if _, err := users.Open(cfg.Auth.Htpasswd).Add("new", "pass", cheapest); err != nil {
		t.Fatal(err)
	}
	if resp := login(t, "GET", url+"/v2/", "new", "pass", ""); resp.StatusCode != 200 {
		t.Errorf("a user added while serving: %d", resp.StatusCode)
	}
}

// TestALoginEndsAtOnceOnItsConnection: what a connection remembers of a login ends with the user, the password, and the
// settings.
func TestALoginEndsAtOnceOnItsConnection(t *testing.T) {
	dir := t.TempDir()
	cfg := config.DefaultConfig()
	cfg.Storage.Directory, cfg.Log.Access = filepath.Join(dir, "data"), false
	cfg.Auth.Htpasswd = filepath.Join(dir, "htpasswd")
	cfg.Auth.Users = []config.User{{Username: "admin", Password: "admin123"}}
	file := users.Open(cfg.Auth.Htpasswd)
	set := func(password string) {
		t.Helper()
		if _, err := file.Add("ci", password, cheapest); err != nil {
			t.Fatal(err)
		}
	}
	set("one")
	s, err := New(Options{Config: cfg, Log: quietLog()})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = s.front.registry
	srv.Start()
	t.Cleanup(func() {
		srv.Close()
		if err := s.Shutdown(time.Second); err != nil {
			t.Error(err)
		}
	})
	client := http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	var connections atomic.Int64
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if !c.Reused {
			connections.Add(1)
		}
	}}
	want := func(what, user, password string, status int) {
		t.Helper()
		for range 2 { // the second time it may be remembered
			ctx := httptrace.WithClientTrace(t.Context(), trace)
			req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/v2/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth(user, password)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
			if resp.Body.Close(); resp.StatusCode != status {
				t.Errorf("%s: %d; want %d", what, resp.StatusCode, status)
			}
		}
	}
	reload := func(u ...config.User) {
		t.Helper()
		next := *cfg
		next.Auth.Users = u
		if _, err := s.Reload(t.Context(), &next); err != nil {
			t.Fatal(err)
		}
	}
	want("a user", "ci", "one", 200)
	set("two")
	want("the old password", "ci", "one", 401)
	want("the new password", "ci", "two", 200)
	if err := file.Remove("ci"); err != nil {
		t.Fatal(err)
	}
	want("a removed user", "ci", "two", 401)
	set("two")
	want("a user who is back", "ci", "two", 200)
	want("a user of the configuration", "admin", "admin123", 200)
	reload(config.User{Username: "admin", Password: "other"})
	want("the old password of the configuration", "admin", "admin123", 401)
	want("the new password of the configuration", "admin", "other", 200)
	reload(config.User{Username: "ci", Password: "of the configuration"})
	want("a user whom the configuration hides", "ci", "two", 401)
	want("a user who is configured no more", "admin", "other", 401)
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections; all of it must happen on one", n)
	}
}

func TestAnAuthValidatorIsAskedOnceARequest(t *testing.T) {
	var asked atomic.Int64
	url, _ := guarded(t, func(_ *config.Config, o *Options) {
		o.Authenticate = func(_ *http.Request, user, password string) bool {
			asked.Add(1)
			return user == "custom" && password == "pass"
		}
	})
	for i := range int64(3) {
		if resp := login(t, "PUT", url+"/v2/app/manifests/v1", "custom", "pass", "{}"); resp.StatusCode != 400 {
			t.Errorf("the bad manifest of a user: %d", resp.StatusCode)
		}
		if n := asked.Load(); n != i+1 {
			t.Errorf("asked %d times in %d requests", n, i+1)
		}
	}
	if resp := login(t, "GET", url+"/v2/", "custom", "wrong", ""); resp.StatusCode != 401 {
		t.Errorf("a wrong password: %d", resp.StatusCode)
	}
}

func TestNobodyToLogInIsAnError(t *testing.T) {
	cfg := config.DefaultConfig()
	cfg.Storage.Directory = filepath.Join(t.TempDir(), "data")
	_, err := New(Options{Config: cfg, Log: logrus.New()})
	var nobody *NoUsersError
	if !errors.As(err, &nobody) || !strings.HasPrefix(nobody.Htpasswd, cfg.Storage.Directory) {
		t.Errorf("New = %v; want NoUsersError", err)
	}
}
