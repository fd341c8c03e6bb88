package load

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Form is a way to send the bytes of a blob.
type Form int

// The forms that clients have.
const (
	Chunked Form = iota // POST, a PATCH in chunks of 32 KiB, PUT: docker
	Length              // POST, a PATCH with its Content-Length, PUT
	Parts               // POST, up to 16 PATCHes, each with a Content-Range, PUT
	Put                 // POST, PUT with the bytes
	Post                // POST with the digest and the bytes
)

// Body is what a blob has. Its pieces are written one after the other.
type Body struct {
	Digest digest.Digest
	Size   int64
	Pieces [][]byte
	Chunks [][]byte // each piece as Chunks makes it, then End
}

// NewBody is a body of one piece.
func NewBody(d digest.Digest, data []byte) Body {
	return Body{Digest: d, Size: int64(len(data)), Pieces: [][]byte{data}, Chunks: [][]byte{append(Chunks(data),
		End...)}}
}

// Pusher uploads as clients do: is it there, begin, send, finish.
type Pusher struct {
	conn *Conn
	repo string
}

// NewPusher pushes into a repository over a connection of its own.
func NewPusher(addr, repo string) (*Pusher, error) {
	c, err := Dial(addr, nil)
	if err != nil {
		return nil, err
	}
	return &Pusher{conn: c, repo: repo}, nil
}

// Close ends the connection.
func (p *Pusher) Close() error { return p.conn.Close() }

const bytesType = "Content-Type: application/octet-stream\r\n"

// Blob uploads what the server must not have yet.
func (p *Pusher) Blob(form Form, b Body) error {
	blobs := "/v2/" + p.repo + "/blobs/"
	if err := p.ask(404, head("HEAD", blobs+b.Digest.String(), "")); err != nil {
		return err
	}
	named := "digest=" + url.QueryEscape(b.Digest.String())
	if form == Post {
		return p.ask(201, head("POST", blobs+"uploads/?"+named, bytesType+length(b.Size)), b.Pieces...)
	}
	if err := p.ask(202, head("POST", blobs+"uploads/", length(0))); err != nil {
		return err
	}
	patch := func(fields string, pieces ...[]byte) error {
		upload, err := p.location()
		if err != nil {
			return err
		}
		return p.ask(202, head("PATCH", upload, bytesType+fields), pieces...)
	}
	var err error
	switch form {
	case Chunked:
		err = patch("Transfer-Encoding: chunked\r\n", b.Chunks...)
	case Length:
		err = patch(length(b.Size), b.Pieces...)
	case Parts:
		err = b.inParts(patch)
	}
	if err != nil {
		return err
	}
	upload, err := p.location()
	if err != nil {
		return err
	}
	sep := "?"
	if strings.Contains(upload, "?") {
		sep = "&"
	}
	if form == Put {
		return p.ask(201, head("PUT", upload+sep+named, bytesType+length(b.Size)), b.Pieces...)
	}
	return p.ask(201, head("PUT", upload+sep+named, length(0)))
}

// parts is how many requests a body is sent in, if it has as many pieces.
const parts = 16

// inParts sends the pieces in several requests.
func (b Body) inParts(patch func(fields string, pieces ...[]byte) error) error {
	var from int64
	for i := range parts {
		pieces := b.Pieces[len(b.Pieces)*i/parts : len(b.Pieces)*(i+1)/parts]
		var size int64
		for _, piece := range pieces {
			size += int64(len(piece))
		}
		if size == 0 {
			continue
		}
		fields := fmt.Sprintf("Content-Range: %d-%d\r\n", from, from+size-1) + length(size)
		if err := patch(fields, pieces...); err != nil {
			return err
		}
		from += size
	}
	return nil
}

func length(n int64) string { return "Content-Length: " + strconv.FormatInt(n, 10) + "\r\n" }

// Manifest puts a manifest under a tag.
func (p *Pusher) Manifest(tag, mediaType string, data []byte) error {
	return p.ask(201, append(head("PUT", "/v2/"+p.repo+"/manifests/"+tag,
		"Content-Type: "+mediaType+"\r\n"+length(int64(len(data)))), data...))
}

// ask writes a request and its body, and wants a status.
func (p *Pusher) ask(want int, request []byte, body ...[]byte) error {
	line, _, _ := strings.Cut(string(request), "\r\n")
	for _, bytes := range append([][]byte{request}, body...) {
		if _, err := p.conn.net.Write(bytes); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	status, _, err := p.conn.answer(strings.HasPrefix(line, "HEAD"))
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	if status != want {
		return fmt.Errorf("%s: status %d, want %d", line, status, want)
	}
	return nil
}

// location is where the last answer sends us, without the host.
func (p *Pusher) location() (string, error) {
	u, err := url.Parse(p.conn.value("location"))
	if err != nil {
		return "", err
	}
	return u.RequestURI(), nil
}

// chunk is how much docker puts into one chunk of a body: the buffer of Go's io.Copy.
const chunk = 32 << 10

// Chunks writes data down as chunks of a body, without the last one, which is End.
func Chunks(data []byte) (wire []byte) {
	for len(data) > 0 {
		n := min(len(data), chunk)
		wire = append(wire, strconv.FormatInt(int64(n), 16)+"\r\n"...)
		wire = append(wire, data[:n]...)
		wire = append(wire, "\r\n"...)
		data = data[n:]
	}
	return wire
}

// End is the last chunk.
var End = []byte("0\r\n\r\n")
