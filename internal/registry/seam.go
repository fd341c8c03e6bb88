package registry

import (
	"net/http"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// handler answers a request, or says why it cannot.
type handler func(r *Registry, a *answer, hr *http.Request, req *request) error

// routes are what each kind of route answers to which method.
var routes = map[string]map[string]handler{
	routeRoot:     {"GET": (*Registry).getRoot, "HEAD": (*Registry).getRoot},
	routeBase:     {"GET": (*Registry).getBase, "HEAD": (*Registry).getBase},
	routeCatalog:  {"GET": (*Registry).getCatalog, "HEAD": (*Registry).getCatalog},
	routeTags:     {"GET": (*Registry).getTags, "HEAD": (*Registry).getTags},
	routeReferrer: {"GET": (*Registry).getReferrers, "HEAD": (*Registry).getReferrers},
	routeBlob:     {"GET": (*Registry).getBlob, "HEAD": (*Registry).getBlob, "DELETE": (*Registry).deleteBlob},
	routeManifest: {"GET": (*Registry).getManifest, "HEAD": (*Registry).getManifest, "PUT": (*Registry).putManifest, "DELETE": (*Registry).deleteManifest},
	routeUploads:  {"POST": (*Registry).postUpload},
	routeUpload: {"GET": (*Registry).getUpload, "HEAD": (*Registry).getUpload, "PATCH": (*Registry).patchUpload,
		"PUT": (*Registry).putUpload, "DELETE": (*Registry).deleteUpload},
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	start := time.Now()
	req := &request{route: parseRoute(hr.URL.Path), client: r.opts.Proxies.Client(hr), method: hr.Method, plain: hr.TLS == nil && hr.ProtoMajor == 1}
	pace := &pace{conn: http.NewResponseController(w), patience: r.opts.Limits.Stall, stream: hr.ProtoMajor == 2}
	received := &body{ReadCloser: hr.Body, pace: pace, rest: hr.ContentLength}
	a := &answer{ResponseWriter: w, req: req, body: received, pace: pace, left: hr.Context().Err, log: r.opts.Log, path: hr.URL.Path}
	if hr.ContentLength != 0 {
		pace.receive()                    // also for what nobody reads of it, for which net/http waits after the answer
		hr = hr.WithContext(hr.Context()) // net/http looks at the type of the body in its own
		hr.Body = received
	}
	defer a.leaveRoom()
	defer a.end()
	defer func() { r.publish(hr, a, time.Since(start)) }()
	defer a.close()
	defer a.endTurn()
	defer a.recover()
	if err := r.serve(a, hr, req); err != nil {
		a.refuse(a.told(err))
	}
}

func (r *Registry) serve(a *answer, hr *http.Request, req *request) error {
	methods := routes[req.kind]
	h, known := methods[req.method]
	switch {
	case methods == nil:
		return errNotFound
	case req.name != "" && !layout.ValidName(req.name):
		return errcode.ErrorCodeNameInvalid.WithDetail(req.name)
	case !known:
		for m := range methods {
			a.Header().Add("Allow", m)
		}
		return errcode.ErrorCodeUnsupported
	}
	if err := req.validReference(); err != nil {
		return err
	}
	if !safe(req.method) && fromElsewhere(hr) {
		return errElsewhere
	}
	if err := r.admit(a, hr, req); err != nil {
		return err
	}
	if req.kind != routeManifest || req.method != http.MethodPut { // which first waits for its body
		if err := r.open(hr.Context(), a); err != nil {
			return err
		}
	}
	return h(r, a, hr, req)
}

// getRoot is for people who look, and for balancers that probe: it needs no login.
func (*Registry) getRoot(a *answer, _ *http.Request, _ *request) error {
	return a.whole("text/plain; charset=utf-8", []byte("This is dcs, a registry of container images. Its API is at /v2/.\n"))
}

// getBase says that this is a registry.
func (*Registry) getBase(a *answer, _ *http.Request, _ *request) error {
	return a.whole("application/json", []byte("{}"))
}

// validReference refuses what cannot be the name of anything.
func (r *request) validReference() error {
	digested := r.kind == routeBlob || r.kind == routeReferrer || strings.Contains(r.reference, ":")
	switch {
	case r.kind != routeManifest && r.kind != routeBlob && r.kind != routeReferrer:
		return nil
	case r.kind != routeManifest && !strings.Contains(r.reference, ":"):
		return errNotFound
	case digested:
		_, err := parseDigest(r.reference)
		return err
	case !layout.ValidTag(r.reference):
		return errcode.ErrorCodeTagInvalid.WithDetail(r.reference)
	}
	return nil
}
