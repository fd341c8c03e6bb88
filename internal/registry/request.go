package registry

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// request is what is known about one request.
type request struct {
	route
	path     string
	method   string
	client   netip.Addr // invalid when the client has no address
	plain    bool       // HTTP/1 without TLS: the kernel can send files
	login    login
	accessed accessed // the blob or manifest that it served or stored; zero: none
	shares   shares
	log      logrus.FieldLogger
}

// read fills in what a request says.
func (r *request) read(of *Registry, hr *http.Request, p *pace) {
	r.route, r.path, r.method = parseRoute(hr.URL.Path), hr.URL.Path, hr.Method
	r.client, r.plain, r.log = of.opts.Proxies.Client(hr), hr.TLS == nil && hr.ProtoMajor == 1, of.opts.Log
	r.shares = shares{of: &of.shared, client: r.client, pace: p, transfers: r.transfers()}
}

// accessed is a blob or a manifest that a request served or stored.
type accessed struct {
	digest digest.Digest
	size   int64 // of the whole, also when the client asked for less

	manifest *manifest.Manifest // nil: it is a blob
}

func (r *request) access(d digest.Digest, size int64) { r.accessed = accessed{digest: d, size: size} }

// accessManifest is access for a manifest.
func (r *request) accessManifest(m *content.Manifest) {
	r.accessed = accessed{m.Digest, int64(len(m.Data)), m.Manifest}
}

// transfers says that a request waits for its client while it has a file open.
func (r *request) transfers() bool {
	switch r.kind {
	case routeBlob:
		return r.method == http.MethodGet
	case routeUploads, routeUpload:
		return !safe(r.method)
	}
	return false
}

// first is the value of a field of a header that may be there once.
func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// errorf tells the operator about an error that is not the client's.
func (r *request) errorf(format string, args ...any) {
	r.log.WithField("path", r.path).Errorf(format, args...)
}

// body is the body of a request. It remembers whether the client failed to send what it announced.
type body struct {
	io.ReadCloser
	pace *pace
	got  int64 // bytes
	rest int64 // bytes that are still to come; negative: the client did not say how many
	err  error // read after the handler is done with the body
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.pace.receive()
	if b.pace.stopped.Load() {
		b.err = os.ErrDeadlineExceeded
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p)
	b.got += int64(n)
	if b.rest > 0 {
		b.rest -= int64(n)
	}
	switch {
	case err == io.EOF:
		b.rest = 0
		b.pace.received()
	case err != nil:
		b.err = err
	}
	return n, err
}

// incomplete says why a body could not be read to its end.
func (b *body) incomplete() error {
	if errors.Is(b.err, os.ErrDeadlineExceeded) {
		return errStalled
	}
	return errBodyIncomplete
}
