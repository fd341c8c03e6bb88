package serve

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// readAheadSize is how many bytes are read at once from a client that sends a lot. readAheadFrom is how many bytes must
// have come without a pause before that: small bodies need no large buffer.
const (
	readAheadSize = 1 << 20
	readAheadFrom = 64 << 10
)

// enough is how many bytes have to be asked for at once so that reading ahead saves less than the copy costs.
const enough = 96 << 10

// readAhead has the buffers for that, and readAheads limits how many are in use at once: a client that sends without
// being read (not logged in, say) would otherwise hold one for as long as it likes.
var (
	readAhead  = sync.Pool{New: func() any { b := make([]byte, readAheadSize); return &b }}
	readAheads = make(chan struct{}, 64)
)

// conn is a connection that reads ahead while the client sends more than was asked for. net/http asks for 4 KiB, then
// for what is left of a chunk of 32 KiB. After each read of a part of a full socket the kernel tells the client,
// takes in what it sends next and wakes the poller, which costs more than the bytes: 0.7 s of CPU a GiB of a pushed
// layer, and 0.2 s with reads of 1 MiB (a push of 512 MiB, together with its other changes: 3.3 s a GiB before, 1.9 s
// after).
//
// It reads the socket by a system call of its own, below net.TCPConn. TestWhatIsReadAheadIsWhatWasSent and
// TestAClientThatPausesHoldsNoBuffer notice when a Go release does not allow that any more.
//
// It holds a buffer only while there are bytes in it, not while it waits for some.
type conn struct {
	*net.TCPConn // also for sendfile
	raw          syscall.RawConn
	door         *door
	place        place
	buf          *[]byte     // nil unless there are bytes ahead
	counted      atomic.Bool // in readAheads
	closed       atomic.Bool
	ahead        []byte // of buf: was read and not asked for yet
	came         int    // bytes of consecutive reads that brought all they asked for
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if c.buf == nil && c.came >= readAheadFrom && len(p) < enough {
		c.readAhead()
	}
	if c.buf != nil {
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			readAhead.Put(c.buf)
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

// readAhead reads what is in the socket. If nothing is, or on an error, the next read waits for bytes or reports the
// error.
func (c *conn) readAhead() {
	select {
	case readAheads <- struct{}{}:
		c.counted.Store(true)
	default:
		return
	}
	buf := readAhead.Get().(*[]byte)
	var n int
	_ = c.raw.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), *buf)
		return true
	})
	if n <= 0 {
		readAhead.Put(buf)
		c.uncount()
		return
	}
	c.buf, c.ahead = buf, (*buf)[:n]
	if c.closed.Load() { // in the meantime
		c.uncount()
	}
}

func (c *conn) uncount() {
	if c.counted.CompareAndSwap(true, false) {
		<-readAheads
	}
}

// Close implements net.Conn. The bytes ahead are never asked for now.
func (c *conn) Close() error {
	first := c.closed.CompareAndSwap(false, true)
	c.uncount()
	err := c.TCPConn.Close()
	if first { // its descriptor is free now
		c.door.leave(c)
	}
	return err
}
