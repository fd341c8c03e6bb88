package serve

import (
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/registry"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// requestLog writes a line for each request, if log.access is on, and one for each login that failed.
type requestLog struct {
	log      logrus.FieldLogger
	config   func() *config.Config
	failures failures
}

// observe writes the lines of a request.
func (l *requestLog) observe(e event.Event) {
	r := e.Request
	if r.Method == "" {
		return // no request
	}
	if r.Login.Failed() && l.failures.admit(registry.NetworkOf(r.Client), time.Now()) {
		l.log.WithFields(logrus.Fields{"user": printable(r.Tried), "remote": address(r), "reason": string(r.Login)}).
			Warn("login failed")
	}
	if !l.config().Log.Access {
		return
	}
	fields := logrus.Fields{"method": short(r.Method), "path": short(r.Path), "status": r.Status,
		"bytes_in": r.Received, "bytes_out": r.Sent, "duration_ms": milliseconds(r.Took), "remote": address(r)}
	if r.User != "" {
		fields["user"] = r.User
	}
	if r.Agent != "" {
		fields["agent"] = short(r.Agent)
	}
	l.log.WithFields(fields).Info("request")
}

// summarize ends a window that is over, with one line about the failed logins that got none.
func (l *requestLog) summarize(now time.Time) {
	if n := l.failures.end(now); n > 0 {
		l.log.WithField("count", n).Warn(failureSummary)
	}
}

// address is that of the client, as the log has it.
func address(r event.Request) string {
	if !r.Client.IsValid() {
		return r.Peer
	}
	return r.Client.String()
}

// milliseconds is how the log writes a duration: a number that machines can add up.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// short bounds what a client can write into the log with one request. No path of the API is longer.
func short(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// printable makes a user name that a client sent safe for a line of the log.
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

// failures bounds the lines about failed logins in a window of time. A client that guesses passwords must not fill the
// disk with them, nor hide that another client guesses, too.
type failures struct {
	mu      sync.Mutex     // guards the rest; held over no call
	began   time.Time      // when the window began; zero: no login has failed since the last one
	lines   map[string]int // by client
	written int
	dropped int
}

// So many lines are written in a window, about one client and about all clients.
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
	if f.written >= failuresOfAll || f.lines[client] >= failuresOfOne {
		f.dropped++
		return false
	}
	f.lines[client]++
	f.written++
	return true
}

// end ends a window that is over, and returns how many failures of it got no line.
func (f *failures) end(now time.Time) (dropped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() || now.Sub(f.began) < failureWindow {
		return 0
	}
	dropped = f.dropped
	f.began, f.lines, f.written, f.dropped = time.Time{}, nil, 0, 0
	return dropped
}
