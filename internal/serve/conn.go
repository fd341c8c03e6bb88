package serve

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// gulp is how much is read at once from a client that sends a lot, eager how much of it came without a
// pause before that is done: small bodies need no large buffer.
const (
	gulp  = 1 << 20
	eager = 64 << 10
)

// gulps are the buffers for that, of which so many may be in use: whoever sends a lot and is not listened to,
// since he has not logged in yet, for one, keeps his.
var (
	gulps   = sync.Pool{New: func() any { b := make([]byte, gulp); return &b }}
	gulping = make(chan struct{}, 64)
)

// listener gives connections that read in gulps, as many as the door lets in.
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
	tcp := c.(*net.TCPConn) // we listen on nothing else
	raw, err := tcp.SyscallConn()
	mine := &conn{TCPConn: tcp, raw: raw, door: l.door}
	l.door.enter(mine)
	return mine, err
}

// Close implements net.Listener.
func (l listener) Close() error {
	l.door.close()
	return l.Listener.Close()
}

// conn is a connection that reads ahead while more is there than was asked for. net/http asks for 4 KiB,
// then for what is left of a chunk of 32 KiB; and whenever a part of a full socket is read the kernel tells
// the client, takes in what it sends next, and wakes who waits for that, which costs more than the bytes.
//
// It holds a buffer only while there are bytes in it, not while it waits for some.
type conn struct {
	*net.TCPConn // also for sendfile
	raw          syscall.RawConn
	door         *door
	buf          *[]byte     // nil unless there is something ahead
	counted      atomic.Bool // in gulping
	closed       atomic.Bool
	ahead        []byte // of buf: was read and not asked for yet
	came         int    // bytes of reads in a row that brought all they asked for
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if c.buf == nil && c.came >= eager {
		c.gulp()
	}
	if c.buf != nil {
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			gulps.Put(c.buf)
			c.buf = nil
			c.uncount()
		}
		return n, nil
	}
	n, err := c.TCPConn.Read(p)
	if n == len(p) {
		c.came += n
	} else {
		c.came = 0
	}
	return n, err
}

// gulp takes what is there. Where nothing is, or an error, the next read waits for it or says so.
func (c *conn) gulp() {
	select {
	case gulping <- struct{}{}:
		c.counted.Store(true)
	default:
		return
	}
	buf := gulps.Get().(*[]byte)
	var n int
	_ = c.raw.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), *buf)
		return true
	})
	if n <= 0 {
		gulps.Put(buf)
		c.uncount()
		return
	}
	c.buf, c.ahead = buf, (*buf)[:n]
	if c.closed.Load() { // meanwhile
		c.uncount()
	}
}

func (c *conn) uncount() {
	if c.counted.CompareAndSwap(true, false) {
		<-gulping
	}
}

// Close implements net.Conn. What is ahead is never asked for now.
func (c *conn) Close() error {
	first := c.closed.CompareAndSwap(false, true)
	c.uncount()
	err := c.TCPConn.Close()
	if first { // its descriptor is free now
		c.door.leave(c)
	}
	return err
}
