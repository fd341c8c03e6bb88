package registry

import (
	"net/http"
	"runtime/debug"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// ServeHTTP implements http.Handler. After the answer it publishes the event, sends the answer to its end, and then
// gives back the memory of the answer: what is deferred runs from the last line up.
func (r *Registry) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	start := time.Now()
	// All that a request needs is in one piece of memory.
	a := &response{ResponseWriter: w, asked: hr, pace: pace{conn: *http.NewResponseController(w),
		patience: r.opts.Limits.Stall, stream: hr.ProtoMajor == 2}}
	req := &a.req
	req.read(r, hr, &a.pace)
	a.body = body{ReadCloser: hr.Body, pace: &a.pace, rest: hr.ContentLength}
	if hr.ContentLength != 0 {
		a.pace.receive()                  // also for what no handler reads, for which net/http waits after the answer
		hr = hr.WithContext(hr.Context()) // net/http looks at the type of the body in its own
		hr.Body = &a.body
	}
	defer req.shares.leaveMemory()
	defer a.end()
	defer func() { r.publish(hr, a, time.Since(start)) }()
	r.answer(a, hr, req)
}

// answer has the handler answer, or writes why it did not. It gives back what a request that only waits for its client
// does not need.
func (r *Registry) answer(a *response, hr *http.Request, req *request) {
	defer req.shares.release()
	defer a.endHandler()
	if err := r.serve(a, hr, req); err != nil {
		a.writeError(a.toProtocolError(err))
	}
}

// serve checks what is the same for all requests and calls the handler.
func (r *Registry) serve(w *response, hr *http.Request, req *request) error {
	methods := handlers[req.kind]
	handle, known := methods[req.method]
	if methods == nil {
		return errNotFound
	}
	if err := req.validateName(); err != nil {
		return err
	}
	if !known {
		for m := range methods {
			w.Header().Add("Allow", m)
		}
		return errcode.ErrorCodeUnsupported
	}
	if err := req.validateReference(); err != nil {
		return err
	}
	if !safe(req.method) && crossSite(hr) {
		return errCrossSite
	}
	if err := r.admit(w, hr, req); err != nil {
		return err
	}
	if req.kind != routeManifest || req.method != http.MethodPut { // which first waits for its body
		if err := req.shares.openFiles(hr.Context()); err != nil {
			return err
		}
	}
	return handle(r, w, hr, req)
}

// endHandler answers for a handler that wrote nothing, or that panicked. A handler hangs up by http.ErrAbortHandler.
func (w *response) endHandler() {
	p := recover()
	switch p {
	case nil:
		if w.status == 0 {
			w.WriteHeader(http.StatusOK)
		}
		return
	case http.ErrAbortHandler:
		w.cut = true
		panic(p)
	}
	w.req.errorf("a request failed inside the registry: %v\n%s", p, debug.Stack())
	if w.status != 0 {
		w.cut = true
		panic(http.ErrAbortHandler) // half an answer was sent
	}
	w.writeError(errcode.ErrorCodeUnknown)
}
