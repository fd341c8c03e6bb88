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
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/expiry"
	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/registry"
	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// Options say what to serve, and who wants to know.
type Options struct {
	Config *config.Config
	Log    *logrus.Logger
	// Debug opens debug.address. A library leaves it off.
	Debug bool
	// Authenticate replaces all configured users. Nil: those of the configuration and the htpasswd file.
	Authenticate func(user, password string) bool
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
	cfg         *config.Config
	log         *logrus.Logger
	store       *store
	registry    *registry.Registry
	metrics     *metrics
	events      *events
	flights     *flights
	door        *door
	handler     http.Handler
	certificate *certificate // nil: plain HTTP
	main        *http.Server
	debug       *http.Server

	background sync.WaitGroup // everything that cancel ends
	cancel     context.CancelFunc
	starting   atomic.Bool   // Start listens, or has listened
	ending     atomic.Bool   // Shutdown was called
	stopping   chan struct{} // closed when Shutdown begins
	stopped    chan struct{} // closed when Shutdown is done
	failure    error         // of Shutdown; read once stopped is closed
	rebuilding sync.Mutex    // held by the one comparison of the index with the disk at a time
	rebuilt    time.Time     // when watch began the last one; only watch uses it
}

// ErrLocked and ErrNoUsers are what callers of the library can tell apart, whose types they cannot name.
var (
	ErrLocked  = layout.ErrLocked
	ErrNoUsers = errors.New("there is no user who could log in")
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

// New opens the store and begins to keep it: rebuild, heartbeat, expiry. It does not listen.
func New(opts Options) (_ *Server, err error) {
	if err := opts.Config.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{opts: opts, cfg: opts.Config, log: opts.Log, cancel: cancel, stopping: make(chan struct{}), stopped: make(chan struct{})}
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	authenticate, err := s.authenticator()
	if err != nil {
		return nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if s.certificate, err = newCertificate(s.cfg.Server.TLS); err != nil {
		return nil, err
	}
	policy := Policy(s.cfg)
	dir, err := layout.At(s.cfg.Storage.Directory)
	if err != nil {
		return nil, err
	}
	if s.store, err = openStore(ctx, dir, policy, opts.Now, s.log); err != nil {
		return nil, err
	}
	if _, owed, _, err := s.store.index.Promised(ctx); err == nil && owed.Grace > policy.Grace {
		s.log.WithField("owed", config.FormatDuration(owed.Grace)).Info("an earlier server of this directory promised a longer grace; until it is over nothing goes sooner")
	}
	s.metrics = newMetrics(s.store.index)
	s.events = newEvents(s.observe, s.log, maxEvents)
	connections, files := descriptors()
	s.door = newDoor(connections)
	s.registry, err = registry.New(ctx, registry.Options{
		Dir: s.store.dir, Tree: s.store.tree, Index: s.store.index, Log: s.log,
		Resolution: policy.Resolution, Secret: s.store.secret, Authenticate: authenticate,
		Limits: registry.Limits{Manifest: s.cfg.Limits.ManifestSize, Uploads: s.cfg.Limits.UploadsPerClient,
			Stall: s.cfg.Limits.StallTimeout, Files: files},
		OnAccess: s.accessed(), OnRequest: s.requested,
	})
	if err != nil {
		return nil, errors.Join(err, s.store.close())
	}
	s.servers()
	s.keep(ctx, policy)
	return s, nil
}

// Policy is what a configuration promises.
func Policy(cfg *config.Config) index.Policy {
	return index.Policy{TTL: cfg.Cache.TTL, Grace: cfg.Cache.Grace, Resolution: expiry.Resolution(cfg.Cache.Grace)}
}

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
	return layout.Dir(cfg.Storage.Directory).Htpasswd()
}

func (s *Server) authenticator() (registry.Authenticate, error) {
	if f := s.opts.Authenticate; f != nil {
		return func(_ context.Context, _, user, password string) bool { return f(user, password) }, nil
	}
	if !s.cfg.Auth.Enabled {
		return nil, nil
	}
	o := users.VerifierOptions{Path: Htpasswd(s.cfg)}
	for _, u := range s.cfg.Auth.Users {
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
	case err != nil:
		s.log.WithError(err).Warn("users of the htpasswd file cannot log in")
	}
	for _, name := range v.Unusable() {
		s.log.WithField("user", name).Warn("this entry of the htpasswd file has no bcrypt hash and cannot log in")
	}
	return v.Verify, nil
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

// requested measures a request and writes its access line.
func (s *Server) requested(r *http.Request, e registry.Exchange) {
	s.metrics.request(r.Method, e)
	if !s.cfg.Log.Access {
		return
	}
	s.log.WithFields(logrus.Fields{"method": short(r.Method), "path": short(r.URL.Path), "status": e.Status, "bytes": e.Bytes,
		"took": e.Took.Round(time.Microsecond).String(), "remote": r.RemoteAddr, "user": e.User, "agent": short(r.UserAgent())}).Info("request")
}

// short bounds what a client can write into the log with one request. Paths of the API stay below it.
func short(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// keep starts what runs beside the requests.
func (s *Server) keep(ctx context.Context, policy index.Policy) {
	go s.events.deliver() // awaited by finish
	s.background.Go(func() { s.rebuild(ctx, policy) })
	s.background.Go(func() { s.beat(ctx, policy) })
	if s.cfg.Cache.CleanupInterval > 0 {
		sweeper := gc.Sweeper{
			Collector: &gc.Collector{Dir: s.store.dir, Tree: s.store.tree, Index: s.store.index, Log: s.log, OnDelete: s.deleted()},
			Policy:    policy, Interval: s.cfg.Cache.CleanupInterval, OnRun: s.metrics.run,
		}
		s.background.Go(func() { sweeper.Sweep(ctx) })
	}
}

// rebuild makes the index whole, and lets things be retired from then on.
func (s *Server) rebuild(ctx context.Context, policy index.Policy) {
	s.rebuilding.Lock()
	defer s.rebuilding.Unlock()
	start := time.Now()
	s.gate(false)
	age := NameAge(s.cfg)
	res, err := reconcile.Rebuild(ctx, reconcile.Options{Dir: s.store.dir, Index: s.store.index, Log: s.log, NameAge: age,
		Prune: func(dir string) { s.store.tree.Prune(dir, string(s.store.dir)) }})
	if err == nil && res.Adopted > 0 && age != nil {
		// What looks old now may have been promised a moment ago, by an index that is lost.
		wait := policy.Grace + policy.Resolution
		s.log.WithField("wait", wait.String()).Info("content was adopted by file time; nothing expires before what may have been promised has passed")
		err = sleep(ctx, wait)
	}
	opened := false
	if err == nil {
		opened, err = s.store.index.OpenGate(ctx, res.Token)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.log.WithError(err).Error("the index could not be compared with the disk: nothing expires until that is done; trying again in a minute")
		}
		return
	}
	if !opened {
		return // another process began to compare after us; watch sees to it
	}
	s.gate(true)
	s.log.WithFields(logrus.Fields{"objects": res.Seen, "adopted": res.Adopted, "missing": res.Missing,
		"took": time.Since(start).Round(time.Millisecond).String()}).Info("index is in line with the disk")
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
func (s *Server) beat(ctx context.Context, policy index.Policy) {
	for sleep(ctx, index.BeatInterval) == nil {
		s.watch(ctx, policy)
	}
}

func (s *Server) watch(ctx context.Context, policy index.Policy) {
	if err := s.store.tree.KeepBallast(s.store.dir.Ballast()); err != nil {
		s.log.WithError(err).Error("cannot keep ballast on the disk")
	}
	if !s.store.index.Lost() {
		if err := s.store.index.Beat(ctx); err != nil && ctx.Err() == nil {
			s.log.WithError(err).Error("cannot record the heartbeat in the index")
		}
		s.watchGate(ctx, policy)
		return
	}
	s.log.Error("the index was deleted or replaced while serving; it is rebuilt from disk, and everything that is not in it counts as used now")
	if err := s.store.reopenIndex(ctx, policy, s.log); err != nil {
		s.log.WithError(err).Error("cannot open the index again; trying again soon")
		return
	}
	s.background.Go(func() { s.rebuild(ctx, policy) })
}

// rebuildPause is how long a comparison that failed is not tried again.
const rebuildPause = time.Minute

// watchGate compares again when nobody does and the gate is shut: because it failed, or because a gc that
// began one was interrupted.
func (s *Server) watchGate(ctx context.Context, policy index.Policy) {
	open, err := s.store.index.GateOpen(ctx)
	if err != nil || open || time.Since(s.rebuilt) < rebuildPause || !s.rebuilding.TryLock() {
		return
	}
	s.rebuilding.Unlock()
	s.rebuilt = time.Now()
	s.background.Go(func() { s.rebuild(ctx, policy) })
}

// Handler answers requests below /v2/, for those who own their listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Config returns the configuration. It must not be changed.
func (s *Server) Config() *config.Config { return s.cfg }

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

// Start listens and serves until Shutdown, which makes it return nil; at once if that was called before.
// It may be tried again after a *ListenError.
func (s *Server) Start() error {
	if s.ending.Load() {
		<-s.stopped
		return nil
	}
	if !s.starting.CompareAndSwap(false, true) {
		return errStarted
	}
	listeners, err := s.listen()
	if err != nil {
		s.starting.Store(false)
		return err
	}
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for srv, l := range listeners {
		serving.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
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

func (s *Server) listen() (map[*http.Server]net.Listener, error) {
	listeners := map[*http.Server]net.Listener{}
	if s.opts.Debug && s.cfg.Debug.Address != "" {
		l, err := net.Listen("tcp", s.cfg.Debug.Address)
		if err != nil {
			return nil, &ListenError{"debug.address", s.cfg.Debug.Address, err}
		}
		listeners[s.debug] = l
		s.log.WithField("address", l.Addr().String()).Info("metrics and health")
	}
	address := net.JoinHostPort(s.cfg.Server.Address, strconv.Itoa(s.cfg.Server.Port))
	network := "tcp"
	if ip := net.ParseIP(s.cfg.Server.Address); ip.To4() != nil {
		network = "tcp4" // else Go listens on IPv6 for 0.0.0.0, too
	}
	l, err := net.Listen(network, address)
	if err != nil {
		if d := listeners[s.debug]; d != nil {
			err = errors.Join(err, d.Close())
		}
		return nil, &ListenError{"server.port", address, err}
	}
	listeners[s.main] = s.certificate.wrap(listener{l, s.door}, s.main)
	s.log.WithFields(logrus.Fields{"address": l.Addr().String(), "tls": s.certificate != nil, "directory": s.cfg.Storage.Directory,
		"ttl": config.FormatDuration(s.cfg.Cache.TTL)}).Info("serving")
	return listeners, nil
}

// lastWords is what is left at least, once the timeout of Shutdown is over, to handlers whose connections
// were cut, and to observers of what was done until then.
const lastWords = time.Second

// Shutdown lets transfers in flight go on for the timeout, then cuts them; and ends everything that New
// and Start began. It may be called more than once: all calls wait for the end, and return the same. Called
// by an observer it does not wait, since the end waits for the observers.
func (s *Server) Shutdown(timeout time.Duration) error {
	if s.ending.CompareAndSwap(false, true) {
		close(s.stopping)
		go func() {
			defer close(s.stopped)
			s.failure = s.stop(timeout)
		}()
	}
	if s.events.calling() {
		return nil
	}
	<-s.stopped
	return s.failure
}

// stop goes against the order of New: no more requests, no more background, no more to tell, no store.
func (s *Server) stop(timeout time.Duration) error {
	end := time.Now().Add(timeout)
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	err := s.main.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.WithField("timeout", timeout.String()).Warn("transfers were still in flight at the end of the drain timeout, and are cut")
		err = s.main.Close()
	}
	if n := s.flights.drain(max(time.Until(end), lastWords)); n > 0 {
		err = errors.Join(err, fmt.Errorf("not all requests came to an end (%d left)", n))
	}
	err = errors.Join(err, s.debug.Close(), s.registry.Close())
	s.cancel()
	s.background.Wait()
	err = errors.Join(err, s.events.finish(max(time.Until(end), lastWords)))
	return errors.Join(err, s.store.index.Beat(context.Background()), s.store.close()) // watched until now
}

// ListenError says that an address cannot be listened on.
type ListenError struct {
	Key, Address string
	Err          error
}

func (e *ListenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.Address, e.Err) }

// Unwrap is for errors.As.
func (e *ListenError) Unwrap() error { return e.Err }

// Hint says what the operator can do.
func (e *ListenError) Hint() string {
	another := "choose another --server.port (or --server.address)"
	if e.Key == "debug.address" {
		another = "choose another --debug.address, or turn it off: --debug.address ''"
	}
	switch {
	case errors.Is(e.Err, syscall.EACCES):
		return "low ports are for root and for who has CAP_NET_BIND_SERVICE; " + another
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return "stop what listens there, or " + another
	}
	return another
}
