// Package load asks servers as fast as they answer, or at a fixed rate, and costs little itself.
//
// A connection writes a request that was put together beforehand, and of the answer reads the status and the length.
// Bodies are counted, not looked at; large ones are dropped inside the kernel (MSG_TRUNC). So on a machine of two cores
// it is the server that is measured. That the bytes are the right ones says Verify, before anything is timed.
package load

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// Request is what is asked, and what the answer has to be.
type Request struct {
	Method, Path string
	Header       string        // lines, each ended by CRLF
	Length       int64         // of the body, also of a HEAD's
	Digest       digest.Digest // of the body; empty: not known

	wire []byte
}

// Prepare writes down what goes over the wire. A Request must be prepared before it is used.
func (r Request) Prepare() Request {
	r.wire = head(r.Method, r.Path, r.Header)
	return r
}

// Host is what every request says. No server here minds.
const Host = "registry.test"

func head(method, path, header string) []byte {
	return []byte(method + " " + path + " HTTP/1.1\r\nHost: " + Host + "\r\n" + header + "\r\n")
}

// dropAbove is the size from which a body is dropped by the kernel: below it one read brings header and body.
const dropAbove = 64 << 10

// Conn is a connection that is kept alive. It is used by one goroutine.
type Conn struct {
	net    net.Conn
	tcp    *net.TCPConn // nil under TLS
	buf    []byte       // header and the beginning of the body
	rest   []byte       // the end of a small body
	header []byte       // of the last answer; part of buf
}

// Dial connects to a server. Without a configuration it speaks no TLS.
func Dial(addr string, secure *tls.Config) (*Conn, error) {
	c := &Conn{buf: make([]byte, dropAbove), rest: make([]byte, dropAbove)}
	var err error
	if secure != nil {
		c.net, err = tls.Dial("tcp", addr, secure)
		return c, err
	}
	if c.net, err = net.Dial("tcp", addr); err == nil {
		c.tcp = c.net.(*net.TCPConn)
	}
	return c, err
}

// Close ends the connection.
func (c *Conn) Close() error { return c.net.Close() }

// Cipher is what a connection with TLS agreed on.
func (c *Conn) Cipher() string {
	state := c.net.(*tls.Conn).ConnectionState()
	return tls.VersionName(state.Version) + ", " + tls.CipherSuiteName(state.CipherSuite)
}

// Do asks once, and wants a 200 with as many bytes as there should be.
func (c *Conn) Do(r *Request) error {
	if _, err := c.net.Write(r.wire); err != nil {
		return fmt.Errorf("%s %s: %w", r.Method, r.Path, err)
	}
	status, length, err := c.answer(r.Method == "HEAD")
	if err != nil {
		return fmt.Errorf("%s %s: %w", r.Method, r.Path, err)
	}
	if status != 200 || length != r.Length {
		return fmt.Errorf("%s %s: status %d and %d bytes, want 200 and %d", r.Method, r.Path, status, length, r.Length)
	}
	return nil
}

// answer reads an answer to its end.
func (c *Conn) answer(head bool) (status int, length int64, err error) {
	n, end := 0, -1
	for end < 0 {
		if n == len(c.buf) {
			return 0, 0, fmt.Errorf("a header of more than %d bytes", n)
		}
		m, err := c.net.Read(c.buf[n:])
		if err != nil {
			return 0, 0, err
		}
		end = bytes.Index(c.buf[max(0, n-3):n+m], []byte("\r\n\r\n"))
		if end >= 0 {
			end += max(0, n-3) + 4
		}
		n += m
	}
	c.header = c.buf[:end]
	if status, err = strconv.Atoi(string(c.header[len("HTTP/1.1 "):][:3])); err != nil {
		return 0, 0, fmt.Errorf("no status in %q", c.header)
	}
	length, err = c.length()
	if head || status == 204 {
		return status, length, nil
	}
	if err != nil {
		return status, 0, err
	}
	return status, length, c.drop(length - int64(n-end))
}

func (c *Conn) length() (int64, error) {
	n, err := strconv.ParseInt(c.value("content-length"), 10, 64)
	if err != nil {
		return -1, fmt.Errorf("an answer without a length: %q", c.header)
	}
	return n, nil
}

// value returns a field of the last answer's header. The name is in lower case.
func (c *Conn) value(name string) string {
	for line := range bytes.Lines(c.header) {
		if len(line) > len(name) && line[len(name)] == ':' && strings.EqualFold(string(line[:len(name)]), name) {
			return string(bytes.TrimSpace(line[len(name)+1:]))
		}
	}
	return ""
}

// drop reads what is left of a body.
func (c *Conn) drop(left int64) error {
	if left < 0 {
		return fmt.Errorf("%d bytes more than announced", -left)
	}
	if left > dropAbove && c.tcp != nil {
		return c.truncate(left)
	}
	for left > 0 {
		n, err := c.net.Read(c.rest[:min(left, dropAbove)])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// piece is how much the kernel drops in one call.
const piece = 1 << 20

var nowhere [piece]byte // the kernel wants an address, and writes nothing there

// truncate drops bytes without copying them to us.
func (c *Conn) truncate(left int64) error {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return err
	}
	for left > 0 {
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, _, failed = syscall.Recvfrom(int(fd), nowhere[:min(left, piece)], syscall.MSG_TRUNC)
			return failed != syscall.EAGAIN
		})
		switch {
		case err != nil:
			return err
		case failed == syscall.EINTR:
			continue
		case failed != nil:
			return failed
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		left -= int64(n)
	}
	return nil
}
