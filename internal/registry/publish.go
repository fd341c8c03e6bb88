package registry

import (
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/event"
)

// publish tells the subscribers about a request, once its answer was sent.
func (r *Registry) publish(hr *http.Request, w *response, took time.Duration) {
	if r.opts.Publish == nil {
		return
	}
	req := &w.req
	e := event.Event{Kind: event.Answered, Repository: req.name, Request: event.Request{
		Method: hr.Method, Path: hr.URL.Path, Agent: first(hr.Header["User-Agent"]), Route: req.label(),
		Peer: hr.RemoteAddr, Client: req.client, Login: req.login.result, User: req.login.user, Tried: req.login.tried,
		Status: w.status, Received: w.body.got, Sent: w.written, Took: took}}
	done := req.accessed.digest != "" && w.status < http.StatusBadRequest
	switch {
	case req.pulls() && (done || w.status == http.StatusNotFound):
		e.Kind, e.Hit = event.Pull, done
	case done:
		e.Kind = event.Push
	}
	if e.Kind != event.Answered {
		e.Tag, e.Digest, e.Size = req.named()
		e.Manifest = req.accessed.manifest
	}
	r.opts.Publish(e)
}

// pulls says that a request asks for a blob or a manifest.
func (r *request) pulls() bool {
	return safe(r.method) && (r.kind == routeBlob || r.kind == routeManifest)
}

// named is the content that a request was about: as the client named it, if nothing was found.
func (r *request) named() (tag string, d digest.Digest, size int64) {
	d, size = r.accessed.digest, r.accessed.size
	switch {
	case r.kind != routeBlob && r.kind != routeManifest:
	case !isDigest(r.reference):
		tag = r.reference
	case d == "":
		d = digest.Digest(r.reference)
	}
	return tag, d, size
}
