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

// routes are what each kind of route answers to which method; nil: distribution's handlers.
var routes = map[string]map[string]handler{
	routeBase:     {"GET": nil, "HEAD": nil},
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
	pace := &pace{conn: http.NewResponseController(w), patience: r.opts.Limits.Stall}
	received := &body{ReadCloser: hr.Body, pace: pace}
	a := &answer{ResponseWriter: w, req: req, body: received, pace: pace, left: hr.Context().Err, log: r.opts.Log, path: hr.URL.Path}
	if hr.Body != http.NoBody {
		pace.receive() // also for what nobody reads of it, for which net/http waits
		hr.Body = received
	}
	defer func() { r.done(hr, a, time.Since(start)) }()
	defer a.recover()
	if err := r.serve(a, hr, req); err != nil {
		a.refuse(a.told(err))
	}
}

func (r *Registry) serve(a *answer, hr *http.Request, req *request) error {
	a.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
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
	if r.opts.Authenticate != nil && !req.login.check(hr, req.client, r.opts.Authenticate) {
		// The same for a missing, an unknown and a wrong login.
		a.Header().Set("WWW-Authenticate", `Basic realm="dcs"`)
		return errcode.ErrorCodeUnauthorized
	}
	if h != nil {
		return h(r, a, hr, req)
	}
	r.pass(a, hr)
	return nil
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

// pass lets distribution's handlers answer.
func (r *Registry) pass(a *answer, hr *http.Request) {
	a.passed = true
	r.app.ServeHTTP(a, hr.WithContext(r.context(hr.Context())))
}

// done tells who wants to know.
func (r *Registry) done(hr *http.Request, a *answer, took time.Duration) {
	if r.opts.OnAccess != nil && a.status < http.StatusBadRequest {
		for _, s := range a.req.accessed {
			r.opts.OnAccess(s.digest, s.size)
		}
	}
	if r.opts.OnRequest != nil {
		r.opts.OnRequest(hr, Exchange{Route: a.req.label(), Client: a.req.client, Login: a.req.login.result, User: a.req.login.user,
			Tried: a.req.login.tried, Status: a.status, Received: a.body.got, Sent: a.written, Took: took})
	}
}
