// Package registry speaks the registry protocol over a store of content.
//
// What is asked often, or what distribution's handlers cannot do, it answers itself: blobs, manifests,
// uploads, referrers, lists and deletes. The rest goes to distribution's handlers, of which it is the only
// importer, over a driver that shows them the tree: the base, and lists while the index is not whole. Each rule of the protocol stands
// once: names, logins, errors and limits in the seam around both, promises and recency in
// internal/content below both.
package registry

import (
	"context"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Options say what a registry serves.
type Options struct {
	Dir   layout.Dir
	Tree  *disk.Tree
	Index index.Store
	Log   *logrus.Logger

	// Resolution is how much older than the last use a row may be: the time for which leases stay in
	// memory. The sweeper's cutoffs leave room for it.
	Resolution time.Duration
	// Secret signs the state of uploads that clients carry around. It outlives restarts.
	Secret string
	// Authenticate is nil where everybody may use the registry.
	Authenticate Authenticate
	// Limits bound what one client can ask for.
	Limits Limits
	// OnAccess is called with each blob or manifest that was served or stored. It must not block.
	OnAccess func(d digest.Digest, size int64)
	// OnRequest is called after each request.
	OnRequest func(r *http.Request, e Exchange)
}

// Authenticate answers whether a user may use the registry. Client tells who asks, by address.
type Authenticate func(ctx context.Context, client, user, password string) bool

// Limits bound what one client can ask for.
type Limits struct {
	// Manifest is the largest manifest that is taken, in bytes, at most index.MaxManifest.
	Manifest int64
	// Uploads is how many unfinished uploads a client may have; 0: any number.
	Uploads int
	// Stall is how long a client may neither send nor take a byte of a body; 0: for ever.
	Stall time.Duration
	// Files is how many file descriptors all requests may have at a time, at least 6; 0: any number.
	Files int
}

// Exchange is what is worth telling about a request that was answered.
type Exchange struct {
	Route  string // base, catalog, tags, manifest, blob, upload, other
	User   string
	Status int
	Bytes  int64 // of the answer's body
	Took   time.Duration
}

// Registry is an http.Handler for /v2/.
type Registry struct {
	opts    Options
	content *content.Store
	app     *handlers.App
	uploads *uploads
	files   files
	room    *room
	parsing chan struct{} // holds one for each large manifest that is being parsed
	quiet
}

// New makes a registry. It starts nothing that Close does not end.
func New(ctx context.Context, opts Options) (*Registry, error) {
	r := &Registry{opts: opts, quiet: newQuiet(opts.Log), files: newFiles(opts.Limits.Files),
		room: newRoom(manifestRoom), parsing: make(chan struct{}, parsers)}
	r.content = content.New(content.Options{Dir: opts.Dir, Tree: opts.Tree, Index: opts.Index, Log: opts.Log, Resolution: opts.Resolution})
	r.uploads = newUploads(opts.Limits.Uploads, func(u upload) bool { return r.content.HasUpload(u.repo, u.id) })
	var err error
	r.app, err = newApp(r.context(ctx), newDriver(opts.Dir))
	return r, err
}

// Close ends what New started. Requests in flight are the caller's to wait for.
func (r *Registry) Close() error { return r.app.Shutdown() }
