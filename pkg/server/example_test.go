package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/config"
	"github.com/jc-lab/docker-cache-server/pkg/server"
	"github.com/sirupsen/logrus"
)

// The example of the project's ancestor, as its README has it.
func Example() {
	cfg := config.DefaultConfig()
	cfg.Server.Port = 5000
	cfg.Cache.TTL = 30 * 24 * time.Hour // 30 days

	logger := logrus.New()
	logger.SetLevel(logrus.DebugLevel)

	srv, err := server.New(&server.Options{
		Config: cfg,
		Logger: logger,
		AuthValidator: func(username, password string) bool {
			return username == "custom" && password == "pass"
		},
		OnBlobAccess: func(digest string, size int64) {
			logger.Infof("Blob accessed: %s (size: %d)", digest, size)
		},
	})
	if err != nil {
		logger.Fatal(err)
	}

	if err := srv.Start(); err != nil {
		logger.Fatal(err)
	}
}

// exampleConfig is a server without login on a directory that is gone afterwards.
func exampleConfig() (cfg *config.Config, logger *logrus.Logger, remove func()) {
	dir, err := os.MkdirTemp("", "dcs")
	if err != nil {
		panic(err)
	}
	cfg = config.DefaultConfig()
	cfg.Storage.Directory = dir
	cfg.Auth.Enabled = false
	cfg.Server.Address, cfg.Server.Port = "127.0.0.1", 0
	logger = logrus.New()
	logger.SetOutput(io.Discard)
	return cfg, logger, func() { os.RemoveAll(dir) }
}

// A program that has a listener of its own mounts the server below /v2/. It closes the listener first.
func ExampleServer_ServeHTTP() {
	cfg, logger, remove := exampleConfig()
	defer remove()
	srv, err := server.New(&server.Options{Config: cfg, Logger: logger})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", srv)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "pages of the program") })
	web := httptest.NewServer(mux)

	for _, path := range []string{"/v2/", "/about"} {
		resp, err := web.Client().Get(web.URL + path)
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(path, resp.Status, string(body))
	}

	web.Close()
	fmt.Println("shut down:", srv.Shutdown(30*time.Second))
	// Output:
	// /v2/ 200 OK {}
	// /about 200 OK pages of the program
	// shut down: <nil>
}

// Start blocks. The end of a context, of which signals are one source, ends it.
func ExampleServer_Shutdown() {
	cfg, logger, remove := exampleConfig()
	defer remove()
	srv, err := server.New(&server.Options{Config: cfg, Logger: logger})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond) // or signal.NotifyContext
	defer cancel()
	context.AfterFunc(ctx, func() {
		if err := srv.Shutdown(30 * time.Second); err != nil {
			logger.WithError(err).Error("not all came to an end")
		}
	})
	fmt.Println("ended:", srv.Start())
	// Output: ended: <nil>
}
