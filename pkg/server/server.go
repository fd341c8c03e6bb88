// Package server embeds dcs, the registry that forgets, in another program.
//
//	srv, err := server.New(&server.Options{Config: config.DefaultConfig()})
//	if err != nil { ... }
//	go func() { <-ctx.Done(); srv.Shutdown(30 * time.Second) }()
//	err = srv.Start() // nil after Shutdown, ErrClosed when that came first
//
// A Server takes no signals, changes nothing global, and uses neither logrus's standard logger nor the default metrics
// registry. After Shutdown it leaves no goroutine. Several servers may run in one process, each on a data directory of
// its own. All methods may be called concurrently, and by observers.
//
// docs/embedding.md has the details, with whole programs.
package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// The errors of this package, for errors.Is. A configuration that dcs cannot honour is a *config.Error.
var (
	// ErrLocked: another server holds the data directory, in this process or in another one.
	ErrLocked = serve.ErrLocked
	// ErrNoUsers: a login is required, and there is no user who could log in.
	ErrNoUsers = serve.ErrNoUsers
	// ErrIncomplete, of Expire: the index is being compared with the disk, and until then it is not known what is
	// needed.
	ErrIncomplete = serve.ErrIncomplete
	// ErrClosed: the server was shut down before. It is an http.ErrServerClosed, too.
	ErrClosed = serve.ErrClosed
)

// Options say what to serve.
type Options struct {
	// Config is what to serve, and how. Required; start from config.DefaultConfig. The server takes a copy. It does not
	// open Debug.Address: that is for the program to do.
	Config *config.Config

	// Logger gets every line that the server writes. Nil: a new logger, to standard error. Of Config.Log only Access
	// counts, which says whether there is a line for each request; the level is that of the logger.
	Logger *logrus.Logger

	// AuthValidator replaces all configured users, whatever Config.Auth says. It is called once for each request that
	// brings a login, by the request's goroutine, so concurrently. Its answers are not cached. If it panics, that
	// request fails.
	AuthValidator func(username, password string) bool

	// AuthorizeRequest is called in place of AuthValidator if it is set, in the same way, and sees the request:
	// method and path say what is to be done to which repository. It must neither change the request nor read its
	// body. After false the request is answered with 401.
	AuthorizeRequest func(r *http.Request, username, password string) bool

	// OnBlobAccess is called once for each blob that a request served (GET, HEAD) or stored (upload, mount),
	// manifests included, with the size in bytes of the whole. It is not called for a request that was refused or
	// found nothing.
	//
	// No request waits for it. One goroutine makes all calls, those of OnBlobDelete included, one after another in
	// the order of events: an observer needs no lock against itself, and a slow one delays only other calls. It may
	// use the server, and may call Shutdown. If it panics, that is logged, and the next call is made. When 1,048,576
	// events wait, events are dropped, which is logged too.
	OnBlobAccess func(digest string, size int64)

	// OnBlobDelete is called once for each blob file that the server's own expiry removed, in the manner
	// of OnBlobAccess. A client's DELETE removes names, and a later run removes their blobs. It is not called for blobs
	// that `dcs gc` in another process removes.
	OnBlobDelete func(digest string)
}

// Server is a registry on a data directory, which it holds from New to Shutdown.
type Server struct{ s *serve.Server }

// Stats counts what is stored.
type Stats struct {
	Tags      int64
	Manifests int64
	Blobs     int64 // files, manifests included
	Bytes     int64 // of all blobs
}

// New opens the data directory, and begins to keep its index and to remove unused images. It does not listen. After an
// error there is nothing to shut down.
func New(opts *Options) (*Server, error) {
	if opts == nil || opts.Config == nil {
		return nil, errors.New("server.New: Options.Config is required; config.DefaultConfig() is a start")
	}
	log := opts.Logger
	if log == nil {
		log = logrus.New()
	}
	s, err := serve.New(serve.Options{Config: clone(opts.Config), Log: log, Authenticate: opts.authenticate(),
		OnBlobAccess: opts.OnBlobAccess, OnBlobDelete: opts.OnBlobDelete})
	if err != nil {
		return nil, err
	}
	return &Server{s}, nil
}

// authenticate is the function that decides about logins; nil: the configuration does.
func (o *Options) authenticate() func(r *http.Request, username, password string) bool {
	ask := o.AuthValidator
	switch {
	case o.AuthorizeRequest != nil:
		return o.AuthorizeRequest
	case ask != nil:
		return func(_ *http.Request, username, password string) bool { return ask(username, password) }
	}
	return nil
}

// clone is for programs that change their configuration later, for a second server.
func clone(cfg *config.Config) *config.Config {
	c := *cfg
	c.Server.TrustedProxies = slices.Clone(cfg.Server.TrustedProxies)
	c.Auth.Users, c.Cache.Rules = slices.Clone(cfg.Auth.Users), slices.Clone(cfg.Cache.Rules)
	for i := range c.Cache.Rules {
		r := &c.Cache.Rules[i]
		r.Keep, r.TTL, r.UntaggedTTL = copied(r.Keep), copied(r.TTL), copied(r.UntaggedTTL)
		r.KeepLast, r.MaxSize = copied(r.KeepLast), copied(r.MaxSize)
	}
	if c.Cache.MinFree = copied(cfg.Cache.MinFree); c.Cache.MinFree == nil {
		c.Cache.MinFree = &config.Size{} // what the disk holds besides is the program's
	}
	return &c
}

// copied returns a pointer to a copy of a value, or nil.
func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// Start listens where the configuration says and serves until Shutdown is done; then it returns nil. It may be called
// once, and again after it could not listen. A server that cannot listen still holds its data directory: call Shutdown.
// ErrClosed: Shutdown was called before Start.
func (s *Server) Start() error { return s.s.Start() }

// Addr returns where Start listens, with the port that it got where the configuration says 0; nil before that. Of
// several addresses, such as those of localhost, it is the first; all have the same port.
func (s *Server) Addr() net.Addr { return s.s.Addr() }

// ServeHTTP implements http.Handler, for programs that own their listener: it answers what is below /v2/.
// After Shutdown it answers 503.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.s.Handler().ServeHTTP(w, r) }

// Shutdown lets running requests go on for the timeout and then cuts them, waits until all calls of observers were
// made, and gives the data directory back. If an observer or a request does not return, it gives up a second or two
// after the timeout, with an error; calls that were not made by then are never made.
//
// It is needed after each New that succeeded. A program that owns its listener closes that first, since the server
// cannot cut its connections. Later calls wait for the first, and return the same. A call by an observer does not
// wait, since the end waits for the observer.
func (s *Server) Shutdown(timeout time.Duration) error { return s.s.Shutdown(timeout) }

// ShutdownContext is Shutdown that cuts requests when ctx ends, in place of a timeout. If ctx never ends, it waits
// for all requests.
func (s *Server) ShutdownContext(ctx context.Context) error { return s.s.ShutdownContext(ctx) }

// Config returns the configuration that the server was made with. It must not be changed.
func (s *Server) Config() *config.Config { return s.s.Config() }

// Stats returns what is stored now, from counters: it costs nothing. After Shutdown it is an error.
func (s *Server) Stats() (Stats, error) {
	t, err := s.s.Stats()
	return Stats(t), err
}

// Collector returns the metrics of this server, those of docs/operations.md, for a registry of the program. Nothing
// is registered by itself. Two servers have the same names: prometheus.WrapRegistererWith tells them apart by a label.
// It may be called, and the collector may be used, at any time.
func (s *Server) Collector() prometheus.Collector { return s.s.Collector() }
