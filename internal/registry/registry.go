// Package registry speaks the registry protocol over a store of content.
//
// Each rule of the protocol stands once: names, logins, errors and limits in the seam around the handlers, promises
// and recency in internal/content below them. Of distribution it takes what manifests and errors look like.
package registry

import (
	"net/http"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/event"
)

// Options say what a registry serves.
type Options struct {
	Content Content
	Log     *logrus.Logger

	// Secret signs the state of uploads that clients carry around. It outlives restarts.
	Secret string
	// Authenticate is nil where everybody may use the registry.
	Authenticate Authenticate
	// Proxies are those that are believed for whom they ask. None: every peer is a client.
	Proxies Proxies
	// Limits bound what one client can ask for.
	Limits Limits
	// Publish is called with one event for each request, after its answer. Nil: no call.
	Publish func(event.Event)
}

// Authenticate answers whether a user may use the registry. client is what counts as one client: see NetworkOf.
type Authenticate func(r *http.Request, client, user, password string) event.Login

// Limits bound what one client can ask for.
type Limits struct {
	// Manifest is the largest manifest that is taken, in bytes, at most manifest.MaxManifest.
	Manifest int64
	// Uploads is how many unfinished uploads a client may have; 0: any number.
	Uploads int
	// Stall is how long a client may neither send nor take a byte of a body; 0: for ever.
	Stall time.Duration
	// Files is how many file descriptors all requests may have at a time, at least 6; 0: any number.
	Files int
}

// Registry is an http.Handler for /v2/.
type Registry struct {
	opts    Options
	content Content
	uploads *uploads
	files   files
	room    *room
	parsing chan struct{} // holds one for each large manifest that is being parsed
	listing lane          // for the long lists that are being made
}

// New makes a registry. It starts nothing.
func New(opts Options) *Registry {
	r := &Registry{opts: opts, content: opts.Content, files: newFiles(opts.Limits.Files), room: newRoom(manifestRoom), parsing: make(chan struct{}, parsers), listing: make(lane, listers)}
	r.uploads = newUploads(opts.Limits.Uploads, func(u upload) bool { return r.content.HasUpload(u.repo, u.id) })
	return r
}

// Stats are what a registry counts.
type Stats struct {
	Active, Waiting int // unfinished uploads: those to which a request sends, and those that wait for their client
}

// Stats counts now. An upload to which nothing was sent since then is not waited for.
func (r *Registry) Stats(since time.Time) (s Stats) {
	s.Active, s.Waiting = r.content.Uploads(since)
	return s
}
