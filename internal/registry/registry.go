// Package registry serves the registry protocol with distribution's handlers, over a storage driver
// that keeps the index in step with what is served and stored.
//
// It is the only importer of distribution's handlers. Three things are its own: the LRU driver (claim
// before a write, lease before a look), the access controller, and the seam around the handlers, where a
// request's errors are told in the words of the protocol. Nothing in it deletes content: a client's
// DELETE removes names.
package registry

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/auth"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

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
	driver  *driver
	app     *handlers.App
	uploads *uploads
	quiet
}

// maxEntries is what one page of the catalog or of a tag list holds at most: distribution's default.
const maxEntries = 1000

// New makes a registry. It starts nothing that Close does not end.
func New(ctx context.Context, opts Options) (*Registry, error) {
	registerOnce()
	r := &Registry{opts: opts, driver: newDriver(opts), quiet: newQuiet(opts.Log)}
	r.uploads = newUploads(opts.Limits.Uploads, r.driver.hasUpload)
	cfg := &configuration.Configuration{
		Storage: configuration.Storage{
			driverName: configuration.Parameters{"driver": r.driver},
			"delete":   configuration.Parameters{"enabled": true},
			"redirect": configuration.Parameters{"disable": true},
			// dcs clears uploads itself: distribution's purger never finds cancelled ones.
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
	}
	cfg.HTTP.Secret = opts.Secret
	cfg.Catalog.MaxEntries = maxEntries
	cfg.Tags.MaxTags = maxEntries
	// Layers may live elsewhere, and an index may list layers (BuildKit's caches do): what an index
	// needs is checked where its link is placed.
	cfg.Validation.Manifests.URLs.Allow = []string{".*"}
	cfg.Validation.Manifests.Indexes.Platforms = "none"
	if opts.Authenticate != nil {
		cfg.Auth = configuration.Auth{driverName: configuration.Parameters{"authenticate": opts.Authenticate}}
	}
	var err error
	r.app, err = newApp(r.context(ctx), cfg)
	return r, err
}

// newApp turns the panics by which distribution reports a bad configuration into an error.
func newApp(ctx context.Context, cfg *configuration.Configuration) (app *handlers.App, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("start distribution's handlers: %v", p)
		}
	}()
	return handlers.NewApp(ctx, cfg), nil
}

// Close ends what New started. Requests in flight are the caller's to wait for.
func (r *Registry) Close() error { return r.app.Shutdown() }

// driverName is under which distribution finds our driver and our access controller.
const driverName = "dcs"

// registerOnce enters distribution's global tables, which panic on a second entry of a name. What is
// entered carries no state: a server's own parts come in with its parameters.
var registerOnce = sync.OnceFunc(func() {
	factory.Register(driverName, fromParameters{})
	if err := auth.Register(driverName, newAccessController); err != nil {
		panic(err) // only when somebody else took the name
	}
})

type fromParameters struct{}

// Create implements factory.StorageDriverFactory.
func (fromParameters) Create(_ context.Context, parameters map[string]any) (storagedriver.StorageDriver, error) {
	d, ok := parameters["driver"].(*driver)
	if !ok {
		return nil, fmt.Errorf("storage driver %s needs its driver as a parameter", driverName)
	}
	return d, nil
}
