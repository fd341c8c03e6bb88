package registry

import (
	"net/http"
	"sync/atomic"
	"time"
)

// pace cuts a connection whose client sends nothing of a body that it announced, or takes nothing of an
// answer, for longer than patience. How long a transfer takes that moves is nobody's business.
//
// While neither is awaited there is no deadline: net/http takes one that passes for a client that left.
type pace struct {
	conn     *http.ResponseController
	patience time.Duration // 0: none
	stream   bool          // of HTTP/2, where each deadline is a timer of its own
	read     time.Time     // when the deadline of the body was set; zero: there is none
	written  time.Time     // when that of the answer was
	stopped  atomic.Bool   // nobody waits for the client any more, neither to send nor to take
}

// slack is how much of the patience may be missing at the end, so that not every piece moves a deadline.
const slack = 16

func (p *pace) due(last time.Time) (now time.Time, due bool) {
	now = time.Now()
	return now, p.patience > 0 && now.Sub(last) > p.patience/slack
}

// receive is called before more of the body is awaited. What cannot set deadlines has none.
func (p *pace) receive() {
	if now, due := p.due(p.read); due && p.conn.SetReadDeadline(now.Add(p.patience)) == nil {
		p.read = now
	}
}

// received is called when all of the body is there.
func (p *pace) received() {
	if !p.read.IsZero() && p.conn.SetReadDeadline(time.Time{}) == nil {
		p.read = time.Time{}
	}
}

// send is called before some of the answer goes out.
func (p *pace) send() {
	if now, due := p.due(p.written); due && p.conn.SetWriteDeadline(now.Add(p.patience)) == nil {
		p.written = now
	}
}

// stop ends a wait for the body, or for the answer to be taken, from another goroutine than that of the request.
// Who begins to wait looks at stopped after it has set its own deadline, and so sees one or the other.
func (p *pace) stop(deadline func(time.Time) error) {
	p.stopped.Store(true)
	_ = deadline(time.Unix(1, 0)) // where there are no deadlines, the next read or write sees it
}

// end takes the deadlines back. A timer that net/http starts for a stream which was reset meanwhile would keep
// all of the request for the whole patience. A connection of HTTP/1 has deadlines, not each request of it, and
// needs them until net/http has sent what it buffers.
func (p *pace) end() {
	if !p.stream {
		return
	}
	p.received()
	if !p.written.IsZero() && p.conn.SetWriteDeadline(time.Time{}) == nil {
		p.written = time.Time{}
	}
}
