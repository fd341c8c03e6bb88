// Package serve runs a registry as a process or inside one: it opens the store, listens, keeps the index
// whole, expires, measures, and stops without cutting a transfer short.
//
// Everything that it starts ends with Shutdown. It takes no signals and touches nothing global.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/content/files"
	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/registry"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// Options say what to serve, and who wants to know.
type Options struct {
	Config *config.Config
	Log    *logrus.Logger
	// Debug opens debug.address. A library leaves it off.
	Debug bool
	// Listen lets New listen, in place of Start: a server that cannot does nothing else, either.
	Listen bool
	// Authenticate replaces all configured users. It is asked once by each request that brings a name and a
	// password. Nil: those of the configuration and the htpasswd file.
	Authenticate func(r *http.Request, user, password string) bool
	// OnBlobAccess and OnBlobDelete are called once an event, one after another, in a goroutine of
	// their own: they may take their time, and call any method. Nil: nobody wants to know.
	OnBlobAccess func(digest string, size int64)
	OnBlobDelete func(digest string)
	// OnReady is called once, when everything that Start listens on accepts. Nil: nobody wants to know.
	OnReady func()
	// OnGate is called with false when the index begins to be compared with the disk, and with true once
	// that is done and things may expire. Nil: nobody wants to know.
	OnGate func(open bool)
	// Now is the wall clock. Nil: time.Now.
	Now func() time.Time
}

// Server is a registry with its store.
type Server struct {
	opts        Options
	cfg         *config.Config                // of the start
	live        atomic.Pointer[config.Config] // what of it was read again since
	log         *logrus.Logger
	store       *store
	registry    *registry.Registry
	met         *tree.Met
	metrics     *metrics
	events      *events
	flights     *flights
	door        *door
	failures    failures
	calls       calls
	outlook     outlook
	users       atomic.Pointer[users.Verifier] // nil: somebody else says who may log in
	handler     http.Handler
	reach       reach
	certificate *certificate // nil: plain HTTP
	verify      atomic.Pointer[registry.Authenticate]
	schedule    chan gc.Schedule // of the sweeper; holds the newest
	main        *http.Server
	debug       *http.Server
	listeners   []bound                  // of New
	addr        atomic.Pointer[net.Addr] // of the registry's first listener

	background sync.WaitGroup // everything that cancel ends
	cancel     context.CancelFunc
	starting   atomic.Bool   // Start listens, or has listened
	ending     atomic.Bool   // Shutdown was called
	stopping   chan struct{} // closed when Shutdown begins
	stopped    chan struct{} // closed when Shutdown is done
	failure    error         // of Shutdown; read once stopped is closed
	rebuilding sync.Mutex    // held by the one comparison of the index with the disk at a time
	rebuilt    time.Time     // when watch began the last one; only watch uses it
	unread     []tree.Unread // what the last comparison could not read; guarded by rebuilding
}

// ErrLocked, ErrNoUsers and ErrIncomplete are what callers of the library can tell apart, whose types they cannot name.
var (
	ErrLocked     = tree.ErrLocked
	ErrIncomplete = index.ErrGateClosed
	ErrNoUsers    = errors.New("there is no user who could log in")
)

// NoUsersError says that nobody could log in.
type NoUsersError struct {
	Htpasswd string
	Unusable []string
}

func (e *NoUsersError) Error() string {
	s := "authentication is on and there is no user who could log in"
	if len(e.Unusable) > 0 {
		s += fmt.Sprintf(" (%d in %s without a bcrypt hash)", len(e.Unusable), e.Htpasswd)
	}
	return s
}

// Is makes every NoUsersError an ErrNoUsers.
func (e *NoUsersError) Is(target error) bool { return target == ErrNoUsers }

// Hint says what the operator can do.
func (e *NoUsersError) Hint() string {
	return fmt.Sprintf("add one (dcs users add NAME --auth.htpasswd %s), or serve without login: --auth.enabled=false", e.Htpasswd)
}

// New opens the store and begins to keep it: rebuild, heartbeat, expiry. It listens only where Options.Listen is set.
func New(opts Options) (_ *Server, err error) {
	if err := opts.Config.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{opts: opts, cfg: opts.Config, log: opts.Log, cancel: cancel, schedule: make(chan gc.Schedule, 1),
		stopping: make(chan struct{}), stopped: make(chan struct{})}
	s.live.Store(s.cfg)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	dir, err := tree.At(s.cfg.Storage.Directory)
	if err != nil {
		return nil, err
	}
	s.reach = reachFrom(dir)
	authenticate, err := s.authenticator(s.cfg)
	if err != nil {
		return nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if s.certificate, err = newCertificate(s.cfg.Server.TLS, s.reach); err != nil {
		return nil, err
	}
	policy := s.policy()
	if why := gc.ShortTTL(policy); why != "" {
		s.log.Warn(why)
	}
	if s.store, err = openStore(ctx, dir, policy, opts.Now, s.log); err != nil {
		return nil, err
	}
	if _, owed, _, err := s.store.index.Promised(ctx); err == nil && owed.Grace > policy.Grace {
		s.log.WithField("owed", config.FormatDuration(owed.Grace)).Infof("the previous grace period (%s) still applies; nothing is removed earlier", config.FormatDuration(owed.Grace))
	}
	s.metrics = newMetrics()
	s.met = tree.NewMet(dir)
	s.calls.ctx = ctx
	s.outlook = outlook{look: s.sum, calls: &s.calls, patience: time.Second}
	s.events = newEvents(s.observe, s.log, maxEvents)
	connections, requestFiles := descriptors()
	s.door = newDoor(connections)
	s.registry = registry.New(registry.Options{
		Content: files.New(files.Options{Tree: s.store.tree, Index: s.store.index, Log: s.log, Met: s.met,
			Resolution: policy.Resolution}),
		Log: s.log, Secret: s.store.secret, Authenticate: s.following(authenticate),
		Proxies: s.cfg.Server.Proxies(),
		Limits: registry.Limits{Manifest: s.cfg.Limits.ManifestSize, Uploads: s.cfg.Limits.UploadsPerClient,
			Stall: s.cfg.Limits.StallTimeout, Files: requestFiles},
		OnAccess: s.accessed(), OnRequest: s.requested,
	})
	s.metrics.registry.MustRegister(gauges{s})
	s.servers()
	if opts.Listen {
		if s.listeners, err = s.listen(); err != nil {
			return nil, errors.Join(err, s.store.close())
		}
	}
	s.keep(ctx)
	return s, nil
}

// Policy is what a configuration promises.
func Policy(cfg *config.Config) index.Policy {
	return index.Policy{TTL: cfg.Cache.TTL, Grace: cfg.Cache.Grace, Resolution: policy.Resolution(cfg.Cache.Grace)}
}

func (s *Server) policy() index.Policy { return Policy(s.Config()) }

// NameAge is the age that a configuration gives to names that the index does not know; nil: used now.
func NameAge(cfg *config.Config) adopt.Age {
	if cfg.Cache.AdoptAge == "mtime" {
		return func(modified time.Time) time.Time { return modified }
	}
	return nil
}

// Htpasswd is the file of users that a configuration names.
func Htpasswd(cfg *config.Config) string {
	if cfg.Auth.Htpasswd != "" {
		return cfg.Auth.Htpasswd
	}
	return tree.Dir(cfg.Storage.Directory).Htpasswd()
}

// following asks the authenticator of the newest configuration. Nil: everybody may use the registry.
func (s *Server) following(first registry.Authenticate) registry.Authenticate {
	if first == nil {
		return nil
	}
	s.verify.Store(&first)
	return func(r *http.Request, client, user, password string) registry.Login {
		return (*s.verify.Load())(r, client, user, password)
	}
}

func (s *Server) authenticator(cfg *config.Config) (registry.Authenticate, error) {
	if f := s.opts.Authenticate; f != nil {
		return asking(f), nil
	}
	if !cfg.Auth.Enabled {
		return nil, nil
	}
	v, err := s.verifier(cfg)
	if err != nil {
		return nil, err
	}
	if err := v.Err(); err != nil {
		s.log.WithError(err).Warn("users of the htpasswd file cannot log in")
	}
	s.users.Store(v)
	return verifying(v), nil
}

// verifier knows the users of a configuration, of whom there is at least one.
func (s *Server) verifier(cfg *config.Config) (*users.Verifier, error) {
	o := users.VerifierOptions{Path: Htpasswd(cfg), Access: s.reach, After: s.users.Load()}
	o.OnChange = func(n int, err error) { s.usersChanged(o.Path, n, err) }
	for _, u := range cfg.Auth.Users {
		o.Users = append(o.Users, users.Credential{Name: u.Username, Password: u.Password})
	}
	v, err := users.NewVerifier(o)
	if err != nil {
		return nil, err
	}
	n, err := v.Count()
	switch {
	case n == 0 && err != nil:
		return nil, err
	case n == 0:
		return nil, &NoUsersError{o.Path, v.Unusable()}
	}
	for _, name := range v.Unusable() {
		s.log.WithField("user", name).Warn("this entry of the htpasswd file has no bcrypt hash and cannot log in")
	}
	return v, nil
}

// accessed passes what was served or stored on to who wants to know.
func (s *Server) accessed() func(digest.Digest, int64) {
	if s.opts.OnBlobAccess == nil {
		return nil
	}
	return func(d digest.Digest, size int64) { s.events.add(event{digest: d, size: size}) }
}

// deleted does so with what the expiry removed.
func (s *Server) deleted() func(digest.Digest) {
	if s.opts.OnBlobDelete == nil {
		return nil
	}
	return func(d digest.Digest) { s.events.add(event{digest: d, deleted: true}) }
}

func (s *Server) observe(e event) {
	if e.deleted {
		s.opts.OnBlobDelete(e.digest.String())
	} else {
		s.opts.OnBlobAccess(e.digest.String(), e.size)
	}
}

// keep starts what runs beside the requests.
func (s *Server) keep(ctx context.Context) {
	go s.events.deliver() // awaited by finish
	s.background.Go(func() { s.rebuild(ctx) })
	s.background.Go(func() { s.beat(ctx) })
	sweeper := gc.Sweeper{
		Collector: s.collector(),
		OnRun:     s.metrics.run,
	}
	now := schedule(s.cfg)
	s.background.Go(func() { sweeper.Sweep(ctx, now, s.schedule) })
}

func (s *Server) collector() *gc.Collector {
	return &gc.Collector{Dir: s.store.dir, Tree: s.store.tree, Index: s.store.index, Log: s.log, OnDelete: s.deleted()}
}

func schedule(cfg *config.Config) gc.Schedule {
	return gc.Schedule{Policy: Policy(cfg), Interval: cfg.Cache.CleanupInterval}
}

// rebuild makes the index whole, and lets things be retired from then on.
func (s *Server) rebuild(ctx context.Context) {
	s.rebuilding.Lock()
	defer s.rebuilding.Unlock()
	start := time.Now()
	s.gate(false)
	policy := s.policy()
	s.met.Compare()
	res, err := reconcile.Rebuild(ctx, reconcile.Options{Dir: s.store.dir, Index: s.store.index, Log: s.log,
		NameAge: NameAge(s.Config()), Hold: policy.Grace + policy.Resolution,
		Prune: s.store.tree.Prune})
	opened := false
	if err == nil && !s.met.Judge(res.Followed) {
		err = errLinks
	}
	if err == nil {
		opened, err = s.store.index.OpenGate(ctx, res.Token, res.Repositories()...)
	}
	s.unread = res.Unread
	if err != nil {
		if ctx.Err() == nil {
			s.complain(err, "the index could not be compared with the disk: nothing expires until that is done; trying again in a minute")
		}
		return
	}
	for _, u := range res.Unread {
		s.complain(u.Err, "a part of the tree cannot be read; until it can, nothing of its repository expires, nor any blob")
	}
	if !opened {
		return // another process began to compare after us; watch sees to it
	}
	s.gate(true)
	s.log.WithFields(logrus.Fields{"objects": res.Seen, "adopted": res.Adopted, "missing": res.Missing,
		"duration_ms": milliseconds(time.Since(start))}).Info("index is in line with the disk")
	if until, err := s.store.index.Held(ctx); err == nil && !until.IsZero() {
		left := until.Sub(s.store.index.Now()).Round(time.Second)
		s.log.WithField("until", stamp.Time(until).String()).Infof(
			"existing images were imported with their file dates; nothing is removed for the next %s", config.FormatDuration(left))
	}
}

var errLinks = errors.New("symbolic links were made or changed meanwhile")

// complain logs an error, and what the operator can do if somebody knows that.
func (s *Server) complain(err error, message string) {
	log := s.log.WithError(err)
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		log = log.WithField("hint", hinted.Hint())
	}
	log.Error(message)
}

func (s *Server) gate(open bool) {
	if s.opts.OnGate != nil {
		s.opts.OnGate(open)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// beat records that the store is being watched, and sees to it that there is an index to record it in.
func (s *Server) beat(ctx context.Context) {
	for sleep(ctx, index.BeatInterval) == nil {
		s.watch(ctx)
		s.watchLogins(time.Now())
	}
}

func (s *Server) watch(ctx context.Context) {
	if err := s.store.keep(ctx); err != nil && ctx.Err() == nil {
		s.complain(err, "cannot keep the lock of the data directory: another server may be at work in it")
	}
	if err := s.store.tree.KeepBallast(s.store.dir.Ballast()); err != nil {
		s.log.WithError(err).Error("cannot keep ballast on the disk")
	}
	if !s.store.index.Lost() {
		if err := s.store.index.Beat(ctx); err != nil && ctx.Err() == nil {
			s.log.WithError(err).Error("cannot record the heartbeat in the index")
		}
		s.watchGate(ctx)
		return
	}
	s.log.Error("the index was deleted or replaced while serving; it is rebuilt from disk, and everything that is not in it counts as used now")
	if err := s.store.reopenIndex(ctx, s.policy(), s.log); err != nil {
		s.log.WithError(err).Error("cannot open the index again; trying again soon")
		return
	}
	s.background.Go(func() { s.rebuild(ctx) })
}

// rebuildPause is how long a comparison that failed is not tried again.
const rebuildPause = time.Minute

// watchGate compares again when nobody does and the gate is shut, because it failed, or because a gc that
// began one was interrupted; and when what could not be read can be.
func (s *Server) watchGate(ctx context.Context) {
	open, err := s.store.index.GateOpen(ctx)
	if err != nil || time.Since(s.rebuilt) < rebuildPause || !s.rebuilding.TryLock() {
		return
	}
	whole := !slices.ContainsFunc(s.unread, tree.Unread.Readable)
	s.rebuilding.Unlock()
	if open && whole {
		return
	}
	s.rebuilt = time.Now()
	s.background.Go(func() { s.rebuild(ctx) })
}

// Inspect lists what is stored. whole is false while the index is compared with the disk: there may be more.
func (s *Server) Inspect(ctx context.Context, o inspect.Options) (list inspect.Listing, whole bool, err error) {
	ctx, leave, err := s.calls.begin(ctx)
	if err != nil {
		return list, false, err
	}
	defer leave()
	if whole, err = s.store.index.Whole(ctx); err == nil {
		list, err = inspect.List(ctx, s.store.index, s.policy(), o)
	}
	return list, whole, reason(ctx, err)
}

// Expire does one expiry run now. A ttl of 0 is the server's own.
func (s *Server) Expire(ctx context.Context, ttl time.Duration, dryRun bool) (gc.Report, error) {
	ctx, leave, err := s.calls.begin(ctx)
	if err != nil {
		return gc.Report{}, err
	}
	defer leave()
	policy := s.policy()
	if ttl != 0 {
		policy.TTL = ttl
	}
	rep, err := s.collector().Run(ctx, policy, dryRun)
	if !dryRun && ctx.Err() == nil && rep.HeldBy == "" {
		s.metrics.run(rep, err)
	}
	return rep, reason(ctx, err)
}

// reason is why a call failed: the end of its context says it best.
func reason(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Collector has the metrics of this server.
func (s *Server) Collector() prometheus.Collector { return s.metrics.registry }

// Handler answers requests below /v2/, for those who own their listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Config returns the configuration, with what was read again. It must not be changed.
func (s *Server) Config() *config.Config { return s.live.Load() }

// Stats counts what is stored.
func (s *Server) Stats() (index.Totals, error) { return totals(s.store.index) }

func totals(ix index.Store) (t index.Totals, err error) {
	err = ix.View(context.Background(), func(r index.Reader) error {
		t, err = r.Totals()
		return err
	})
	return t, err
}

// idleTimeout is longer than the keep-alive of proxies in front, which is often 60 to 120 s.
const idleTimeout = 3 * time.Minute

func (s *Server) servers() {
	s.flights = newFlights()
	s.handler = s.flights.admit(s.metrics.inFlight(s.registry))
	server := func(h http.Handler) *http.Server {
		return &http.Server{Handler: h, ReadHeaderTimeout: s.cfg.Limits.HeaderTimeout, MaxHeaderBytes: int(s.cfg.Limits.HeaderSize),
			IdleTimeout: idleTimeout, ErrorLog: s.errorLog(),
			// The end of a stream waits behind what was sent before, which nobody may be taking.
			HTTP2: &http.HTTP2Config{WriteByteTimeout: s.cfg.Limits.StallTimeout}}
	}
	s.main, s.debug = server(s.handler), server(s.debugHandler())
	s.main.ConnState = s.door.state
}

var errStarted = errors.New("the server was started before")

// Start listens and serves until Shutdown, which makes it return nil. It may be tried again after a *ListenError.
// ClosedError: Shutdown was called before.
func (s *Server) Start() error {
	if s.ending.Load() {
		<-s.stopped
		return ClosedError{}
	}
	if !s.starting.CompareAndSwap(false, true) {
		return errStarted
	}
	if s.ending.Load() { // it was not when Start looked first; stop may leave the listeners to Start then
		closeAll(s.listeners)
		<-s.stopped
		return ClosedError{}
	}
	listeners := s.listeners
	if listeners == nil {
		var err error
		if listeners, err = s.listen(); err != nil {
			s.starting.Store(false)
			return err
		}
	}
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, l := range listeners {
		serving.Go(func() {
			if err := l.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	if s.opts.OnReady != nil {
		s.opts.OnReady()
	}
	select {
	case err := <-failed:
		_ = s.Shutdown(0)
		serving.Wait()
		return err
	case <-s.stopping:
		<-s.stopped
		serving.Wait()
		return nil
	}
}

// Shutdown is ShutdownContext with a context that ends after the timeout.
func (s *Server) Shutdown(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	return s.shutdown(ctx, cancel)
}

// ShutdownContext lets transfers in flight go on until ctx ends, then cuts them; and ends everything that New and
// Start began. It may be called more than once: all calls wait for the end, and return the same. Called by an
// observer it does not wait, since the end waits for the observers.
func (s *Server) ShutdownContext(ctx context.Context) error { return s.shutdown(ctx, func() {}) }

// shutdown calls release when ctx is needed no more.
func (s *Server) shutdown(ctx context.Context, release func()) error {
	if s.ending.CompareAndSwap(false, true) {
		close(s.stopping)
		go func() {
			defer close(s.stopped)
			defer release()
			s.failure = s.stop(ctx)
		}()
	} else {
		release()
	}
	if s.events.calling() {
		return nil
	}
	<-s.stopped
	return s.failure
}

// stop goes against the order of New: no more requests, no more background, no more to tell, no store.
func (s *Server) stop(ctx context.Context) error {
	err := s.main.Shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		s.log.Warn("transfers were still in flight at the end of the drain timeout, and are cut")
		err = s.main.Close()
	}
	if !s.starting.Load() {
		closeAll(s.listeners) // which nobody serves on
	}
	if n := s.flights.drain(ctx); n > 0 {
		err = errors.Join(err, fmt.Errorf("not all requests came to an end (%d left)", n))
	}
	err = errors.Join(err, s.debug.Close())
	s.cancel()
	s.calls.end()
	s.background.Wait()
	s.watchLogins(time.Now().Add(failureWindow)) // which ends now
	err = errors.Join(err, s.events.finish(ctx))
	return errors.Join(err, s.store.index.Beat(context.Background()), s.store.close()) // watched until now
}
