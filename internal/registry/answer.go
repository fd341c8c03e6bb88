package registry

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/sirupsen/logrus"
)

// answer is the response on its way out. Whatever writes it, an error leaves in the protocol's form.
type answer struct {
	http.ResponseWriter
	req       *request
	body      *body
	pace      *pace
	left      func() error // not nil once the client left
	log       *logrus.Logger
	path      string
	status    int
	written   int64
	files     lane     // in which it has files open; nil: it has none
	transfers bool     // it has them until its end
	turn      lane     // to make a long list; nil: it has none
	held      *holding // what it has of the room; nil: nothing
	refused   bool     // what somebody goes on to write is dropped
	early     bool     // it was sent before all of the body was there
	last      bool     // the connection ends with it
	cut       bool     // its end was not sent
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	if err := a.betterReason(status); err != nil {
		a.refuse(err)
		return
	}
	a.begin(status, unsaid)
}

// unsaid is the length of a body that somebody else said, or that there is none.
const unsaid = -1

// begin sends the header of an answer with a body of so many bytes.
func (a *answer) begin(status int, length int64) {
	h := a.Header()
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	if length != unsaid {
		h.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	if a.body.rest != 0 && !a.pace.stream {
		a.beforeTheBody()
	}
	if !a.transfers {
		a.close() // what is left to do waits for the client
	}
	a.status = status
	a.pace.send()
	a.ResponseWriter.WriteHeader(status)
}

// mostDrained is how much of a body is read after the answer, so that a client which is still sending gets it, and
// can use the connection again. It is as long as a manifest.
const mostDrained = 4 << 20

// beforeTheBody sends an answer at once, though more of the body is to come: who sends it may wait for the answer.
func (a *answer) beforeTheBody() {
	stopped := a.pace.stopped.CompareAndSwap(true, false)
	fits := a.body.rest > 0 && a.body.rest <= mostDrained && a.body.err == nil
	if a.last = stopped || !fits; a.last {
		a.Header().Set("Connection", "close")
	}
	if stopped || fits {
		a.early = a.pace.conn.EnableFullDuplex() == nil // where there is none, net/http reads the body first
	}
}

// whole sends an answer that is in memory.
func (a *answer) whole(contentType string, data []byte) error {
	a.Header().Set("Content-Type", contentType)
	a.begin(http.StatusOK, int64(len(data)))
	if a.req.method == http.MethodHead {
		return nil
	}
	_, err := a.Write(data)
	return a.brokenOff(err)
}

// end sends what is buffered while there is a deadline, and ends that. What is left of a body that was answered
// early is read here: net/http would do so, and wait for the client at the same time, which it takes for a bug.
func (a *answer) end() {
	defer a.pace.end()
	if a.cut {
		return
	}
	if a.early || a.pace.stream && a.written > 0 {
		_ = a.pace.conn.Flush() // to a client that may have left
	}
	if a.early {
		a.pace.read = time.Time{} // the body has all the patience again
		if _, err := io.CopyN(io.Discard, a.body, mostDrained+1); err != io.EOF && !a.last {
			panic(http.ErrAbortHandler) // what follows would be taken for a request
		}
	}
}

// betterReason is for the errors that net/http writes: where we know better, the client is told.
func (a *answer) betterReason(status int) error {
	switch {
	case status < http.StatusBadRequest:
		return nil
	case status == http.StatusRequestedRangeNotSatisfiable:
		return errRangeUnsatisfiable
	case status < statusClientLeft:
		return nil
	case a.left() != nil:
		return errClientLeft
	}
	a.errorf("a request failed with status %d and no reason", status)
	return errcode.ErrorCodeUnknown
}

// errorf tells the operator what the client is not to blame for.
func (a *answer) errorf(format string, args ...any) {
	a.log.WithField("path", a.path).Errorf(format, args...)
}

// refuse writes an error in the protocol's form.
func (a *answer) refuse(err error) {
	if a.status != 0 {
		return
	}
	h := a.Header()
	for _, name := range []string{"Content-Length", "Location", "Etag", "Docker-Content-Digest", "Cache-Control", "Accept-Ranges", "Oci-Tag"} {
		h.Del(name)
	}
	rec := &recorder{header: h}
	if serr := errcode.ServeJSON(rec, err); serr != nil {
		a.errorf("write error answer: %v", serr)
	}
	switch rec.status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", "5")
	case http.StatusRequestTimeout:
		h.Set("Connection", "close") // what comes late is no request
	}
	if rec.status != http.StatusRequestedRangeNotSatisfiable {
		h.Del("Content-Range") // else it says how long the blob is
	}
	a.begin(rec.status, int64(rec.Len()))
	a.refused = true
	if a.req.method != http.MethodHead {
		n, _ := a.ResponseWriter.Write(rec.Bytes()) // a client that left does not read it
		a.written = int64(n)
	}
}

// recorder lets ServeJSON choose the status before anything is sent.
type recorder struct {
	bytes.Buffer
	header http.Header
	status int
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }

// Write implements io.Writer.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.refused {
		return len(p), nil
	}
	a.pace.send()
	if a.pace.stopped.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := a.ResponseWriter.Write(p)
	if a.req.method != http.MethodHead { // net/http drops the body that distribution writes
		a.written += int64(n)
	}
	return n, err
}

// A file goes out in pieces of least to most bytes, so that a client that takes none is noticed. A fast one
// gets larger pieces: on plain HTTP each is one sendfile. Each has to be taken within the patience, also by
// a client that was fast and is slow now.
const (
	least = 64 << 10
	most  = 1 << 20
)

// ReadFrom implements io.ReaderFrom, by which net/http sends files without reading them.
func (a *answer) ReadFrom(from io.Reader) (n int64, err error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.refused {
		return io.Copy(io.Discard, from)
	}
	for piece := int64(least); ; {
		a.pace.send()
		began := time.Now()
		got, err := a.copy(&io.LimitedReader{R: from, N: piece})
		n, a.written = n+got, a.written+got
		if err != nil || got < piece {
			return n, err
		}
		if took := time.Since(began); took < time.Second {
			piece = min(2*piece, most)
		} else if took > 4*time.Second {
			piece = max(piece/4, least)
		}
	}
}

// outgoing are the buffers of what goes out encrypted, of which so many may be in use. Whoever finds none has one of
// the size of a record: clients that are slow keep theirs, and there may be any number of them.
var (
	outgoing = buffersOf(128 << 10)
	records  = buffersOf(16 << 10)
	sending  = make(chan struct{}, 128)
)

func buffersOf(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

func (a *answer) copy(from *io.LimitedReader) (int64, error) {
	if to, ok := a.ResponseWriter.(io.ReaderFrom); ok && a.req.plain {
		if limited, ok := from.R.(*io.LimitedReader); ok { // of a range: net/http looks through one limit only
			if limited.N < from.N {
				from.N = limited.N
			}
			n, err := to.ReadFrom(&io.LimitedReader{R: limited.R, N: from.N})
			limited.N -= n
			return n, err
		}
		return to.ReadFrom(from)
	}
	buffers := records
	select {
	case sending <- struct{}{}:
		defer func() { <-sending }()
		buffers = outgoing
	default:
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(paced{a}, struct{ io.Reader }{from}, *buf)
}

// paced writes to a client who has the whole patience for each write.
type paced struct{ answer *answer }

// Write implements io.Writer.
func (p paced) Write(b []byte) (int, error) {
	p.answer.pace.send()
	return p.answer.ResponseWriter.Write(b)
}

// recover answers for a handler that panicked. http.ErrAbortHandler is how a handler hangs up.
func (a *answer) recover() {
	p := recover()
	switch p {
	case nil:
		if a.status == 0 {
			a.WriteHeader(http.StatusOK)
		}
		return
	case http.ErrAbortHandler:
		a.cut = true
		panic(p)
	}
	a.errorf("a request failed inside the registry: %v\n%s", p, debug.Stack())
	if a.status != 0 {
		a.cut = true
		panic(http.ErrAbortHandler) // half an answer was sent
	}
	a.refuse(errcode.ErrorCodeUnknown)
}
