package registry

import (
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// handler answers a request, or returns why it cannot.
type handler func(r *Registry, w *response, hr *http.Request, req *request) error

// operations are what the registry does: a method of a route, and its handler. What a user must be allowed to do for it
// can be another column.
var operations = []struct {
	route, method string
	handler       handler
}{
	{routeRoot, "GET", (*Registry).getRoot},
	{routeRoot, "HEAD", (*Registry).getRoot},
	{routeBase, "GET", (*Registry).getBase},
	{routeBase, "HEAD", (*Registry).getBase},
	{routeCatalog, "GET", (*Registry).getCatalog},
	{routeCatalog, "HEAD", (*Registry).getCatalog},
	{routeTags, "GET", (*Registry).getTags},
	{routeTags, "HEAD", (*Registry).getTags},
	{routeReferrer, "GET", (*Registry).getReferrers},
	{routeReferrer, "HEAD", (*Registry).getReferrers},
	{routeBlob, "GET", (*Registry).getBlob},
	{routeBlob, "HEAD", (*Registry).getBlob},
	{routeBlob, "DELETE", (*Registry).deleteBlob},
	{routeManifest, "GET", (*Registry).getManifest},
	{routeManifest, "HEAD", (*Registry).getManifest},
	{routeManifest, "PUT", (*Registry).putManifest},
	{routeManifest, "DELETE", (*Registry).deleteManifest},
	{routeUploads, "POST", (*Registry).postUpload},
	{routeUpload, "GET", (*Registry).getUpload},
	{routeUpload, "HEAD", (*Registry).getUpload},
	{routeUpload, "PATCH", (*Registry).patchUpload},
	{routeUpload, "PUT", (*Registry).putUpload},
	{routeUpload, "DELETE", (*Registry).deleteUpload},
}

// handlers are the operations by route and method.
var handlers = byRoute()

func byRoute() map[string]map[string]handler {
	all := map[string]map[string]handler{}
	for _, o := range operations {
		if all[o.route] == nil {
			all[o.route] = map[string]handler{}
		}
		all[o.route][o.method] = o.handler
	}
	return all
}

// getRoot answers people who look, and balancers that probe.
func (*Registry) getRoot(w *response, _ *http.Request, _ *request) error {
	const text = "This is dcs, a registry of container images. Its API is at /v2/.\n"
	return w.whole("text/plain; charset=utf-8", []byte(text))
}

// getBase says that this is a registry.
func (*Registry) getBase(w *response, _ *http.Request, _ *request) error {
	return w.whole("application/json", []byte("{}"))
}

// route is what a path asks for.
type route struct {
	kind      string
	name      string // of a repository
	reference string // tag or digest; upload id
}

// The kinds of routes.
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

// label is the kind as metrics have it: an upload that begins is an upload there.
func (r route) label() string {
	switch r.kind {
	case routeUploads:
		return routeUpload
	case routeRoot:
		return routeOther
	}
	return r.kind
}

// parseRoute reads a path from its end, since a repository may have words of the API in its name.
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
	name, last := cutLast(rest)
	name, kind := cutLast(name)
	above, beside := cutLast(name)
	switch {
	case above != "" && beside == "blobs" && kind == "uploads" && last == "":
		return route{kind: routeUploads, name: above}
	case above != "" && beside == "blobs" && kind == "uploads":
		return route{kind: routeUpload, name: above, reference: last}
	case kind == "blobs" && last == "uploads" && name != "":
		return route{kind: routeUploads, name: name}
	case kind == "tags" && last == "list" && name != "":
		return route{kind: routeTags, name: name}
	}
	if named := byReference[kind]; named != "" && name != "" {
		return route{kind: named, name: name, reference: last}
	}
	return route{kind: routeOther}
}

// byReference are the routes whose last word is a tag or a digest.
var byReference = map[string]string{"manifests": routeManifest, "blobs": routeBlob, "referrers": routeReferrer}

// cutLast cuts a path before its last word.
func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// validateName refuses a name that no repository can have.
func (r route) validateName() error {
	if r.name != "" && !layout.ValidName(r.name) {
		return errcode.ErrorCodeNameInvalid.WithDetail(r.name)
	}
	return nil
}

// validateReference refuses a reference that no blob or manifest can have.
func (r route) validateReference() error {
	switch {
	case r.kind != routeManifest && r.kind != routeBlob && r.kind != routeReferrer:
		return nil
	case isDigest(r.reference):
		_, err := parseDigest(r.reference)
		return err
	case r.kind != routeManifest:
		return errNotFound
	case !layout.ValidTag(r.reference):
		return errcode.ErrorCodeTagInvalid.WithDetail(r.reference)
	}
	return nil
}

// isDigest tells a digest from a tag, which has no colon.
func isDigest(reference string) bool { return strings.Contains(reference, ":") }
