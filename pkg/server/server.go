// Package server embeds dcs, the registry that forgets, in another program.
//
//	srv, err := server.New(&server.Options{Config: config.DefaultConfig()})
//	if err != nil { ... }
//	go func() { <-ctx.Done(); srv.Shutdown(30 * time.Second) }()
//	err = srv.Start()
//
// A Server takes no signals, starts no global, touches neither logrus's standard logger nor the default
// metrics registry. After Shutdown it leaves no goroutine of its own; distribution's event broadcaster, of
// which each server has one idle goroutine, cannot be ended. Several servers may run in one process, each
// on a data directory of its own. All methods may be called concurrently.
package server

import (
	"errors"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// Options say what to serve.
type Options struct {
	// Config is what to serve, and how. Required; start from config.DefaultConfig. Debug.Address is
	// not opened: that is the program's own business.
	Config *config.Config

	// Logger gets everything that the server has to say. Nil: a new logger, to standard error.
	Logger *logrus.Logger

	// AuthValidator replaces all configured users, whatever Config.Auth says. Its answers are not
	// cached, and it may be called concurrently.
	AuthValidator func(username, password string) bool

	// OnBlobAccess is called for each blob served (GET, HEAD) or stored (upload, mount), manifests
	// included, with its size in bytes. Calls come one after another from a goroutine of the server, in
	// the order of events, after the answer was sent; no request waits for them. Shutdown waits until
	// all were made.
	OnBlobAccess func(digest string, size int64)

	// OnBlobDelete is called for each blob file that the server's own expiry removed, in the manner of
	// OnBlobAccess. What a `dcs gc` in another process removes is not told.
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

// New opens the data directory, and begins to keep and expire what is in it. It does not listen.
func New(opts *Options) (*Server, error) {
	if opts == nil || opts.Config == nil {
		return nil, errors.New("server.New: Options.Config is required; config.DefaultConfig() is a start")
	}
	log := opts.Logger
	if log == nil {
		log = logrus.New()
	}
	s, err := serve.New(serve.Options{Config: opts.Config, Log: log, Authenticate: opts.AuthValidator,
		OnBlobAccess: opts.OnBlobAccess, OnBlobDelete: opts.OnBlobDelete})
	if err != nil {
		return nil, err
	}
	return &Server{s}, nil
}

// Start listens where the configuration says and serves until Shutdown, which makes it return nil.
func (s *Server) Start() error { return s.s.Start() }

// ServeHTTP implements http.Handler, for programs that own their listener: it answers what is below /v2/.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.s.Handler().ServeHTTP(w, r) }

// Shutdown lets transfers in flight go on for the timeout, cuts what is left, and gives the data directory
// back. A program that owns its listener closes that first. Later calls wait for the first.
func (s *Server) Shutdown(timeout time.Duration) error { return s.s.Shutdown(timeout) }

// Config returns the configuration that the server was made with. It must not be changed.
func (s *Server) Config() *config.Config { return s.s.Config() }

// Stats returns what is stored now, from counters: it costs nothing.
func (s *Server) Stats() (Stats, error) {
	t, err := s.s.Stats()
	return Stats(t), err
}
