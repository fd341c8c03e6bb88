package server_test

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/server"
)

// TestAnObserverThatHangsHoldsUpNobody: no pull, no push, no other server on the directory.
func TestAnObserverThatHangsHoldsUpNobody(t *testing.T) {
	opts := options(t)
	release, hangs, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	calls := 0
	opts.OnBlobAccess = func(string, int64) {
		calls++
		close(hangs) // a second call would panic
		<-release
		close(returned)
	}
	srv := newServer(t, opts)
	front := httptest.NewServer(srv)
	client := newClient(t)
	for _, image := range []string{"a:v1", "b:v1"} {
		push(t, client, front.URL, image, newImage(t, 3))
		pull(t, client, front.URL, image)
	}
	<-hangs
	front.Close()
	if err := srv.Shutdown(10 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "OnBlobAccess") {
		t.Errorf("Shutdown = %v; want to hear of the observer", err)
	}
	opts.OnBlobAccess = nil
	shutdown(t, newServer(t, opts)) // the directory is free
	close(release)
	<-returned
	if err := srv.Shutdown(time.Minute); err == nil {
		t.Error("a later Shutdown does not return what the first did")
	}
	if calls != 1 {
		t.Errorf("%d calls after Shutdown gave up", calls-1)
	}
}

// TestAnObserverMayUseTheServer: it counts what is stored, asks the server over HTTP, and in the end has
// seen enough.
func TestAnObserverMayUseTheServer(t *testing.T) {
	opts := options(t)
	client := newClient(t)
	var srv *server.Server
	var url string
	var ready sync.WaitGroup
	ready.Add(1)
	calls, answers := 0, 0
	opts.OnBlobAccess = func(string, int64) {
		ready.Wait()
		if stats, err := srv.Stats(); err != nil || stats.Blobs == 0 {
			t.Errorf("Stats in an observer: %+v, %v", stats, err)
		}
		if calls++; calls > 2 {
			return // the server is shutting down
		}
		if status(t, client, "GET", url+"/v2/app/tags/list", "", "") == 200 {
			answers++
		}
		if calls == 2 {
			if err := srv.Shutdown(time.Minute); err != nil {
				t.Errorf("Shutdown in an observer: %v", err)
			}
		}
	}
	srv, url, ended := started(t, opts)
	push(t, client, url, "app:v1", newImage(t, 2))
	ready.Done()
	wantEnd(t, "Start", ended)
	if calls != 4 || answers != 2 {
		t.Errorf("%d calls, %d answers; want one call for each of four blobs, and two answers", calls, answers)
	}
	shutdown(t, srv)
}

func TestAnObserverThatPanicsIsToldTheNext(t *testing.T) {
	opts := options(t)
	calls := 0
	opts.OnBlobAccess = func(string, int64) { calls++; panic("observer is broken") }
	srv := newServer(t, opts)
	front := httptest.NewServer(srv)
	client := newClient(t)
	push(t, client, front.URL, "app:v1", newImage(t, 1))
	pull(t, client, front.URL, "app:v1")
	front.Close()
	shutdown(t, srv)
	if calls != 3+2 { // pull reads the manifest and the layer, and nobody asked for the config
		t.Errorf("%d calls; want 5", calls)
	}
}
