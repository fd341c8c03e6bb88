package serve

import (
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The descriptors of the process are divided, so that no number of connections takes those that files need. The rest is
// for the index, the listeners, the log, and the tasks that look at the tree.
const (
	ownDescriptors  = 28
	mostDescriptors = 1 << 20 // of a process without a limit
)

// descriptors says how many the process has for connections, and how many for files of requests.
func descriptors() (connections, files int) {
	var limit unix.Rlimit
	n := uint64(mostDescriptors)
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		n = min(n, limit.Cur)
	}
	rest := max(int(n)-ownDescriptors, 10) //nolint:gosec // it is at most a million
	connections = rest * 2 / 5
	return connections, rest - connections
}

// door bounds the connections. When there are as many as it lets in, it closes the one that has waited longest for a
// request, as any server may at any time; when all of them have a request, the next connection waits to be accepted,
// and takes no descriptor.
type door struct {
	limit int

	mu      sync.Mutex    // guards the rest, and place of each connection; held over no I/O
	in      int           // connections
	waiting place         // the ring of those without a request, the one that waits longest first
	changed chan struct{} // closed when there may be room for another, or the door was closed; nil: none waits for it
	closed  bool
}

// place is where a connection waits for a request: each of them is put into the ring and taken out of it. The zero
// place is in no ring.
type place struct {
	next, prev *place
	conn       *conn
	since      time.Time
	in         bool // the connection was let in, and has not left
}

// take takes a place out of its ring, if it is in one.
func (p *place) take() {
	if p.next != nil {
		p.next.prev, p.prev.next = p.prev, p.next
		p.next, p.prev = nil, nil
	}
}

// append puts a place at the end of a ring.
func (p *place) append(last *place) {
	last.next, last.prev = p, p.prev
	p.prev.next, p.prev = last, last
}

// listener accepts connections that read ahead, as many as the door lets in.
type listener struct {
	net.Listener
	door *door
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	if !l.door.pass() {
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn) // listen opens nothing else
	raw, err := tcp.SyscallConn()
	accepted := &conn{TCPConn: tcp, raw: raw, door: l.door}
	l.door.enter(accepted)
	return accepted, err
}

// Close implements net.Listener.
func (l listener) Close() error {
	l.door.close()
	return l.Listener.Close()
}

// settle is how long a connection may wait before it can be closed for another: a new one is about to send a request.
const settle = time.Second

func newDoor(limit int) *door {
	d := &door{limit: limit}
	d.waiting.next, d.waiting.prev = &d.waiting, &d.waiting
	return d
}

// pass waits until there is room for one more connection. False: the door was closed. Several listeners may wait: all
// of them look again when something changes, since no client may come to the one that looks first.
func (d *door) pass() bool {
	for {
		tired, changed, wait := d.look(time.Now())
		if tired != nil {
			_ = tired.Close() // it has no request
			continue
		}
		if wait < 0 {
			return false
		}
		if wait == 0 {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look says which connection to close, or what to wait for, and how long at most; negative: the door is closed.
func (d *door) look(now time.Time) (tired *conn, changed <-chan struct{}, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch first := d.waiting.next; {
	case d.closed:
		return nil, nil, -1
	case d.in < d.limit:
		return nil, nil, 0
	case first == &d.waiting:
		return nil, d.changesLocked(), time.Minute
	default:
		if wait = settle - now.Sub(first.since); wait > 0 {
			return nil, d.changesLocked(), wait
		}
		return first.conn, nil, 0
	}
}

func (d *door) enter(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in++
	c.place.in, c.place.conn = true, c
	d.waitLocked(c)
}

func (d *door) leave(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in--
	c.place.in = false
	c.place.take()
	d.changedLocked()
}

// state implements http.Server.ConnState.
func (d *door) state(nc net.Conn, state http.ConnState) {
	if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = wrapped.NetConn()
	}
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !c.place.in {
		return
	}
	switch state {
	case http.StateActive:
		c.place.take()
	case http.StateIdle:
		d.waitLocked(c)
		d.changedLocked()
	}
}

// waitLocked has a connection wait for a request, from now on.
func (d *door) waitLocked(c *conn) {
	c.place.take()
	c.place.since = time.Now()
	d.waiting.append(&c.place)
}

// close ends all waiting.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.changedLocked()
}

// changesLocked is closed at the next change.
func (d *door) changesLocked() <-chan struct{} {
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.changed
}

func (d *door) changedLocked() {
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}
