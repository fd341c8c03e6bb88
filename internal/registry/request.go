package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// request is what the seam and the driver tell each other about one request. The driver gets it from
// the context of its calls.
type request struct {
	route
	method string
	login  login

	content       *index.Content // of the manifest in the body
	contentDigest digest.Digest
	contentSize   int64
	digest        digest.Digest // by which an upload is to be stored
	uploadStarted time.Time     // of the upload that the request continues
	stored        []stored
	blobSize      int64 // of the blob that is read; headers tell it of a whole one only
	leaseFailed   bool  // once is enough: each try waits for the index
	vanished      bool  // something that was asked for is not there

	mu      sync.Mutex // guards failure: distribution deletes tags in several goroutines
	failure error      // the reason why the request failed, where distribution tells a client less
}

// login is what was found out about who asks. It is asked once a request.
type login struct {
	asked, ok bool
	user      string
}

func (l *login) check(r *http.Request, authenticate Authenticate) bool {
	if !l.asked {
		l.asked = true
		user, password, given := r.BasicAuth()
		if l.ok = given && authenticate(r.Context(), clientOf(r), user, password); l.ok {
			l.user = user
		}
	}
	return l.ok
}

// stored is a blob that the request put into the store, or linked.
type stored struct {
	digest digest.Digest
	size   int64
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// fail notes why the request cannot be done, and returns the error. The first reason counts.
func (r *request) fail(err error) error {
	if r == nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = err
	}
	return err
}

func (r *request) reason() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// uses says whether the request is a use of what it reads. A DELETE is not.
func (r *request) uses() bool { return r != nil && r.method != http.MethodDelete }

// writes says whether the request may put content or names into the store.
func (r *request) writes() bool {
	return r != nil && (r.method == http.MethodPut || r.method == http.MethodPost || r.method == http.MethodPatch)
}

// mustLease says whether the answer is worth nothing without a lease: a client told that a blob exists
// does not send it. Bytes that are in hand are served all the same.
func (r *request) mustLease() bool {
	return r.writes() || (r.method == http.MethodHead && r.kind == routeBlob)
}

// route is what a path below /v2/ asks for.
type route struct {
	kind      string
	name      string
	reference string // tag or digest; upload id
}

// The kinds of routes, as they are named in metrics.
const (
	routeBase     = "base"
	routeCatalog  = "catalog"
	routeTags     = "tags"
	routeManifest = "manifest"
	routeBlob     = "blob"
	routeUpload   = "upload"
	routeOther    = "other"
)

// parseRoute reads a path from its end, since a repository may be called as the API's own words are.
func parseRoute(path string) route {
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
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
	case n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads":
		return route{kind: routeUpload, name: name(3), reference: parts[n-1]}
	case n >= 3 && parts[n-2] == "manifests":
		return route{kind: routeManifest, name: name(2), reference: parts[n-1]}
	case n >= 3 && parts[n-2] == "tags" && parts[n-1] == "list":
		return route{kind: routeTags, name: name(2)}
	case n >= 3 && parts[n-2] == "blobs" && parts[n-1] == "uploads":
		return route{kind: routeUpload, name: name(2)}
	case n >= 3 && parts[n-2] == "blobs":
		return route{kind: routeBlob, name: name(2), reference: parts[n-1]}
	}
	return route{kind: routeOther}
}

// clientOf is what counts as one client: an address, or the network of IPv6 addresses that a site hands
// out to itself.
func clientOf(hr *http.Request) string {
	from, err := netip.ParseAddrPort(hr.RemoteAddr)
	if err != nil {
		return hr.RemoteAddr
	}
	ip := from.Addr().Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

// body remembers whether a client failed to send what it announced.
type body struct {
	io.ReadCloser
	pace *pace
	err  error // read after the handler is done with the body
}

func (b *body) Read(p []byte) (int, error) {
	b.pace.receive()
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
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
