package registry

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// response sends the answer to one request: a header, and the body within the client's patience. Errors are sent in the
// protocol's form, whatever writes them.
type response struct {
	http.ResponseWriter
	asked     *http.Request
	req       request
	body      body
	pace      pace
	status    int   // 0: no header was sent
	written   int64 // bytes of the body
	errorSent bool  // what is written after an error is dropped
	early     bool  // the answer began before all of the request's body was there
	last      bool  // the connection ends with it
	cut       bool  // its end was not sent

	values [mostValues]string // of the header
	set    int                // how many of them
}

// mostValues is how many fields of a header are set without memory of their own.
const mostValues = 8

// setHeader sets a field whose name is spelled as net/http spells it. Header.Set looks at every byte of the name, and
// takes memory for each value.
func (w *response) setHeader(name, value string) {
	if w.set == mostValues {
		w.Header()[name] = []string{value}
		return
	}
	w.values[w.set] = value
	w.Header()[name] = w.values[w.set : w.set+1 : w.set+1]
	w.set++
}

// clientGone is not nil once the client has left.
func (w *response) clientGone() error { return w.asked.Context().Err() }

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if err := w.errorOf(status); err != nil {
		w.writeError(err)
		return
	}
	w.begin(status, noLength)
}

// errorOf is the protocol's error for a status that net/http sends; nil: the status is sent as it is.
func (w *response) errorOf(status int) error {
	switch {
	case status < http.StatusBadRequest:
		return nil
	case status == http.StatusRequestedRangeNotSatisfiable:
		return errRangeUnsatisfiable
	case status < statusClientLeft:
		return nil
	case w.clientGone() != nil:
		return errClientLeft
	}
	w.req.errorf("a request failed with status %d and no reason", status)
	return errcode.ErrorCodeUnknown
}

// noLength means: do not set Content-Length. It is set already, or there is no body.
const noLength = -1

// begin sends the header of an answer with a body of so many bytes.
func (w *response) begin(status int, length int64) {
	w.setHeader("Docker-Distribution-Api-Version", "registry/2.0")
	if length != noLength {
		w.setHeader("Content-Length", strconv.FormatInt(length, 10))
	}
	if w.body.rest != 0 && !w.pace.stream {
		w.beforeTheBody()
	}
	if !w.req.shares.transfers {
		w.req.shares.closeFiles() // from here on the request waits for the client
	}
	w.status = status
	w.pace.send()
	w.ResponseWriter.WriteHeader(status)
}

// mostDrained is how many bytes of a body are read after the answer, so that a client which is still sending gets the
// answer, and can use the connection again. A manifest is no longer.
const mostDrained = 4 << 20

// beforeTheBody sends an answer at once, though more of the request's body is to come: its client may wait for the
// answer before it sends more.
func (w *response) beforeTheBody() {
	stopped := w.pace.stopped.CompareAndSwap(true, false)
	fits := w.body.rest > 0 && w.body.rest <= mostDrained && w.body.err == nil
	if w.last = stopped || !fits; w.last {
		w.Header().Set("Connection", "close")
	}
	if stopped || fits {
		w.early = w.pace.conn.EnableFullDuplex() == nil // where there is none, net/http reads the body first
	}
}

// whole sends an answer that is in memory.
func (w *response) whole(contentType string, data []byte) error {
	w.setHeader("Content-Type", contentType)
	w.begin(http.StatusOK, int64(len(data)))
	if w.req.method == http.MethodHead {
		return nil
	}
	_, err := w.Write(data)
	return w.cutShort(err)
}

// Write implements io.Writer.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.errorSent {
		return len(p), nil
	}
	w.pace.send()
	if w.pace.stopped.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := w.ResponseWriter.Write(p)
	if w.req.method != http.MethodHead { // net/http drops the body
		w.written += int64(n)
	}
	return n, err
}

// cutShort hangs up when an answer could not be sent to its end, unless the client has left.
func (w *response) cutShort(err error) error {
	if err == nil || w.clientGone() != nil {
		return nil
	}
	var file *fs.PathError
	if errors.As(err, &file) || errors.Is(err, io.ErrUnexpectedEOF) { // the store failed, not the connection
		w.req.errorf("an answer was cut short: %v", err)
	}
	panic(http.ErrAbortHandler)
}

// end sends what is buffered as long as there is a deadline, and then ends that. It also reads what is left of a body
// that was answered early: net/http would read it while it waits for the client's next request, which it takes for a
// bug.
func (w *response) end() {
	defer w.pace.end()
	if w.cut {
		return
	}
	if w.early || w.pace.stream && w.written > 0 {
		_ = w.pace.conn.Flush() // to a client that may have left
	}
	if w.early {
		w.pace.read = time.Time{} // the body has all the patience again
		if _, err := io.CopyN(io.Discard, &w.body, mostDrained+1); err != io.EOF && !w.last {
			panic(http.ErrAbortHandler) // what follows would be taken for a request
		}
	}
}
