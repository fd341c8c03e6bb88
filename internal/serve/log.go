package serve

import (
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/registry"
)

// requested measures a request, and writes its line and the one of a login that failed.
func (s *Server) requested(r *http.Request, e registry.Exchange) {
	s.metrics.request(r.Method, e)
	if e.Login.Failed() && s.failures.admit(registry.NetworkOf(e.Client), time.Now()) {
		s.log.WithFields(logrus.Fields{"user": printable(e.Tried), "remote": asker(r, e), "reason": string(e.Login)}).Warn("login failed")
	}
	if !s.Config().Log.Access {
		return
	}
	fields := logrus.Fields{"method": short(r.Method), "path": short(r.URL.Path), "status": e.Status, "bytes_in": e.Received,
		"bytes_out": e.Sent, "duration_ms": milliseconds(e.Took), "remote": asker(r, e)}
	if e.User != "" {
		fields["user"] = e.User
	}
	if agent := r.UserAgent(); agent != "" {
		fields["agent"] = short(agent)
	}
	s.log.WithFields(fields).Info("request")
}

// asker is the address of who asked.
func asker(r *http.Request, e registry.Exchange) string {
	if !e.Client.IsValid() {
		return r.RemoteAddr
	}
	return e.Client.String()
}

// milliseconds is how the log writes how long something took, so that machines can add up.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// short bounds what a client can write into the log with one request. Paths of the API stay below it.
func short(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// printable is a name that anybody may have sent, as a line of the log can show it.
func printable(name string) string {
	const most = 64
	n := 0
	return strings.Map(func(r rune) rune {
		switch n++; {
		case n > most:
			return -1
		case n == most:
			return '…'
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, name)
}

// failures bounds the lines about logins that failed: who guesses passwords must not fill the disk with them, nor
// crowd out another one who does.
type failures struct {
	mu     sync.Mutex // guards the rest; held over no call
	began  time.Time  // the window; zero: there was nothing in it
	lines  map[string]int
	said   int
	unsaid int
}

// In a window so many lines are written about one client, and about all.
const (
	failureWindow  = time.Minute
	failuresOfOne  = 10
	failuresOfAll  = 200
	failureSummary = "more logins failed, of which each has no line"
)

// admit says whether one more failure gets a line.
func (f *failures) admit(client string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() {
		f.began, f.lines = now, map[string]int{}
	}
	if f.said >= failuresOfAll || f.lines[client] >= failuresOfOne {
		f.unsaid++
		return false
	}
	f.lines[client]++
	f.said++
	return true
}

// end ends a window that is over, and returns how many failures of it got no line.
func (f *failures) end(now time.Time) (unsaid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() || now.Sub(f.began) < failureWindow {
		return 0
	}
	unsaid = f.unsaid
	f.began, f.lines, f.said, f.unsaid = time.Time{}, nil, 0, 0
	return unsaid
}
