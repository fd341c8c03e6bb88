// Package serve runs a registry, as a process or inside of one. It opens the store, listens, keeps the index whole,
// runs gc, measures, and ends without cutting a transfer short.
//
// Everything that New and Start begin ends with Shutdown. The package takes no signals and changes nothing global.
// Each part of a Server has one job, and a file for it: logins, requestLog, keeper, cleaner, calls, outlook,
// callbacks, pulls, sampling, flights, front; lifecycle.go has the order in which they end.
package serve

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/content/files"
	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/metrics"
	"github.com/jc-lab/docker-cache-server/internal/registry"
	"github.com/jc-lab/docker-cache-server/internal/room"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/internal/usage"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// Options say what to serve, and whom to tell about it.
type Options struct {
	Config *config.Config
	Log    *logrus.Logger
	// Debug opens debug.address. A library leaves it off.
	Debug bool
	// Listen lets New listen, in place of Start, so that a server that cannot listen does nothing else either.
	Listen bool
	// Authenticate replaces all configured users. It is asked once by each request that brings a name and a
	// password. Nil: those of the configuration and the htpasswd file.
	Authenticate func(r *http.Request, user, password string) bool
	// OnBlobAccess is called once for each blob or manifest that a request served or stored, OnBlobDelete once for
	// each file of a blob that gc removed. The calls are made one after another, in a goroutine of their own: they
	// may take their time, and may call any method. Nil: no call.
	OnBlobAccess func(digest string, size int64)
	OnBlobDelete func(digest string)
	// OnReady is called once, when everything that Start listens on accepts connections. Nil: no call.
	OnReady func()
	// OnGate is called with false when a rebuild begins, and with true when it has opened the gate. Nil: no call.
	OnGate func(open bool)
	// Now is the wall clock. Nil: time.Now.
	Now func() time.Time
}

// Server is a registry with its store.
type Server struct {
	opts   Options
	log    *logrus.Logger
	config atomic.Pointer[config.Config] // replaced by Reload
	reach  reach

	store      *store.Served
	room       *room.Room
	usage      *usage.Usage
	logins     *logins
	content    *files.Store
	registry   *registry.Registry
	flights    *flights
	handler    http.Handler // the registry behind flights
	front      *front
	listeners  []bound // opened by New; nil: Start opens them
	requestLog *requestLog
	callbacks  *callbacks
	metrics    *metrics.Metrics
	sampling   *sampling // nil: it is off
	pulls      *pulls
	outlook    *outlook

	life    *lifecycle
	tasks   *tasks
	calls   *calls
	keeper  *keeper
	cleaner *cleaner
}

// ErrLocked and ErrIncomplete are what callers of the library can tell apart, though they cannot name the types.
var (
	ErrLocked     = tree.ErrLocked
	ErrIncomplete = index.ErrGateClosed
)

// New opens the store and begins to keep it: rebuild, heartbeat, gc. It listens only where Options.Listen is set.
func New(opts Options) (_ *Server, err error) {
	cfg := opts.Config
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := tree.At(cfg.Storage.Directory)
	if err != nil {
		return nil, err
	}
	s := &Server{opts: opts, log: opts.Log, reach: reachFrom(dir), life: newLifecycle(), tasks: newTasks()}
	s.config.Store(cfg)
	defer func() {
		if err != nil {
			s.tasks.cancel()
		}
	}()
	if s.logins, err = newLogins(opts, s.reach); err != nil {
		return nil, err
	}
	certificate, err := newCertificate(cfg.Server.TLS, s.reach)
	if err != nil {
		return nil, err
	}
	if s.store, err = s.open(dir); err != nil {
		return nil, err
	}
	s.room = room.New(s.used, patience(cfg))
	s.room.SetBudget(s.budget(cfg))
	met := tree.NewMet(s.store.Dir)
	if s.content, err = s.openContent(met); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	s.usage = usage.Of(s.store.Dir, s.store.Tree, s.store.Index, usage.Walked(s.store.Dir), s.content.Unfinished)
	s.wire(certificate, met)
	if opts.Listen {
		if s.listeners, err = s.front.listen(); err != nil {
			return nil, errors.Join(err, s.content.Close(), s.store.Close())
		}
	}
	s.begin()
	return s, nil
}

// open opens the store, and tells the operator which policy does not count as configured.
func (s *Server) open(dir tree.Dir) (*store.Served, error) {
	policy := s.policy()
	if why := store.ShortTTL(policy); why != "" {
		s.log.Warn(why)
	}
	st, err := store.Opener{Dir: dir, Log: s.log, Now: s.opts.Now}.Serve(s.tasks.ctx, policy)
	if err != nil {
		return nil, err
	}
	if _, owed, _, err := st.Index.Promised(s.tasks.ctx); err == nil && owed.Grace > policy.Grace {
		grace := config.FormatDuration(owed.Grace)
		s.log.WithField("owed", grace).
			Infof("the previous grace period (%s) still applies; nothing is removed earlier", grace)
	}
	return st, nil
}

// openContent opens what clients push and pull, with what an earlier server left half done.
func (s *Server) openContent(met *tree.Met) (*files.Store, error) {
	c, err := files.New(files.Options{Tree: s.store.Tree, Index: s.store.Index, Log: s.log, Met: met,
		Room: s.room, Resolution: s.policy().Resolution, Linger: files.Linger})
	if err != nil {
		return nil, err
	}
	if err := c.Start(s.tasks.ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// wire makes the parts of a server whose store is open. It starts nothing.
func (s *Server) wire(certificate *certificate, met *tree.Met) {
	cfg := s.Config()
	connections, requestFiles := descriptors()
	s.calls = &calls{ctx: s.tasks.ctx}
	s.flights = newFlights()
	s.outlook = &outlook{look: s.sum, calls: s.calls, patience: time.Second}
	s.callbacks = newCallbacks(observing(s.opts), s.log, maxCalls)
	s.requestLog = &requestLog{log: s.log, config: s.Config}
	s.metrics = metrics.New(metrics.Sources{
		Policy: s.policy, InFlight: s.flights.count, Registry: s.registryStats, Space: s.store.Tree.Space,
		Room: s.room.Stats, Used: s.used,
		Totals: s.Stats, Outlook: s.outlook.last, Ended: s.life.ending.Load,
	}, buildOf())
	s.pulls = &pulls{index: s.store.Index, log: s.log}
	events := event.Stream{s.metrics.Observe, s.pulls.observe, s.requestLog.observe, s.callbacks.subscriber(s.opts)}
	if memory := cfg.Cache.WhatIfMemory; memory > 0 {
		s.sampling = newSampling(s.store.Tree, memory, s.opts.Now, s.log)
		events = append(events, s.sampling.observe)
	}
	s.keeper = &keeper{store: s.store, met: met, log: s.log, config: s.Config, tasks: s.tasks, onGate: s.opts.OnGate}
	s.cleaner = newCleaner(gc.Collector{Files: gc.LocalFiles(s.store.Dir, s.store.Tree), Index: s.store.Index,
		Log: s.log, Usage: s.usage, Space: s.store.Dir.Space, Coming: s.room.Coming}, s.room, events)
	s.registry = registry.New(registry.Options{
		Content: s.content, Log: s.log, Secret: s.store.Secret, Authenticate: s.logins.check(),
		Proxies: cfg.Server.Proxies(),
		Limits: registry.Limits{Manifest: cfg.Limits.ManifestSize, Uploads: cfg.Limits.UploadsPerClient,
			Stall: cfg.Limits.StallTimeout, Files: requestFiles},
		Publish: events.Publish,
	})
	s.handler = s.flights.admit(s.registry)
	s.front = newFront(s.opts, certificate, connections, s.handler, s.debugHandler())
}

// registryStats counts what clients are doing. An upload is waited for as long as a promise holds.
func (s *Server) registryStats() registry.Stats {
	return s.registry.Stats(time.Now().Add(-s.policy().Grace))
}

// begin starts what runs beside the requests.
func (s *Server) begin() {
	go s.callbacks.deliver() // awaited by finish
	s.tasks.begin(s.keeper.rebuild)
	s.tasks.begin(func(ctx context.Context) { every(ctx, index.BeatInterval, s.beat) })
	if s.sampling != nil {
		s.tasks.begin(func(ctx context.Context) { every(ctx, samplingInterval, s.sampling.saveChanges) })
	}
	s.tasks.begin(func(ctx context.Context) { every(ctx, pullsInterval, s.writePulls) })
	first := schedule(s.Config())
	s.tasks.begin(func(ctx context.Context) { s.cleaner.clean(ctx, first) })
}

// beat does the checks that are repeated while the server runs.
func (s *Server) beat(ctx context.Context) {
	s.keeper.watch(ctx)
	s.resize()
	s.logins.watch()
	s.requestLog.summarize(time.Now())
}

// Collector has the metrics of this server.
func (s *Server) Collector() prometheus.Collector { return s.metrics.Registry() }

// Handler answers requests below /v2/, for those who own their listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Config returns the configuration, with what Reload took over. It must not be changed.
func (s *Server) Config() *config.Config { return s.config.Load() }

func (s *Server) policy() index.Policy { return store.PolicyOf(s.Config()) }
