package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// journal keeps the lines of a log, of which each is JSON.
type journal struct {
	mu    sync.Mutex // guards lines
	lines []map[string]any
	text  strings.Builder
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	line := map[string]any{}
	if err := json.Unmarshal(p, &line); err != nil {
		line["msg"] = "no JSON: " + string(p)
	}
	j.lines = append(j.lines, line)
	j.text.Write(p)
	return len(p), nil
}

// said are the lines of a message.
func (j *journal) said(msg string) (lines []map[string]any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if l["msg"] == msg {
			lines = append(lines, l)
		}
	}
	return lines
}

func (j *journal) await(t *testing.T, msg string, n int) []map[string]any {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		switch lines := j.said(msg); {
		case len(lines) >= n:
			return lines
		case time.Now().After(deadline):
			t.Fatalf("%d lines say %q; want %d", len(lines), msg, n)
		}
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// newJournal is the log of a server.
func newJournal(o *Options) *journal {
	j := &journal{}
	o.Log = logrus.New()
	o.Log.SetOutput(j)
	o.Log.SetFormatter(&logrus.JSONFormatter{})
	return j
}

// sendAs sends a request with a login and headers, and reads the answer to its end.
func sendAs(t *testing.T, method, url, user, password string, body []byte, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if user != "" || password != "" {
		req.SetBasicAuth(user, password)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestALoginThatFailsIsTold: by whom, with which name and why; never with which password. Clients ask first without
// a login, which is no failure.
func TestALoginThatFailsIsTold(t *testing.T) {
	var log *journal
	url, _ := guarded(t, func(cfg *config.Config, o *Options) {
		log = newJournal(o)
		cfg.Auth.Users = []config.User{{Username: "ci", Password: "s3cret"}}
	})
	for _, c := range []struct {
		what, user, password string
		header               []string
		name, remote, reason string // reason empty: nothing is told
	}{
		{"the question how to log in", "", "", nil, "", "", ""},
		{"a good login", "ci", "s3cret", nil, "", "", ""},
		{"a wrong password", "ci", "passw0rd-1", nil, "ci", "127.0.0.1", "wrong_password"},
		{"a name that there is not", "eve", "passw0rd-2", nil, "eve", "127.0.0.1", "unknown_user"},
		{"an empty name", "", "passw0rd-3", nil, "", "127.0.0.1", "unknown_user"},
		{"a name that is a line of its own", "eve\nlevel=info msg=\"login ok\"\x1b[2J\u202e", "passw0rd-4", nil,
			`eve?level=info msg="login ok"?[2J?`, "127.0.0.1", "unknown_user"},
		{"a name that is too long", strings.Repeat("ü", 5000), "passw0rd-5", nil, strings.Repeat("ü", 63) + "…",
			"127.0.0.1", "unknown_user"},
		{"a login of another kind", "", "", []string{"Authorization", "Bearer passw0rd-6"}, "", "127.0.0.1",
			"malformed"},
		{"a login that is cut", "", "", []string{"Authorization", "Basic !"}, "", "127.0.0.1", "malformed"},
		{"a client behind a proxy", "ci", "passw0rd-7", []string{"X-Forwarded-For", "198.51.100.1, 203.0.113.7"}, "ci",
			"203.0.113.7", "wrong_password"},
	} {
		before := len(log.said("login failed"))
		resp := sendAs(t, "GET", url+"/v2/", c.user, c.password, nil, c.header...)
		if want := map[bool]int{true: 200, false: 401}[c.what == "a good login"]; resp.StatusCode != want {
			t.Errorf("%s: %d", c.what, resp.StatusCode)
		}
		if c.reason == "" {
			continue
		}
		line := log.await(t, "login failed", before+1)[before]
		if line["user"] != c.name || line["remote"] != c.remote || line["reason"] != c.reason ||
			line["level"] != "warning" {
			t.Errorf("%s: told %v", c.what, line)
		}
	}
	if n := len(log.said("login failed")); n != 8 {
		t.Errorf("%d lines about 8 failures", n)
	}
	if strings.Contains(log.String(), "passw0rd") || strings.Contains(log.String(), "s3cret") {
		t.Errorf("the log holds a password:\n%s", log)
	}
}

// TestWhoGuessesDoesNotFillTheLog, nor hides another one who does.
func TestWhoGuessesDoesNotFillTheLog(t *testing.T) {
	var log *journal
	var s *Server
	url, _ := guarded(t, func(cfg *config.Config, o *Options) {
		log = newJournal(o)
		o.Authenticate = func(*http.Request, string, string) bool { return false }
	}, func(made *Server) { s = made })
	for i := range 300 {
		sendAs(t, "GET", url+"/v2/", fmt.Sprint("user", i), "x", nil, "X-Forwarded-For", fmt.Sprintf("2001:db8::%x", i))
	}
	sendAs(t, "GET", url+"/v2/", "other", "x", nil, "X-Forwarded-For", "203.0.113.7")
	lines := log.await(t, "login failed", failuresOfOne+1)
	if last := lines[len(lines)-1]; len(lines) != failuresOfOne+1 || last["user"] != "other" ||
		last["reason"] != "rejected" {
		t.Errorf("%d lines, the last is %v; want %d of the one network and one of the other client", len(lines), last,
			failuresOfOne)
	}
	s.requestLog.summarize(time.Now())
	if n := len(log.said(failureSummary)); n != 0 {
		t.Errorf("%d summaries before the window is over", n)
	}
	s.requestLog.summarize(time.Now().Add(failureWindow))
	if sum := log.await(t, failureSummary, 1); sum[0]["count"] != float64(300-failuresOfOne) {
		t.Errorf("the summary is %v; want %d", sum, 300-failuresOfOne)
	}
	sendAs(t, "GET", url+"/v2/", "user", "x", nil, "X-Forwarded-For", "2001:db8::1")
	log.await(t, "login failed", failuresOfOne+2) // in the next window
	s.requestLog.summarize(time.Now().Add(2 * failureWindow))
	if n := len(log.said(failureSummary)); n != 1 {
		t.Errorf("%d summaries; want none of a window in which each failure had a line", n)
	}
}

func TestLinesAboutFailuresAreBoundedForAllClientsTogether(t *testing.T) {
	var f failures
	now, lines := time.Now(), 0
	for i := range 100_000 {
		if f.admit(fmt.Sprint("client", i), now) {
			lines++
		}
	}
	if lines != failuresOfAll || len(f.lines) > failuresOfAll {
		t.Errorf("%d lines, %d clients remembered; want %d", lines, len(f.lines), failuresOfAll)
	}
	if n := f.end(now.Add(failureWindow)); n != 100_000-failuresOfAll {
		t.Errorf("%d are summed up", n)
	}
	if !f.admit("client0", now.Add(failureWindow)) {
		t.Error("no line in the next window")
	}
}

// TestAChangedHtpasswdFileIsTold once, whoever changed it, with what it says now.
func TestAChangedHtpasswdFileIsTold(t *testing.T) {
	var log *journal
	var s *Server
	_, cfg := guarded(t, func(cfg *config.Config, o *Options) {
		log = newJournal(o)
		if _, err := users.Open(cfg.Auth.Htpasswd).Add("ci", "s3cret", cheapest); err != nil {
			t.Fatal(err)
		}
	}, func(made *Server) { s = made })
	file := users.Open(cfg.Auth.Htpasswd)
	look := func() {
		for range 3 {
			s.logins.watch()
		}
	}
	look()
	if text := log.String(); strings.Contains(text, "htpasswd file has changed") {
		t.Errorf("a file that nobody changed:\n%s", text)
	}
	if _, err := file.Add("ci2", "s3cret", cheapest); err != nil {
		t.Fatal(err)
	}
	look()
	if lines := log.said("the htpasswd file has changed"); len(lines) != 1 || lines[0]["users"] != 2.0 ||
		lines[0]["file"] != cfg.Auth.Htpasswd {
		t.Errorf("a user more: %v", lines)
	}
	if _, err := file.Add("ci", "another", cheapest); err != nil {
		t.Fatal(err)
	}
	look()
	if lines := log.said("the htpasswd file has changed"); len(lines) != 2 {
		t.Errorf("another password: %v", lines)
	}
	if err := os.Truncate(cfg.Auth.Htpasswd, 0); err != nil {
		t.Fatal(err)
	}
	look()
	if lines := log.said("the htpasswd file has no user who could log in"); len(lines) != 1 ||
		lines[0]["level"] != "warning" {
		t.Errorf("an empty file: %v", lines)
	}
	if err := os.Remove(cfg.Auth.Htpasswd); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(cfg.Auth.Htpasswd, 0o755); err != nil {
		t.Fatal(err)
	}
	look()
	if lines := log.said("the htpasswd file cannot be read: its users cannot log in"); len(lines) != 1 ||
		lines[0]["error"] == nil {
		t.Errorf("no file at all: %v", lines)
	}
}

// TestTheLineOfARequestHasNumbers that machines can add up, and no field without a value.
func TestTheLineOfARequestHasNumbers(t *testing.T) {
	var log *journal
	url, _ := guarded(t, func(cfg *config.Config, o *Options) {
		log = newJournal(o)
		cfg.Log.Access = true
		cfg.Auth.Users = []config.User{{Username: "ci", Password: "s3cret"}}
	})
	sendAs(t, "GET", url+"/v2/", "", "", nil, "User-Agent", "")
	data := randomBytes(1, 100_000)
	begun := sendAs(t, "POST", url+"/v2/app/blobs/uploads/", "ci", "s3cret", nil)
	sendAs(t, "PUT", begun.Header.Get("Location")+"&digest="+digestOf(data), "ci", "s3cret", data, "User-Agent",
		"test/1", "X-Forwarded-For", "203.0.113.7")
	sendAs(t, "GET", url+"/v2/app/blobs/"+digestOf(data), "ci", "s3cret", nil)
	lines := log.await(t, "request", 4)
	for i, want := range []map[string]any{
		{"method": "GET", "path": "/v2/", "status": 401.0, "remote": "127.0.0.1", "user": nil, "agent": nil,
			"bytes_in": 0.0},
		{"method": "POST", "status": 202.0, "user": "ci", "bytes_in": 0.0, "bytes_out": 0.0},
		{"method": "PUT", "status": 201.0, "user": "ci", "bytes_in": 100_000.0, "bytes_out": 0.0, "agent": "test/1",
			"remote": "203.0.113.7"},
		{"method": "GET", "status": 200.0, "user": "ci", "bytes_in": 0.0, "bytes_out": 100_000.0},
	} {
		for field, value := range want {
			if got, is := lines[i][field]; got != value || is != (value != nil) {
				t.Errorf("line %d: %s is %v; want %v", i+1, field, got, value)
			}
		}
		if ms, ok := lines[i]["duration_ms"].(float64); !ok || ms <= 0 {
			t.Errorf("line %d: duration_ms is %v", i+1, lines[i]["duration_ms"])
		}
	}
}

// TestEachClientBehindAProxyHasItsOwnLimit, and nobody gets another one by naming himself otherwise.
func TestEachClientBehindAProxyHasItsOwnLimit(t *testing.T) {
	url, _ := guarded(t, func(cfg *config.Config, o *Options) {
		cfg.Auth.Enabled = false
		cfg.Limits.UploadsPerClient = 2
	})
	begin := func(said string) int {
		return sendAs(t, "POST", url+"/v2/app/blobs/uploads/", "", "", nil, "X-Forwarded-For", said).StatusCode
	}
	for i, want := range []int{202, 202, 429, 429} {
		if got := begin(fmt.Sprintf("198.51.100.%d, 203.0.113.7", i)); got != want {
			t.Errorf("upload %d of one client: %d; want %d", i+1, got, want)
		}
	}
	if got := begin("203.0.113.8"); got != 202 {
		t.Errorf("the first upload of another client: %d", got)
	}
	for i, want := range []int{202, 202, 429} {
		if got := begin(fmt.Sprintf("2001:db8::%d", i)); got != want {
			t.Errorf("upload %d of one network: %d; want %d", i+1, got, want)
		}
	}
}
