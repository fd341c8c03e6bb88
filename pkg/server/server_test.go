package server_test

import (
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/jc-lab/docker-cache-server/pkg/config"
	"github.com/jc-lab/docker-cache-server/pkg/server"
)

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

// TestTwoServersInOneProcess lets them live, expire and go, each on its own; nothing stays behind.
func TestTwoServersInOneProcess(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(),
		goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"), // of this test's client
		goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run")) // distribution's, which nothing can end
	standard := logrus.StandardLogger().Level
	var worlds [2]struct {
		srv  *server.Server
		http *httptest.Server
		seen seen
	}
	for i := range worlds {
		w := &worlds[i]
		cfg := config.DefaultConfig()
		cfg.Storage.Directory, cfg.Auth.Enabled = t.TempDir(), false
		cfg.Cache.TTL, cfg.Cache.Grace, cfg.Cache.CleanupInterval = time.Second, 500*time.Millisecond, 100*time.Millisecond
		logger := logrus.New()
		logger.SetOutput(io.Discard)
		var err error
		w.srv, err = server.New(&server.Options{Config: cfg, Logger: logger, OnBlobAccess: w.seen.access, OnBlobDelete: w.seen.remove})
		if err != nil {
			t.Fatal(err)
		}
		w.http = httptest.NewServer(w.srv)
	}
	img, err := random.Image(512, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(worlds[0].http.URL, "http://") + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	stats, err := worlds[0].srv.Stats()
	if err != nil || stats.Tags != 1 || stats.Manifests != 1 || stats.Blobs != 3 || stats.Bytes == 0 {
		t.Errorf("stats %+v, %v; want one image of three blobs", stats, err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, deleted := worlds[0].seen.snapshot(); len(deleted) == 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the blobs do not expire")
		}
	}
	for i := range worlds {
		w := &worlds[i]
		w.http.Close()
		if err := w.srv.Shutdown(time.Second); err != nil {
			t.Error(err)
		}
	}
	accessed, _ := worlds[0].seen.snapshot()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if len(accessed) != 3 || !slices.Contains(accessed, digest.String()) {
		t.Errorf("accessed %v; want config, layer and manifest %s, once each", accessed, digest)
	}
	if accessed, deleted := worlds[1].seen.snapshot(); len(accessed)+len(deleted) > 0 {
		t.Errorf("the other server was told %v %v", accessed, deleted)
	}
	if logrus.StandardLogger().Level != standard {
		t.Error("the standard logger was touched")
	}
}

func TestStartReturnsNilAfterShutdown(t *testing.T) {
	cfg := config.DefaultConfig()
	cfg.Storage.Directory, cfg.Server.Address, cfg.Server.Port = t.TempDir(), "127.0.0.1", 0
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	srv, err := server.New(&server.Options{Config: cfg, Logger: logger, AuthValidator: func(string, string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Start() }()
	if err := srv.Shutdown(time.Second); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Start = %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Start does not return")
	}
	if _, err := server.New(nil); err == nil {
		t.Error("New without options succeeds")
	}
}
