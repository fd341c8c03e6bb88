package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// ServeHTTP implements http.Handler: distribution's handlers, with the request made safe for them on
// the way in, and the answer made right on the way out.
func (r *Registry) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	start := time.Now()
	req := &request{route: parseRoute(hr.URL.Path), method: hr.Method}
	pace := &pace{conn: http.NewResponseController(w), patience: r.opts.Limits.Stall}
	received := &body{ReadCloser: hr.Body, pace: pace}
	a := &answer{ResponseWriter: w, req: req, body: received, pace: pace, left: hr.Context().Err, log: r.opts.Log.WithField("path", hr.URL.Path)}
	hr = hr.WithContext(context.WithValue(r.context(hr.Context()), requestKey{}, req))
	if hr.Body != http.NoBody {
		pace.receive() // also for what nobody reads of it, for which net/http waits
		hr.Body = received
	}
	defer func() {
		r.done(hr, a, time.Since(start))
	}()
	defer a.recover()
	if err := r.prepare(a, hr, req); err != nil {
		a.refuse(err)
		return
	}
	if req.kind == routeUpload {
		r.serveUpload(a, hr, req)
		return
	}
	r.app.ServeHTTP(a, hr)
}

// serveUpload keeps count of who has how many uploads open.
func (r *Registry) serveUpload(a *answer, hr *http.Request, req *request) {
	begins := req.method == http.MethodPost && req.reference == ""
	var client string
	if begins && (r.opts.Authenticate == nil || req.login.check(hr, r.opts.Authenticate)) {
		client = req.login.user + "@" + clientOf(hr)
		if !r.uploads.begin(client) {
			a.refuse(errcode.ErrorCodeTooManyRequests.WithMessage(fmt.Sprintf("there are %d unfinished uploads of this client; finish or cancel some", r.opts.Limits.Uploads)))
			return
		}
		defer func() {
			r.uploads.began(client, upload{req.name, a.Header().Get("Docker-Upload-UUID")}, a.status == http.StatusAccepted)
		}()
	}
	r.app.ServeHTTP(a, hr)
	switch {
	case req.method == http.MethodPut && a.status == http.StatusCreated, req.method == http.MethodDelete && a.status == http.StatusNoContent:
		r.uploads.ended(upload{req.name, req.reference})
	}
}

// done clears up after the request, and tells who wants to know.
func (r *Registry) done(hr *http.Request, a *answer, took time.Duration) {
	if a.status == http.StatusInsufficientStorage && a.req.kind == routeUpload && a.req.reference != "" {
		r.driver.dropUpload(a.req.name, a.req.reference) // what it brought so far is what fills the disk
	}
	if r.opts.OnAccess != nil && a.status < http.StatusBadRequest {
		for _, s := range a.accessed() {
			r.opts.OnAccess(s.digest, s.size)
		}
	}
	if r.opts.OnRequest != nil {
		r.opts.OnRequest(hr, Exchange{Route: a.req.kind, User: a.req.login.user, Status: a.status, Bytes: a.written, Took: took})
	}
}

var contentRange = regexp.MustCompile(`^[0-9]{1,18}-[0-9]{1,18}$`)

// prepare refuses what distribution answers with a 500 or a panic although the client is at fault, and
// takes out of a request what it would handle badly.
func (r *Registry) prepare(a *answer, hr *http.Request, req *request) error {
	if req.kind == routeOther {
		return errNotFound
	}
	if req.name != "" && !layout.ValidName(req.name) {
		return errcode.ErrorCodeNameInvalid.WithDetail(req.name)
	}
	forwarded(hr)
	switch req.kind {
	case routeBase:
		if req.method != http.MethodGet && req.method != http.MethodHead {
			return errcode.ErrorCodeUnsupported
		}
	case routeTags:
		if last := hr.URL.Query().Get("last"); last != "" && !layout.ValidTag(last) {
			return errcode.ErrorCodeTagInvalid.WithDetail(last)
		}
	case routeCatalog:
		if last := hr.URL.Query().Get("last"); last != "" && !layout.ValidName(last) {
			return errcode.ErrorCodeNameInvalid.WithDetail(last)
		}
	case routeManifest:
		if !strings.Contains(req.reference, ":") && !layout.ValidTag(req.reference) {
			return errcode.ErrorCodeTagInvalid.WithDetail(req.reference)
		}
		return r.prepareManifest(a, hr, req)
	case routeUpload:
		return prepareUpload(hr, req)
	}
	return nil
}

// forwarded leaves distribution a scheme that makes a Location: the one that the client used, which is the
// first of a chain of proxies.
func forwarded(hr *http.Request) {
	const name = "X-Forwarded-Proto"
	if value := hr.Header.Get(name); value != "" {
		first, _, _ := strings.Cut(value, ",")
		switch first = strings.ToLower(strings.TrimSpace(first)); first {
		case "http", "https":
			hr.Header.Set(name, first)
		default:
			hr.Header.Del(name)
		}
	}
}

// manifestTypes are what is stored, and so what may be asked for.
const manifestTypes = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

func (r *Registry) prepareManifest(a *answer, hr *http.Request, req *request) error {
	switch req.method {
	case http.MethodGet, http.MethodHead:
		// Without its type in Accept distribution denies that a manifest exists, or converts a list,
		// for which it wants a platform in every entry. Whoever asks gets what was pushed.
		hr.Header.Set("Accept", manifestTypes)
		// It would say 304 before it looked whether there is such a manifest.
		hr.Header.Del("If-None-Match")
	case http.MethodPut:
		if r.opts.Authenticate != nil && !req.login.check(hr, r.opts.Authenticate) {
			return nil // distribution asks for the login; nobody else's body is read
		}
		return readManifest(a, hr, req, r.opts.Limits.Manifest)
	}
	return nil
}

// maxReferences bounds what one manifest makes the index write, under its lock. Images have up to 127 layers.
const maxReferences = 10_000

// readManifest reads and checks the manifest in a request's body.
func readManifest(a *answer, hr *http.Request, req *request, limit int64) error {
	data, err := io.ReadAll(http.MaxBytesReader(a.ResponseWriter, hr.Body, limit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return errTooLarge.WithDetail(map[string]int64{"limit": tooLarge.Limit})
	}
	if err != nil {
		return a.body.incomplete()
	}
	content, err := index.ParseContent(data)
	if err == nil {
		err = index.CheckUnambiguous(data)
	}
	switch {
	case err != nil:
		return errcode.ErrorCodeManifestInvalid.WithDetail(err.Error())
	case content.MediaType == index.SchemaOne:
		return errcode.ErrorCodeManifestInvalid.WithDetail("schema 1 manifests are not supported")
	case len(content.References) > maxReferences:
		return errcode.ErrorCodeManifestInvalid.WithDetail(fmt.Sprintf("manifest refers to %d others, more than %d", len(content.References), maxReferences))
	}
	req.content, req.contentDigest, req.contentSize = content, digest.FromBytes(data), int64(len(data))
	hr.Body = io.NopCloser(bytes.NewReader(data))
	return nil
}

func prepareUpload(hr *http.Request, req *request) error {
	// Bytes are bytes. Distribution refuses some types, and would read a form into memory and temporary files.
	hr.Header.Del("Content-Type")
	if cr := hr.Header.Get("Content-Range"); cr != "" && !contentRange.MatchString(cr) {
		return errRangeMalformed
	}
	d, err := digest.Parse(hr.URL.Query().Get("digest"))
	if err == nil {
		req.digest = d
	}
	if hr.Method == http.MethodPut && err == nil && d.Algorithm() != digest.Canonical {
		return errcode.ErrorCodeDigestInvalid.WithMessage(fmt.Sprintf("this registry stores blobs by %s only", digest.Canonical))
	}
	return nil
}

// answer is the response on its way out. Distribution calls many things an unknown error; where we know
// better, the client is told.
type answer struct {
	http.ResponseWriter
	req     *request
	body    *body
	pace    *pace
	left    func() error // not nil once the client left
	log     interface{ Errorf(string, ...any) }
	status  int
	written int64
	refused bool // what distribution goes on to write is dropped
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
	a.status = status
	a.pace.send()
	a.ResponseWriter.WriteHeader(status)
}

// statusClientLeft is what distribution answers, and nginx logs, for a client that hung up. One that stalls,
// or that only sends no more, still hears it.
const statusClientLeft = 499

func (a *answer) betterReason(status int) error {
	if status < http.StatusBadRequest {
		return nil
	}
	if err := a.req.reason(); err != nil {
		return err
	}
	switch {
	case status == http.StatusMethodNotAllowed:
		return errcode.ErrorCodeUnsupported
	case status == http.StatusNotFound && !strings.HasPrefix(a.Header().Get("Content-Type"), "application/json"):
		return errNotFound // from distribution's router
	case status == http.StatusRequestedRangeNotSatisfiable && a.req.kind == routeBlob:
		return errRangeUnsatisfiable // from net/http
	case a.body.err != nil && status >= statusClientLeft:
		return a.body.incomplete()
	case status < http.StatusInternalServerError:
		return nil
	case a.left() != nil:
		return errClientLeft
	case a.req.vanished && a.req.kind == routeBlob:
		return errcode.ErrorCodeBlobUnknown // deleted between two looks
	case a.req.vanished && a.req.kind == routeUpload:
		return errcode.ErrorCodeUnavailable.WithMessage("the upload was removed while it was written; begin again")
	case a.req.kind == routeManifest && a.req.method == http.MethodPut:
		return errcode.ErrorCodeManifestInvalid // what storage refuses it reports itself, as a reason
	case a.req.kind == routeManifest && a.req.uses():
		a.log.Errorf("a manifest cannot be read; dcs inspect --check says why")
		return errUnreadable // a client that pushes it again mends it
	}
	a.log.Errorf("a request failed with status %d and no reason that the storage gave", status)
	return errcode.ErrorCodeUnknown
}

// refuse writes an error in the protocol's form.
func (a *answer) refuse(err error) {
	if a.status != 0 {
		return
	}
	h := a.Header()
	for _, name := range []string{"Content-Length", "Location", "Etag", "Docker-Content-Digest"} {
		h.Del(name)
	}
	h.Set("Docker-Distribution-API-Version", "registry/2.0")
	rec := &recorder{header: h}
	if serr := errcode.ServeJSON(rec, err); serr != nil {
		a.log.Errorf("write error answer: %v", serr)
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
	a.pace.send()
	a.status, a.refused = rec.status, true
	h.Set("Content-Length", strconv.Itoa(rec.Len()))
	a.ResponseWriter.WriteHeader(rec.status)
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
	n, err := a.ResponseWriter.Write(p)
	if a.req.method != http.MethodHead { // net/http drops the body that distribution writes
		a.written += int64(n)
	}
	return n, err
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
		panic(p)
	}
	a.log.Errorf("a request failed inside the registry: %v\n%s", p, debug.Stack())
	if a.status != 0 {
		panic(http.ErrAbortHandler) // half an answer was sent
	}
	a.refuse(errcode.ErrorCodeUnknown)
}

// accessed lists the blobs and manifests that the request served or stored, each once.
func (a *answer) accessed() []stored {
	if len(a.req.stored) > 0 {
		return a.req.stored
	}
	read := a.req.method == http.MethodGet || a.req.method == http.MethodHead
	if !read || (a.req.kind != routeBlob && a.req.kind != routeManifest) {
		return nil
	}
	d, err := digest.Parse(a.Header().Get("Docker-Content-Digest"))
	if err != nil {
		return nil
	}
	return []stored{{d, a.size()}}
}

// size is that of the whole object, also when parts of it or only news of it were asked for.
func (a *answer) size() int64 {
	if a.req.kind == routeBlob {
		return a.req.blobSize
	}
	n, err := strconv.ParseInt(a.Header().Get("Content-Length"), 10, 64) // of a manifest, which goes out whole
	if err != nil {
		return 0
	}
	return n
}
