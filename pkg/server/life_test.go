package server_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/config"
	"github.com/jc-lab/docker-cache-server/pkg/server"
)

// occupied is a port that somebody listens on until free.
func occupied(t *testing.T) (port int, free func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().(*net.TCPAddr).Port, func() { l.Close() }
}

// started runs Start on any free port; the channel gets what it returns.
func started(t *testing.T, opts *server.Options) (srv *server.Server, url string, ended chan error) {
	t.Helper()
	srv = newServer(t, opts)
	ended = make(chan error, 1)
	go func() { ended <- srv.Start() }()
	await(t, "the server listens", func() bool { return srv.Addr() != nil })
	return srv, "http://" + srv.Addr().String(), ended
}

// wantEnd waits for Start, or Shutdown, to return nil.
func wantEnd(t *testing.T, what string, ended chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%s = %v", what, err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s does not return", what)
	}
}

func TestStartReturnsNilAfterShutdown(t *testing.T) {
	srv, url, ended := started(t, options(t))
	if got := status(t, newClient(t), "GET", url+"/v2/", "", ""); got != 200 {
		t.Errorf("ping: %d", got)
	}
	shutdown(t, srv)
	wantEnd(t, "Start", ended)
	if err := srv.Start(); !errors.Is(err, server.ErrClosed) || !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Start after Shutdown = %v; want ErrClosed", err)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
		t.Error("somebody still listens")
	}
}

// TestShutdownAtAnyTime: a signal may come before Start does, more than once, or from several sides.
func TestShutdownAtAnyTime(t *testing.T) {
	t.Run("without Start", func(t *testing.T) { shutdown(t, newServer(t, options(t))) })
	t.Run("before Start", func(t *testing.T) {
		opts := options(t)
		port, free := occupied(t) // so that an attempt to listen would be an error
		defer free()
		opts.Config.Server.Port = port
		srv := newServer(t, opts)
		shutdown(t, srv)
		if err := srv.Start(); !errors.Is(err, server.ErrClosed) {
			t.Errorf("Start = %v; want ErrClosed", err)
		}
	})
	t.Run("while Start begins", func(t *testing.T) {
		srv := newServer(t, options(t))
		ended := make(chan error, 1)
		go func() { ended <- srv.Start() }()
		shutdown(t, srv)
		if err := <-ended; err != nil && !errors.Is(err, server.ErrClosed) { // by who came first
			t.Errorf("Start = %v", err)
		}
	})
	t.Run("from several sides", func(t *testing.T) {
		srv, _, ended := started(t, options(t))
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() { shutdown(t, srv) })
		}
		callers.Wait()
		shutdown(t, srv)
		wantEnd(t, "Start", ended)
	})
}

func TestStartMayFailAndBeTriedAgain(t *testing.T) {
	opts := options(t)
	port, free := occupied(t)
	opts.Config.Server.Port = port
	srv := newServer(t, opts) // which does not listen
	if err := srv.Start(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Start on an occupied port = %v", err)
	}
	free()
	ended := make(chan error, 1)
	go func() { ended <- srv.Start() }()
	client, url := newClient(t), fmt.Sprintf("http://127.0.0.1:%d/v2/", port)
	await(t, "the second Start listens", func() bool {
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	if err := srv.Start(); err == nil || !strings.Contains(err.Error(), "started before") {
		t.Errorf("a third Start = %v", err)
	}
	if got := status(t, client, "GET", url, "", ""); got != 200 {
		t.Errorf("the server that runs was disturbed: %d", got)
	}
	shutdown(t, srv)
	wantEnd(t, "Start", ended)
}

// TestNewFailsCleanly: after an error nothing is left, and the directory is as it was.
func TestNewFailsCleanly(t *testing.T) {
	if _, err := server.New(nil); err == nil {
		t.Error("New without options succeeds")
	}
	if _, err := server.New(&server.Options{}); err == nil {
		t.Error("New without configuration succeeds")
	}
	for _, c := range []struct {
		what   string
		change func(*config.Config)
		is     func(error) bool
	}{
		{"a configuration that cannot be honoured", func(c *config.Config) { c.Cache.Grace = -1 },
			func(err error) bool { return errors.As(err, new(*config.Error)) }},
		{"nobody who could log in", func(c *config.Config) { c.Auth.Enabled = true },
			func(err error) bool { return errors.Is(err, server.ErrNoUsers) && !errors.Is(err, server.ErrLocked) }},
		{"a certificate that is not there", func(c *config.Config) {
			c.Server.TLS.Certificate,
				c.Server.TLS.Key = "none.pem", "none.key"
		},
			func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
	} {
		opts := options(t)
		opts.Config.Storage.Directory = filepath.Join(opts.Config.Storage.Directory, "data")
		c.change(opts.Config)
		srv, err := server.New(opts)
		if srv != nil || !c.is(err) {
			t.Errorf("%s: New = %v, %v", c.what, srv, err)
		}
		if _, err := os.Stat(opts.Config.Storage.Directory); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a data directory was made", c.what)
		}
	}
	opts := options(t)
	file := filepath.Join(opts.Config.Storage.Directory, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opts.Config.Storage.Directory = file
	if _, err := server.New(opts); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("New on a file = %v", err)
	}
}

func TestADirectoryHasOneServerAtATime(t *testing.T) {
	opts := options(t)
	first := newServer(t, opts)
	front := httptest.NewServer(first)
	client := newClient(t)
	push(t, client, front.URL, "app:v1", newImage(t, 1))
	if _, err := server.New(opts); !errors.Is(err, server.ErrLocked) ||
		!strings.Contains(err.Error(), opts.Config.Storage.Directory) ||
		!strings.Contains(err.Error(), "another server of this process") || strings.Contains(err.Error(), "pid") {
		t.Errorf("a second server = %v; want ErrLocked that names the directory, and says who holds it", err)
	}
	pull(t, client, front.URL, "app:v1") // undisturbed
	front.Close()
	shutdown(t, first)
	if _, err := first.Stats(); err == nil {
		t.Error("Stats after Shutdown is no error")
	}
	second := newServer(t, opts)
	front = httptest.NewServer(second)
	pull(t, client, front.URL, "app:v1")
	front.Close()
	shutdown(t, second)
}

// TestTheConfigurationIsCopied: programs change theirs for the next server.
func TestTheConfigurationIsCopied(t *testing.T) {
	opts := options(t)
	opts.Config.Auth.Enabled, opts.Config.Auth.Users = true, []config.User{{Username: "ci", Password: "pass"}}
	dir := opts.Config.Storage.Directory
	srv := newServer(t, opts)
	opts.Config.Storage.Directory, opts.Config.Auth.Users[0].Username = t.TempDir(), "other"
	if c := srv.Config(); c.Storage.Directory != dir || c.Auth.Users[0].Username != "ci" {
		t.Errorf("the server's configuration became %s, %s", c.Storage.Directory, c.Auth.Users[0].Username)
	}
	second := newServer(t, opts)
	shutdown(t, srv)
	shutdown(t, second)
}
