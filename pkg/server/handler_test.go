package server_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/server"
)

// TestAServerInAnothersMux is beside other pages, behind TLS that is not its own, and behind a proxy.
func TestAServerInAnothersMux(t *testing.T) {
	srv := newServer(t, options(t))
	mux := http.NewServeMux()
	mux.Handle("/v2/", srv)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	client := newClient(t)
	host := func(url string) string { _, h, _ := strings.Cut(url, "://"); return h }
	for _, c := range []struct {
		what, url, forwarded, location string
	}{
		{"plain", plain.URL, "", plain.URL},
		{"TLS", secure.URL, "", secure.URL},
		{"behind a proxy that ends TLS", plain.URL, "https", "https://" + host(plain.URL)},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", c.url+"/v2/app/blobs/uploads/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.forwarded != "" {
			req.Header.Set("X-Forwarded-Proto", c.forwarded)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Location"); !strings.HasPrefix(got, c.location+"/v2/app/blobs/uploads/") {
			t.Errorf("%s: Location %s; want it below %s", c.what, got, c.location)
		}
	}
	push(t, client, plain.URL, "app:v1", newImage(t, 2))
	pull(t, client, plain.URL, "app:v1")
	for path, want := range map[string]int{"/": 418, "/v2/": 200, "/v2/app/tags/list": 200, "/v2/nothing": 404} {
		if got := status(t, client, "GET", secure.URL+path, "", ""); got != want {
			t.Errorf("GET %s: %d; want %d", path, got, want)
		}
	}
	plain.Close()
	secure.Close()
	shutdown(t, srv)
}

// uploading is a server behind somebody else's listener, with an upload in flight whose body comes from a pipe.
func uploading(t *testing.T, client *http.Client) (srv *server.Server, front *httptest.Server, body *io.PipeWriter,
	answer chan int) {
	t.Helper()
	opts := options(t)
	in := make(chan bool, 100)
	opts.AuthValidator = func(string, string) bool { in <- true; return true } // asked when a request is in
	srv = newServer(t, opts)
	front = httptest.NewServer(srv)
	req, err := http.NewRequestWithContext(t.Context(), "POST", front.URL+"/v2/app/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("ci", "pass")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-in
	read, body := io.Pipe()
	req, err = http.NewRequestWithContext(t.Context(), "PATCH", resp.Header.Get("Location"), read)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("ci", "pass")
	answer = make(chan int, 1)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			answer <- 0
			return
		}
		resp.Body.Close()
		answer <- resp.StatusCode
	}()
	if _, err := body.Write([]byte("the first bytes")); err != nil {
		t.Fatal(err)
	}
	<-in
	return srv, front, body, answer
}

func beginShutdown(t *testing.T, srv *server.Server, client *http.Client, url string,
	timeout time.Duration) chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- srv.Shutdown(timeout) }()
	await(t, "new requests are turned away", func() bool { return status(t, client, "GET", url+"/v2/", "", "") == 503 })
	return ended
}

// TestShutdownWaitsForRequestsOfAnothersListener, also when the program did not close that first.
func TestShutdownWaitsForRequestsOfAnothersListener(t *testing.T) {
	client := newClient(t)
	srv, front, body, answer := uploading(t, client)
	ended := beginShutdown(t, srv, client, front.URL, time.Minute)
	if _, err := server.New(&server.Options{Config: srv.Config(),
		AuthValidator: func(string, string) bool { return false }}); !errors.Is(err, server.ErrLocked) {
		t.Errorf("another server on the directory while an upload is in flight = %v", err)
	}
	if _, err := body.Write([]byte(" and the last")); err != nil {
		t.Error(err)
	}
	body.Close()
	if got := <-answer; got != 202 {
		t.Errorf("the upload in flight: %d", got)
	}
	wantEnd(t, "Shutdown", ended)
	front.Close()
}

func TestShutdownGivesUpOnARequestThatItCannotCut(t *testing.T) {
	client := newClient(t)
	srv, front, body, answer := uploading(t, client)
	ended := beginShutdown(t, srv, client, front.URL, time.Millisecond)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "1 left") {
		t.Errorf("Shutdown = %v; want to hear of the request", err)
	}
	shutdown(t, newServer(t, &server.Options{Config: srv.Config(), Logger: options(t).Logger,
		AuthValidator: func(string, string) bool { return false }})) // the directory is free
	body.Close()
	<-answer
	front.Close()
}
