// Package registry speaks the registry protocol over a store of content: HTTP on one side, Content on the other.
//
// Each rule of the protocol is in one place. What is the same for all requests is in serve.go and around it: the
// table of operations (routes.go), logins (auth.go), errors (errors.go), what requests share (shares.go, memory.go,
// quota.go), the patience with a client (pace.go). A handler reads a request, asks the store once, and answers.
// Promises and recency are the store's. From distribution come manifests, their validation, and error codes.
package registry

import (
	"net/http"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/event"
)

// Options say what a registry serves, and to whom.
type Options struct {
	Content Content
	Log     *logrus.Logger

	// Secret signs the state of uploads that clients carry around. It outlives restarts.
	Secret string
	// Authenticate checks logins. Nil: no login is needed.
	Authenticate Authenticate
	// Proxies may name the client for which they ask. None: every peer is a client.
	Proxies Proxies
	// Limits bound what one client can ask for.
	Limits Limits
	// Publish is called with one event for each request, after its answer. Nil: no call.
	Publish func(event.Event)
}

// Authenticate answers whether a user may use the registry. client is what counts as one client: see NetworkOf. holds
// says at any later time whether the same user and password would be let in again; nil: they have to be asked about
// again.
type Authenticate func(r *http.Request, client, user, password string) (result event.Login, holds func() bool)

// Limits bound what one client can ask for.
type Limits struct {
	// Manifest is the largest manifest that is taken, in bytes, at most manifest.MaxManifest.
	Manifest int64
	// Uploads is how many unfinished uploads a client may have; 0: any number.
	Uploads int
	// Stall is how long a client may neither send nor take a byte of a body; 0: for any time.
	Stall time.Duration
	// Files is how many file descriptors all requests may have at a time, at least 6; 0: any number.
	Files int
}

// Registry is an http.Handler for /v2/.
type Registry struct {
	opts    Options
	content Content
	uploads *uploads
	shared  shared
	parsing slots // large manifests that are being parsed
	key     key
}

// New makes a registry. It starts nothing.
func New(opts Options) *Registry {
	r := &Registry{opts: opts, content: opts.Content, parsing: make(slots, parsers), key: newKey(),
		shared: shared{files: newFiles(opts.Limits.Files), memory: newMemory(manifestMemory),
			listing: make(slots, listers)}}
	r.uploads = newUploads(opts.Limits.Uploads, func(u upload) bool { return r.content.HasUpload(u.repo, u.id) })
	return r
}

// Stats are what a registry counts.
type Stats struct {
	Active, Waiting int // unfinished uploads: those to which a request sends, and those that wait for their client
	Leases          content.Leases
}

// Stats counts now. An upload to which nothing was sent since then is not waited for.
func (r *Registry) Stats(since time.Time) (s Stats) {
	s.Active, s.Waiting = r.content.Uploads(since)
	s.Leases = r.content.Leases()
	return s
}
