// Package registry speaks the registry protocol over a store of content.
//
// Each rule of the protocol stands once: names, logins, errors and limits in the seam around the handlers, promises
// and recency in internal/content below them. Of distribution it takes what manifests and errors look like.
package registry

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
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
	// OnAccess is called with each blob or manifest that was served or stored. It must not block.
	OnAccess func(d digest.Digest, size int64)
	// OnRequest is called after each request.
	OnRequest func(r *http.Request, e Exchange)
}

// Authenticate answers whether a user may use the registry. Client tells who asks: an address, or the network
// of one.
type Authenticate func(r *http.Request, client, user, password string) Login

// Login is what became of the login of a request, in a word for metrics and log.
type Login string

// What may become of it. A Challenged request brought none: clients ask first, to hear how. A Malformed one is no
// Basic login. Rejected is the answer of another program's check. An Abandoned one was not waited for.
const (
	LoggedIn      Login = "ok"
	Challenged    Login = "challenged"
	Malformed     Login = "malformed"
	UnknownUser   Login = "unknown_user"
	WrongPassword Login = "wrong_password"
	Rejected      Login = "rejected"
	Abandoned     Login = "abandoned"
)

// Logins are all that may become of a login.
var Logins = []Login{LoggedIn, Challenged, Malformed, UnknownUser, WrongPassword, Rejected, Abandoned}

// Failed says whether somebody was refused who gave a login.
func (l Login) Failed() bool {
	return l == Malformed || l == UnknownUser || l == WrongPassword || l == Rejected
}

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

// Exchange is what is worth telling about a request that was answered.
type Exchange struct {
	Route    string     // base, catalog, tags, manifest, blob, upload, other
	Client   netip.Addr // who asked; invalid when that has no address
	Login    Login      // empty where nobody needs one, and for what no route answers
	User     string     // who was let in
	Tried    string     // who was not
	Status   int
	Received int64 // bytes of the request's body that were read
	Sent     int64 // bytes of the answer's body
	Took     time.Duration
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

// Uploads counts the unfinished uploads: those in the hands of a request, and those that wait for a client who was
// there since.
func (r *Registry) Uploads(since time.Time) (active, waiting int) { return r.content.Uploads(since) }
