package load

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Pusher uploads as docker does: is it there, begin, send in one PATCH of chunks, finish.
type Pusher struct {
	conn *Conn
	repo string
}

// NewPusher pushes into a repository over a connection of its own.
func NewPusher(addr, repo string) (*Pusher, error) {
	c, err := Dial(addr)
	if err != nil {
		return nil, err
	}
	return &Pusher{conn: c, repo: repo}, nil
}

// Close ends the connection.
func (p *Pusher) Close() error { return p.conn.Close() }

// Blob uploads what the server must not have yet. wire writes the chunks of the body, as Chunks made them.
func (p *Pusher) Blob(d digest.Digest, wire func(write func([]byte) error) error) error {
	blobs := "/v2/" + p.repo + "/blobs/"
	if err := p.ask(404, head("HEAD", blobs+d.String(), "")); err != nil {
		return err
	}
	if err := p.ask(202, head("POST", blobs+"uploads/", "Content-Length: 0\r\n")); err != nil {
		return err
	}
	upload, err := p.location()
	if err != nil {
		return err
	}
	send := func(b []byte) error {
		_, err := p.conn.tcp.Write(b)
		return err
	}
	patch := head("PATCH", upload, "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n")
	if err := send(patch); err != nil {
		return err
	}
	if err := wire(send); err != nil {
		return fmt.Errorf("PATCH %s: %w", d, err)
	}
	if err := p.answer(202, patch); err != nil {
		return err
	}
	if upload, err = p.location(); err != nil {
		return err
	}
	sep := "?"
	if strings.Contains(upload, "?") {
		sep = "&"
	}
	return p.ask(201, head("PUT", upload+sep+"digest="+url.QueryEscape(d.String()), "Content-Length: 0\r\n"))
}

// Manifest puts a manifest under a tag.
func (p *Pusher) Manifest(tag, mediaType string, data []byte) error {
	h := head("PUT", "/v2/"+p.repo+"/manifests/"+tag,
		"Content-Type: "+mediaType+"\r\nContent-Length: "+strconv.Itoa(len(data))+"\r\n")
	return p.ask(201, append(h, data...))
}

func (p *Pusher) ask(want int, wire []byte) error {
	if _, err := p.conn.tcp.Write(wire); err != nil {
		return err
	}
	return p.answer(want, wire)
}

func (p *Pusher) answer(want int, asked []byte) error {
	line, _, _ := strings.Cut(string(asked), "\r\n")
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
