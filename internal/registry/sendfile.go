package registry

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// A file is sent in pieces of leastPiece to mostPiece bytes, so that a client that takes none is noticed. A fast client
// gets larger pieces: on plain HTTP/1 each of them is one sendfile. Each has to be taken within the patience, also by a
// client that was fast and is slow now.
const (
	leastPiece = 64 << 10
	mostPiece  = 1 << 20
)

// ReadFrom implements io.ReaderFrom, by which net/http sends files without reading them.
func (w *response) ReadFrom(from io.Reader) (n int64, err error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.errorSent {
		return io.Copy(io.Discard, from)
	}
	for piece := int64(leastPiece); ; {
		w.pace.send()
		began := time.Now()
		got, err := w.copy(&io.LimitedReader{R: from, N: piece})
		n, w.written = n+got, w.written+got
		if err != nil || got < piece {
			return n, err
		}
		if took := time.Since(began); took < time.Second {
			piece = min(2*piece, mostPiece)
		} else if took > 4*time.Second {
			piece = max(piece/4, leastPiece)
		}
	}
}

// Buffers for what is sent encrypted. So many large ones may be in use; a request that finds none has one of the size
// of a TLS record. Slow clients keep theirs, and there may be any number of slow clients.
var (
	largeBuffers = buffersOf(128 << 10)
	smallBuffers = buffersOf(16 << 10)
	largeInUse   = make(slots, 128)
)

func buffersOf(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

// copy sends one piece.
func (w *response) copy(from *io.LimitedReader) (int64, error) {
	if to, ok := w.ResponseWriter.(io.ReaderFrom); ok && w.req.plain {
		return copyPlain(to, from)
	}
	buffers := smallBuffers
	select {
	case largeInUse <- struct{}{}:
		defer func() { <-largeInUse }()
		buffers = largeBuffers
	default:
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(pacedWriter{w}, struct{ io.Reader }{from}, *buf)
}

// copyPlain lets the kernel send one piece. A range is limited itself, and net/http looks through one limit only.
func copyPlain(to io.ReaderFrom, from *io.LimitedReader) (int64, error) {
	part, ok := from.R.(*io.LimitedReader)
	if !ok {
		return to.ReadFrom(from)
	}
	n, err := to.ReadFrom(&io.LimitedReader{R: part.R, N: min(part.N, from.N)})
	part.N -= n
	return n, err
}

// pacedWriter writes to a client that has the whole patience for each write.
type pacedWriter struct{ response *response }

// Write implements io.Writer.
func (p pacedWriter) Write(b []byte) (int, error) {
	p.response.pace.send()
	return p.response.ResponseWriter.Write(b)
}
