package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ClosedError says that a server was shut down. It is an http.ErrServerClosed.
type ClosedError struct{}

func (ClosedError) Error() string { return "the server was shut down" }

// Is makes it what net/http's servers return.
func (ClosedError) Is(target error) bool { return target == http.ErrServerClosed }

// ErrClosed is any ClosedError.
var ErrClosed error = ClosedError{}

var errStarted = errors.New("the server was started before")

// lifecycle says how far a server is between New and the end of Shutdown.
type lifecycle struct {
	starting atomic.Bool   // Start listens, or has listened
	ending   atomic.Bool   // Shutdown was called
	stopping chan struct{} // closed when Shutdown begins
	stopped  chan struct{} // closed when Shutdown is done
	failure  error         // of Shutdown; read once stopped is closed
}

func newLifecycle() *lifecycle {
	return &lifecycle{stopping: make(chan struct{}), stopped: make(chan struct{})}
}

// Start listens and serves until Shutdown, which makes it return nil. It may be tried again after a *ListenError.
// ClosedError: Shutdown was called before.
func (s *Server) Start() error {
	if s.life.ending.Load() {
		<-s.life.stopped
		return ClosedError{}
	}
	if !s.life.starting.CompareAndSwap(false, true) {
		return errStarted
	}
	if s.life.ending.Load() { // Shutdown was called since the first look; stop may have left the listeners to Start
		closeAll(s.listeners)
		<-s.life.stopped
		return ClosedError{}
	}
	listeners := s.listeners
	if listeners == nil {
		var err error
		if listeners, err = s.front.listen(); err != nil {
			s.life.starting.Store(false)
			return err
		}
	}
	return s.serve(listeners)
}

// serve answers the requests of all listeners until Shutdown is done or a listener fails.
func (s *Server) serve(listeners []bound) error {
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	defer serving.Wait()
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
		return err
	case <-s.life.stopping:
		<-s.life.stopped
		return nil
	}
}

// Shutdown is ShutdownContext with a context that ends after the timeout.
func (s *Server) Shutdown(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	return s.shutdown(ctx, cancel)
}

// ShutdownContext lets running transfers go on until ctx ends, then cuts them. It ends everything that New and Start
// began. It may be called more than once: all calls wait for the end and return the same error. A call by an observer
// does not wait, since the end waits for the observers.
func (s *Server) ShutdownContext(ctx context.Context) error { return s.shutdown(ctx, func() {}) }

// shutdown calls release when ctx is needed no more.
func (s *Server) shutdown(ctx context.Context, release func()) error {
	if s.life.ending.CompareAndSwap(false, true) {
		close(s.life.stopping)
		go func() { // awaited by every caller but an observer
			defer close(s.life.stopped)
			defer release()
			s.life.failure = s.stop(ctx)
		}()
	} else {
		release()
	}
	if s.callbacks.calling() {
		return nil
	}
	<-s.life.stopped
	return s.life.failure
}

// stop undoes New in the opposite order: requests end first, then the tasks beside them, then the observers, and at
// last what was pushed gets its names, and the store is closed.
func (s *Server) stop(ctx context.Context) error {
	err := s.front.registry.Shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		s.log.Warn("drain timeout is over; transfers that still run are cut")
		err = s.front.registry.Close()
	}
	if !s.life.starting.Load() {
		closeAll(s.listeners) // of New, on which Start does not serve
	}
	if n := s.flights.drain(ctx); n > 0 {
		err = errors.Join(err, fmt.Errorf("not all requests ended (%d left)", n))
	}
	err = errors.Join(err, s.front.debug.Close())
	s.tasks.cancel()
	s.calls.end()
	s.tasks.end()
	s.requestLog.summarize(time.Now().Add(failureWindow)) // the window ends now
	if s.sampling != nil {
		s.sampling.save()
	}
	s.writePulls(context.Background()) // of the last minute
	err = errors.Join(err, s.callbacks.finish(ctx))
	return errors.Join(err, s.content.Close(), s.store.Close())
}
