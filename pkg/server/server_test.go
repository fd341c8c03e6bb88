package server_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/jc-lab/docker-cache-server/pkg/config"
	"github.com/jc-lab/docker-cache-server/pkg/server"
)

// TestMain wants no goroutine left by any test of the package.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options are those of a server without login that says nothing, on a directory of its own.
func options(t *testing.T) *server.Options {
	t.Helper()
	cfg := config.DefaultConfig()
	cfg.Storage.Directory, cfg.Auth.Enabled = t.TempDir(), false
	cfg.Server.Address, cfg.Server.Port = "127.0.0.1", 0
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return &server.Options{Config: cfg, Logger: logger}
}

func newServer(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	srv, err := server.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

func shutdown(t *testing.T, srv *server.Server) {
	t.Helper()
	if err := srv.Shutdown(time.Minute); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// newClient is a client whose connections end with the test.
func newClient(t *testing.T) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // of a test
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// status is that of a request without a body; the answer is read to its end.
func status(t *testing.T, client *http.Client, method, url, user, password string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// TestTheServerKeepsTheConfigurationThatItGot changes every rule, user and proxy of a configuration after New.
func TestTheServerKeepsTheConfigurationThatItGot(t *testing.T) {
	opts := options(t)
	cfg := opts.Config
	cfg.Auth.Users = []config.User{{Username: "ci", Password: "secret"}}
	cfg.Cache.Rules = []config.Rule{{Keep: new(true), TTL: new(time.Hour), KeepLast: new(3)},
		{UntaggedTTL: new(time.Hour)}}
	cfg.Cache.MinFree = &config.Size{Percent: 5}
	srv := newServer(t, opts)
	defer shutdown(t, srv)
	cfg.Server.TrustedProxies[0], cfg.Auth.Users[0].Username = "10.0.0.0/8", "other"
	r := cfg.Cache.Rules
	*r[0].Keep, *r[0].TTL, *r[0].KeepLast, *r[1].UntaggedTTL = false, time.Minute, 4, time.Minute
	cfg.Cache.MinFree.Percent = 7
	changed := []string{"server.trusted_proxies", "auth.users", "cache.min_free", "cache.rules"}
	if got := cfg.Differs(srv.Config()); !slices.Equal(got, changed) {
		t.Errorf("%v differ, want %v", got, changed)
	}
	want := `{keep: true, ttl: 1h, keep_last: 3}, {untagged_ttl: 1h}`
	if got := srv.Config().Text("cache.rules"); got != want {
		t.Errorf("the rules of the server are %s", got)
	}
}

func reference(t *testing.T, url, image string) name.Reference {
	t.Helper()
	_, host, _ := strings.Cut(url, "://")
	ref, err := name.ParseReference(host + "/" + image)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func newImage(t *testing.T, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(512, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func push(t *testing.T, client *http.Client, url, image string, img v1.Image, opts ...remote.Option) {
	t.Helper()
	if err := remote.Write(reference(t, url, image), img, append(opts,
		remote.WithTransport(client.Transport))...); err != nil {
		t.Errorf("push %s: %v", image, err)
	}
}

// pull reads every byte of an image.
func pull(t *testing.T, client *http.Client, url, image string, opts ...remote.Option) {
	t.Helper()
	img, err := remote.Image(reference(t, url, image), append(opts, remote.WithTransport(client.Transport))...)
	if err != nil {
		t.Errorf("pull %s: %v", image, err)
		return
	}
	layers, err := img.Layers()
	if err != nil {
		t.Errorf("pull %s: %v", image, err)
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Errorf("pull %s: %v", image, err)
			continue
		}
		if _, err := io.Copy(io.Discard, r); err != nil { // checks the digest
			t.Errorf("pull %s: %v", image, err)
		}
		r.Close()
	}
}

// await polls until something holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain: " + what)
		}
	}
}

// seen collects what the callbacks tell.
type seen struct {
	mu       sync.Mutex // guards the rest
	accessed []string
	deleted  []string
}

func (s *seen) access(digest string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size <= 0 {
		digest += " without size"
	}
	s.accessed = append(s.accessed, digest)
}

func (s *seen) remove(digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted = append(s.deleted, digest)
}

func (s *seen) snapshot() (accessed, deleted []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.accessed), slices.Clone(s.deleted)
}

// TestAnImageIsKeptToldAndExpired is a life in another program; the server beside it hears of nothing.
func TestAnImageIsKeptToldAndExpired(t *testing.T) {
	client := newClient(t)
	var worlds [2]struct {
		srv  *server.Server
		http *httptest.Server
		seen seen
	}
	for i := range worlds {
		w := &worlds[i]
		opts := options(t)
		c := &opts.Config.Cache
		c.TTL, c.Grace, c.CleanupInterval = 5*time.Second, 4*time.Second, 100*time.Millisecond // a push takes less
		opts.OnBlobAccess, opts.OnBlobDelete = w.seen.access, w.seen.remove
		w.srv = newServer(t, opts)
		w.http = httptest.NewServer(w.srv)
	}
	img := newImage(t, 1)
	push(t, client, worlds[0].http.URL, "app:v1", img)
	stats, err := worlds[0].srv.Stats()
	if err != nil || stats.Tags != 1 || stats.Manifests != 1 || stats.Blobs != 3 || stats.Bytes == 0 {
		t.Errorf("stats %+v, %v; want one image of three blobs", stats, err)
	}
	await(t, "three blobs expire", func() bool {
		_, deleted := worlds[0].seen.snapshot()
		return len(deleted) == 3
	})
	for i := range worlds {
		w := &worlds[i]
		w.http.Close()
		shutdown(t, w.srv)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	accessed, deleted := worlds[0].seen.snapshot()
	slices.Sort(accessed)
	slices.Sort(deleted)
	if len(accessed) != 3 || !slices.Contains(accessed, digest.String()) || !slices.Equal(accessed, deleted) {
		t.Errorf("accessed %v, deleted %v; want config, layer and manifest %s, once each", accessed, deleted, digest)
	}
	if accessed, deleted := worlds[1].seen.snapshot(); len(accessed)+len(deleted) > 0 {
		t.Errorf("the other server was told %v %v", accessed, deleted)
	}
}

// A program knows what else its disk holds: no image goes for what stays free, unless the program says so.
func TestAServerInAProgramLeavesTheDiskToIt(t *testing.T) {
	for _, set := range []*config.Size{nil, {Percent: 7}} {
		opts := options(t)
		opts.Config.Cache.MinFree = set
		srv := newServer(t, opts)
		var want config.Size
		if set != nil {
			want = *set
		}
		if got := srv.Config().Cache.MinFree; got == nil || *got != want || got == set {
			t.Errorf("set %v: %v stays free, want %v", set, got, want)
		}
		shutdown(t, srv)
	}
}
