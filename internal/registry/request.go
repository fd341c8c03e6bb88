package registry

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
)

// request is one request.
type request struct {
	route
	client   netip.Addr // who asks; invalid when that has no address
	method   string
	plain    bool // not encrypted: the kernel can send files
	login    login
	accessed accessed // the blob or manifest that it served or stored; zero: none
}

// accessed is a blob or a manifest that a request served or stored.
type accessed struct {
	digest digest.Digest
	size   int64 // of the whole, also when the client asked for less
}

func (r *request) access(d digest.Digest, size int64) { r.accessed = accessed{d, size} }

// route is what a path below /v2/ asks for.
type route struct {
	kind      string
	name      string
	reference string // tag or digest; upload id
}

// The kinds of routes, as they are named in metrics; an upload that is to begin is an upload there.
const (
	routeRoot     = "root"
	routeBase     = "base"
	routeCatalog  = "catalog"
	routeTags     = "tags"
	routeManifest = "manifest"
	routeBlob     = "blob"
	routeUpload   = "upload"
	routeUploads  = "uploads"
	routeReferrer = "referrers"
	routeOther    = "other"
)

// label is the kind as metrics know it.
func (r route) label() string {
	switch r.kind {
	case routeUploads:
		return routeUpload
	case routeRoot:
		return routeOther
	}
	return r.kind
}

// parseRoute reads a path from its end, since a repository may be called as the API's own words are.
func parseRoute(path string) route {
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
	case path == "/":
		return route{kind: routeRoot}
	case path == "/v2" || path == "/v2/":
		return route{kind: routeBase}
	case rest == "_catalog":
		return route{kind: routeCatalog}
	case !ok:
		return route{kind: routeOther}
	}
	parts := strings.Split(rest, "/")
	n := len(parts)
	name := func(tail int) string { return strings.Join(parts[:n-tail], "/") }
	switch {
	case n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads" && parts[n-1] == "":
		return route{kind: routeUploads, name: name(3)}
	case n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads":
		return route{kind: routeUpload, name: name(3), reference: parts[n-1]}
	case n >= 3 && parts[n-2] == "manifests":
		return route{kind: routeManifest, name: name(2), reference: parts[n-1]}
	case n >= 3 && parts[n-2] == "referrers":
		return route{kind: routeReferrer, name: name(2), reference: parts[n-1]}
	case n >= 3 && parts[n-2] == "tags" && parts[n-1] == "list":
		return route{kind: routeTags, name: name(2)}
	case n >= 3 && parts[n-2] == "blobs" && parts[n-1] == "uploads":
		return route{kind: routeUploads, name: name(2)}
	case n >= 3 && parts[n-2] == "blobs":
		return route{kind: routeBlob, name: name(2), reference: parts[n-1]}
	}
	return route{kind: routeOther}
}

// body remembers whether a client failed to send what it announced.
type body struct {
	io.ReadCloser
	pace *pace
	got  int64 // bytes
	rest int64 // what is still to come; negative: nobody said how much
	err  error // read after the handler is done with the body
}

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
