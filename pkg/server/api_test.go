package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jc-lab/docker-cache-server/pkg/server"
)

func TestAddrTellsThePortThatWasFree(t *testing.T) {
	srv := newServer(t, options(t))
	if addr := srv.Addr(); addr != nil {
		t.Errorf("Addr before Start = %v", addr)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Start() }()
	await(t, "the server listens", func() bool { return srv.Addr() != nil })
	if got := status(t, newClient(t), "GET", "http://"+srv.Addr().String()+"/v2/", "", ""); got != 200 {
		t.Errorf("ping at %v: %d", srv.Addr(), got)
	}
	shutdown(t, srv)
	wantEnd(t, "Start", ended)
}

func TestAddrOfAServerThatCannotListenIsNil(t *testing.T) {
	opts := options(t)
	port, free := occupied(t)
	defer free()
	opts.Config.Server.Port = port
	srv := newServer(t, opts)
	if err := srv.Start(); err == nil || srv.Addr() != nil {
		t.Errorf("Start = %v, Addr = %v", err, srv.Addr())
	}
	shutdown(t, srv)
}

// TestShutdownContextWaitsUntilItsContextEnds, and no longer.
func TestShutdownContextWaitsUntilItsContextEnds(t *testing.T) {
	client := newClient(t)
	srv, front, body, answer := uploading(t, client)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.ShutdownContext(ctx) }()
	await(t, "new requests are turned away", func() bool {
		return status(t, client, "GET", front.URL+"/v2/", "",
			"") == 503
	})
	select {
	case err := <-ended:
		t.Errorf("ShutdownContext = %v, while an upload is in flight", err)
	default:
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "1 left") {
		t.Errorf("ShutdownContext = %v; want to hear of the request", err)
	}
	body.Close()
	<-answer
	front.Close()
}

func TestShutdownContextWithoutAnEndWaitsForAll(t *testing.T) {
	client := newClient(t)
	srv, front, body, answer := uploading(t, client)
	ended := make(chan error, 1)
	go func() { ended <- srv.ShutdownContext(context.Background()) }()
	await(t, "new requests are turned away", func() bool {
		return status(t, client, "GET", front.URL+"/v2/", "",
			"") == 503
	})
	body.Close()
	if got := <-answer; got != 202 {
		t.Errorf("the upload in flight: %d", got)
	}
	wantEnd(t, "ShutdownContext", ended)
	front.Close()
}

// TestAuthorizeRequestSeesWhatIsAskedFor, and replaces AuthValidator.
func TestAuthorizeRequestSeesWhatIsAskedFor(t *testing.T) {
	opts := options(t)
	opts.AuthValidator = func(string, string) bool { t.Error("AuthValidator was asked"); return true }
	opts.AuthorizeRequest = func(r *http.Request, user, password string) bool {
		if user == "bug" {
			panic("check is broken")
		}
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		return password == "pass" && (user == "ci" || user == "reader" && reads &&
			!strings.HasPrefix(r.URL.Path, "/v2/secret/"))
	}
	srv := newServer(t, opts)
	front, client := httptest.NewServer(srv), newClient(t)
	for _, c := range []struct {
		method, path, user, password string
		status                       int
	}{
		{"GET", "/v2/", "", "", 401},
		{"GET", "/v2/", "reader", "pass", 200},
		{"GET", "/v2/", "reader", "wrong", 401},
		{"GET", "/v2/app/manifests/v1", "reader", "pass", 404},
		{"GET", "/v2/secret/manifests/v1", "reader", "pass", 401},
		{"GET", "/v2/secret/manifests/v1", "ci", "pass", 404},
		{"POST", "/v2/app/blobs/uploads/", "reader", "pass", 401},
		{"POST", "/v2/app/blobs/uploads/", "ci", "pass", 202},
		{"GET", "/v2/", "bug", "pass", 500},
	} {
		if got := status(t, client, c.method, front.URL+c.path, c.user, c.password); got != c.status {
			t.Errorf("%s %s as %q: %d; want %d", c.method, c.path, c.user, got, c.status)
		}
	}
	front.Close()
	shutdown(t, srv)
}

// whole waits until the index was compared with the disk.
func whole(t *testing.T, srv *server.Server) {
	t.Helper()
	await(t, "the index is whole", func() bool {
		found, err := srv.Inspect(t.Context(), server.InspectOptions{})
		return err == nil && found.Complete
	})
}

func TestInspectReturnsWhatIsStored(t *testing.T) {
	srv := newServer(t, options(t))
	front, client := httptest.NewServer(srv), newClient(t)
	whole(t, srv)
	before := time.Now().Add(-time.Second)
	img := newImage(t, 2)
	for _, name := range []string{"team/app:v1", "team/app:v2", "other:v1"} {
		push(t, client, front.URL, name, img)
	}
	push(t, client, front.URL, "small:v1", newImage(t, 1))
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	inspect := func(o server.InspectOptions) *server.Inspection {
		found, err := srv.Inspect(t.Context(), o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		return found
	}
	stats, err := srv.Stats()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []server.InspectOptions{{Sort: server.ByName}, {Sort: server.ByName, Limit: 2},
		{Kind: server.Images, Sort: server.ByName, Repository: "**"}} {
		found := inspect(o)
		if len(found.Images) < 2 || len(found.Tags)+len(found.Blobs) > 0 || found.Summary != stats {
			t.Fatalf("%+v: %+v; want images, and the sum %+v", o, found, stats)
		}
		i := found.Images[0]
		if i.Repository != "other" || !slices.Equal(i.Tags, []string{"v1"}) || i.Digest != digest.String() ||
			i.Size <= 1024 || i.UniqueBytes != 0 ||
			i.LastAccess.Before(before) || i.LastAccess.Location() != time.UTC ||
			!i.ExpiresAt.After(i.LastAccess.Add(29*24*time.Hour)) || i.KeptBy != "tag" {
			t.Errorf("%+v: %+v", o, i)
		}
	}
	found := inspect(server.InspectOptions{Repository: "team/*"})
	if len(found.Images) != 1 || !slices.Equal(found.Images[0].Tags, []string{"v1", "v2"}) || found.Summary.Tags != 2 ||
		found.Summary.Blobs != 4 {
		t.Errorf("of one repository: %+v", found)
	}
	if found = inspect(server.InspectOptions{Kind: server.Tags, Sort: server.ByName,
		Reverse: true}); len(found.Tags) != 4 || found.Tags[0].Repository != "team/app" ||
		found.Tags[0].Tags[0] != "v2" {
		t.Errorf("tags: %+v", found)
	}
	found = inspect(server.InspectOptions{Kind: server.Blobs, Sort: server.BySize})
	if int64(len(found.Blobs)) != stats.Blobs || found.Blobs[0].Size < found.Blobs[len(found.Blobs)-1].Size ||
		len(found.Blobs[0].Repositories) == 0 || found.Blobs[0].CreatedAt.Before(before) {
		t.Errorf("blobs: %+v", found)
	}
	front.Close()
	shutdown(t, srv)
}

func TestInspectRefusesWhatMakesNoSense(t *testing.T) {
	srv := newServer(t, options(t))
	for what, o := range map[string]server.InspectOptions{"a kind": {Kind: "layers"}, "an order": {Sort: "colour"},
		"a limit": {Limit: -1}, "a pattern": {Repository: "[a"}} {
		if found, err := srv.Inspect(t.Context(), o); err == nil || found != nil {
			t.Errorf("%s that there is not: %v, %v", what, found, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := srv.Inspect(ctx, server.InspectOptions{Sort: server.ByName}); !errors.Is(err, context.Canceled) {
		t.Errorf("Inspect with a context that has ended: %v", err)
	}
	shutdown(t, srv)
	if _, err := srv.Inspect(t.Context(), server.InspectOptions{}); !errors.Is(err, server.ErrClosed) {
		t.Errorf("Inspect after Shutdown: %v", err)
	}
}

// TestExpireRemovesNow what is due, and says before what that will be.
func TestExpireRemovesNow(t *testing.T) {
	opts := options(t)
	opts.Config.Cache.Grace, opts.Config.Cache.CleanupInterval = time.Millisecond, 0
	var told seen
	opts.OnBlobDelete = told.remove
	srv := newServer(t, opts)
	front, client := httptest.NewServer(srv), newClient(t)
	whole(t, srv)
	img := newImage(t, 1)
	push(t, client, front.URL, "app:v1", img)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if done, err := srv.Expire(t.Context(), server.ExpireOptions{}); err != nil || done.Removed != (server.Removed{}) ||
		done.Remaining.Tags != 1 || done.Cutoff.IsZero() {
		t.Errorf("by the ttl of the configuration: %+v, %v", done, err)
	}
	var planned *server.Expiry
	await(t, "the image is due", func() bool {
		planned, err = srv.Expire(t.Context(), server.ExpireOptions{TTL: time.Millisecond, DryRun: true})
		return err == nil && planned.Removed.Blobs == 3
	})
	pull(t, client, front.URL, "app:v1") // nothing was removed
	var done *server.Expiry
	await(t, "the image is removed", func() bool { // a pull is a use
		done, err = srv.Expire(t.Context(), server.ExpireOptions{TTL: time.Millisecond})
		return err == nil && done.Removed.Tags == 1
	})
	if i := done.Images; len(i) != 1 || i[0].Repository != "app" || i[0].Tag != "v1" ||
		i[0].Digest != digest.String() || i[0].Reason != "ttl" || i[0].UniqueBytes != planned.FreedBytes {
		t.Errorf("removed %+v; planned %+v", done, planned)
	}
	await(t, "nothing is left", func() bool {
		stats, err := srv.Stats()
		if err == nil && stats.Blobs > 0 {
			_, err = srv.Expire(t.Context(), server.ExpireOptions{TTL: time.Millisecond})
		}
		return err == nil && stats == server.Stats{}
	})
	await(t, "the observer is told", func() bool { _, deleted := told.snapshot(); return len(deleted) == 3 })
	front.Close()
	if _, err := srv.Expire(t.Context(), server.ExpireOptions{TTL: -1}); err == nil {
		t.Error("a negative ttl is taken")
	}
	shutdown(t, srv)
	if _, err := srv.Expire(t.Context(), server.ExpireOptions{}); !errors.Is(err, server.ErrClosed) {
		t.Errorf("Expire after Shutdown: %v", err)
	}
}

// TestCallsEndWithTheServer, and none that is under way touches what is closed.
func TestCallsEndWithTheServer(t *testing.T) {
	srv := newServer(t, options(t))
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(srv.Collector())
	ended := make(chan error)
	for _, call := range []func() error{
		func() error {
			_, err := srv.Inspect(t.Context(), server.InspectOptions{Sort: server.ByName})
			return err
		},
		func() error { _, err := srv.Expire(t.Context(), server.ExpireOptions{}); return err },
		func() error {
			_, err := metrics.Gather()
			if _, closed := srv.Stats(); err == nil && closed != nil {
				err = server.ErrClosed
			}
			return err
		},
	} {
		go func() {
			for {
				if err := call(); err != nil && !errors.Is(err, server.ErrIncomplete) {
					ended <- err
					return
				}
			}
		}()
	}
	whole(t, srv)
	shutdown(t, srv)
	for range 3 {
		if err := <-ended; !errors.Is(err, server.ErrClosed) {
			t.Errorf("a call ended with %v; want ErrClosed", err)
		}
	}
}

// TestCollectorsOfTwoServersInOneRegistry are told apart by a label, and say nothing in the default one.
func TestCollectorsOfTwoServersInOneRegistry(t *testing.T) {
	registry := prometheus.NewRegistry()
	client := newClient(t)
	var servers []*server.Server
	for _, name := range []string{"a", "b"} {
		srv := newServer(t, options(t))
		servers = append(servers, srv)
		if err := prometheus.WrapRegistererWith(prometheus.Labels{"store": name},
			registry).Register(srv.Collector()); err != nil {
			t.Fatal(err)
		}
	}
	front := httptest.NewServer(servers[0])
	push(t, client, front.URL, "app:v1", newImage(t, 1))
	front.Close()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "dcs_store_objects" {
				name := ""
				for _, l := range m.Label {
					name += l.GetValue() + " "
				}
				got[name] = m.Gauge.GetValue()
			}
		}
	}
	for name, want := range map[string]float64{"tag a ": 1, "manifest a ": 1, "blob a ": 2, "tag b ": 0,
		"manifest b ": 0, "blob b ": 0} {
		if is, ok := got[name]; !ok || is != want {
			t.Errorf("%s: %v, %t; want %v", name, is, ok, want)
		}
	}
	for _, srv := range servers {
		shutdown(t, srv)
	}
	if _, err := registry.Gather(); err != nil {
		t.Errorf("after Shutdown: %v", err)
	}
	if names := metricNames(t); names["dcs_store_objects"] || names["dcs_build_info"] {
		t.Error("the default registry has metrics of dcs")
	}
}

// TestAServerIsAHandler of net/http.
func TestAServerIsAHandler(t *testing.T) {
	srv := newServer(t, options(t))
	var handler http.Handler = srv
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/v2/", nil))
	if body, err := io.ReadAll(w.Body); w.Code != 200 || err != nil || string(body) != "{}" {
		t.Errorf("ping: %d %s", w.Code, body)
	}
	shutdown(t, srv)
}
