package registry

import (
	"net/http"
	"sync/atomic"
	"time"
)

// pace ends a connection whose client, for longer than the patience, sends nothing of a body that it announced, or
// takes nothing of an answer. A transfer that moves may take any time.
//
// While the registry waits for neither there is no deadline: net/http takes a passed deadline for a client that left.
type pace struct {
	conn     http.ResponseController
	patience time.Duration // 0: none
	stream   bool          // of HTTP/2, where each deadline is a timer of its own
	read     time.Time     // when the deadline for the body was set; zero: there is none
	written  time.Time     // when the deadline for the answer was set
	stopped  atomic.Bool   // the registry waits for the client no more, neither to send nor to take
}

// slack is the part of the patience that may be missing at the end, so that not every piece sets a deadline.
const slack = 16

func (p *pace) due(last time.Time) (now time.Time, due bool) {
	now = time.Now()
	return now, p.patience > 0 && now.Sub(last) > p.patience/slack
}

// receive is called before more of the body is read. Some connections cannot set deadlines, and have none.
func (p *pace) receive() {
	if now, due := p.due(p.read); due && p.conn.SetReadDeadline(now.Add(p.patience)) == nil {
		p.read = now
	}
}

// received is called when the whole body was read.
func (p *pace) received() {
	if !p.read.IsZero() && p.conn.SetReadDeadline(time.Time{}) == nil {
		p.read = time.Time{}
	}
}

// send is called before a part of the answer is sent.
func (p *pace) send() {
	if now, due := p.due(p.written); due && p.conn.SetWriteDeadline(now.Add(p.patience)) == nil {
		p.written = now
	}
}

// stop ends a wait for the body, or for the client to take the answer, from another goroutine than the request's. The
// request looks at stopped after it has set its own deadline, and so sees one or the other.
func (p *pace) stop(deadline func(time.Time) error) {
	p.stopped.Store(true)
	_ = deadline(time.Unix(1, 0)) // without deadlines, the next read or write sees stopped
}

// end removes the deadlines of an HTTP/2 stream. The timer of a deadline keeps the whole request in memory until it
// fires, also when the stream was reset. In HTTP/1 the deadlines are the connection's, and net/http needs them until it
// has sent what it buffers.
func (p *pace) end() {
	if !p.stream {
		return
	}
	p.received()
	if !p.written.IsZero() && p.conn.SetWriteDeadline(time.Time{}) == nil {
		p.written = time.Time{}
	}
}
