package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/event"
)

// TestALoginIsAskedAboutOnceAConnection, as long as it is the same, of the same client, and holds.
func TestALoginIsAskedAboutOnceAConnection(t *testing.T) {
	asked, holding, forever := 0, true, true
	r := New(Options{Log: logrus.New(), Proxies: Proxies{netip.MustParsePrefix("127.0.0.0/8")},
		Authenticate: func(_ *http.Request, _, user, password string) (event.Login, func() bool) {
			asked++
			switch {
			case password != "right":
				return event.WrongPassword, nil
			case !forever:
				return event.LoggedIn, nil
			}
			return event.LoggedIn, func() bool { return holding }
		}})
	srv := httptest.NewUnstartedServer(r)
	srv.Config.ConnContext = ConnContext
	srv.Start()
	defer srv.Close()
	client := http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	get := func(what, user, password, behind string, times, status int) {
		t.Helper()
		asked = 0
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		if behind != "" {
			req.Header.Set("X-Forwarded-For", behind)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
		if resp.Body.Close(); resp.StatusCode != status || asked != times {
			t.Errorf("%s: %d, asked %d times; want %d, %d", what, resp.StatusCode, asked, status, times)
		}
	}
	get("the first request", "ci", "right", "", 1, 200)
	get("the same login", "ci", "right", "", 0, 200)
	get("no login", "", "", "", 0, 401)
	get("a wrong password of the same length", "ci", "wrong", "", 1, 401)
	get("the same login after others", "ci", "right", "", 0, 200)
	get("another client of a proxy", "ci", "right", "192.0.2.1", 1, 200)
	get("another user", "me", "right", "192.0.2.1", 1, 200)
	get("another user again", "me", "right", "192.0.2.1", 0, 200)
	holding = false
	get("one that does not hold any more", "me", "right", "192.0.2.1", 1, 200)
	forever = false
	get("one of which it is not known how long it holds", "me", "right", "", 1, 200)
	get("such a one again", "me", "right", "", 1, 200)
	srv.CloseClientConnections()
	holding, forever = true, true
	get("another connection", "me", "right", "", 1, 200)
	get("the same login of that", "me", "right", "", 0, 200)
}
