package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/jc-lab/docker-cache-server/pkg/config"
	"github.com/jc-lab/docker-cache-server/pkg/server"
	"github.com/prometheus/client_golang/prometheus"
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

// Start blocks until Shutdown. Where the configuration says port 0, Addr tells the port that was free.
func ExampleServer_Start() {
	cfg, logger, remove := exampleConfig()
	defer remove()
	srv, err := server.New(&server.Options{Config: cfg, Logger: logger})
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- srv.Start() }()
	for srv.Addr() == nil {
		time.Sleep(time.Millisecond)
	}
	resp, err := http.Get("http://" + srv.Addr().String() + "/v2/")
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println("ping:", resp.Status)
	fmt.Println("shut down:", srv.Shutdown(30*time.Second))
	fmt.Println("Start returned:", <-ended)
	fmt.Println("Start again:", srv.Start())
	// Output:
	// ping: 200 OK
	// shut down: <nil>
	// Start returned: <nil>
	// Start again: the server was shut down
}

// A context that ends cuts what is still in flight. Signals are one source of contexts (signal.NotifyContext).
func ExampleServer_ShutdownContext() {
	cfg, logger, remove := exampleConfig()
	defer remove()
	srv, err := server.New(&server.Options{Config: cfg, Logger: logger})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	fmt.Println("shut down:", srv.ShutdownContext(ctx))
	// Output: shut down: <nil>
}

// pushed is a registry with an image of one layer, behind a listener of the program.
func pushed(cfg *config.Config, logger *logrus.Logger) (srv *server.Server, web *httptest.Server) {
	srv, err := server.New(&server.Options{Config: cfg, Logger: logger})
	if err != nil {
		panic(err)
	}
	web = httptest.NewServer(srv)
	ref, err := name.ParseReference(strings.TrimPrefix(web.URL, "http://") + "/team/app:v1")
	if err != nil {
		panic(err)
	}
	image, err := random.Image(1<<20, 1)
	if err != nil {
		panic(err)
	}
	if err := remote.Write(ref, image); err != nil {
		panic(err)
	}
	for { // until the index was compared with the disk
		if found, err := srv.Inspect(context.Background(), server.InspectOptions{Limit: 1}); err != nil ||
			found.Complete {
			return srv, web
		}
		time.Sleep(time.Millisecond)
	}
}

// What is stored, largest first.
func ExampleServer_Inspect() {
	cfg, logger, remove := exampleConfig()
	defer remove()
	srv, web := pushed(cfg, logger)

	found, err := srv.Inspect(context.Background(), server.InspectOptions{Sort: server.BySize, Repository: "team/**",
		Limit: 10})
	if err != nil {
		panic(err)
	}
	for _, i := range found.Images {
		fmt.Println(i.Repository, i.Tags, i.Size > 1<<20, i.ExpiresAt.Sub(i.LastAccess).Round(time.Hour))
	}
	fmt.Println(found.Summary.Blobs, "blobs")

	web.Close()
	fmt.Println("shut down:", srv.Shutdown(30*time.Second))
	// Output:
	// team/app [v1] true 720h0m0s
	// 3 blobs
	// shut down: <nil>
}

// A dry run tells what a shorter ttl would remove. What is inside its grace, here an hour, stays.
func ExampleServer_Expire() {
	cfg, logger, remove := exampleConfig()
	defer remove()
	srv, web := pushed(cfg, logger)

	would, err := srv.Expire(context.Background(), server.ExpireOptions{TTL: 24 * time.Hour, DryRun: true})
	if err != nil {
		panic(err)
	}
	fmt.Println(len(would.Images), "images,", would.FreedBytes, "bytes;", would.Remaining.Tags, "tag stays")

	web.Close()
	fmt.Println("shut down:", srv.Shutdown(30*time.Second))
	// Output:
	// 0 images, 0 bytes; 1 tag stays
	// shut down: <nil>
}

// The metrics of a server belong to a registry of the program.
func ExampleServer_Collector() {
	cfg, logger, remove := exampleConfig()
	defer remove()
	srv, web := pushed(cfg, logger)

	metrics := prometheus.NewRegistry()
	metrics.MustRegister(srv.Collector()) // and for http: promhttp.HandlerFor(metrics, promhttp.HandlerOpts{})
	families, err := metrics.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() == "dcs_store_objects" {
			for _, m := range f.Metric {
				fmt.Println(m.Label[0].GetValue(), m.Gauge.GetValue())
			}
		}
	}

	web.Close()
	fmt.Println("shut down:", srv.Shutdown(30*time.Second))
	// Output:
	// blob 2
	// manifest 1
	// tag 1
	// shut down: <nil>
}

// A check that sees the request can tell readers from writers, and repositories apart.
func ExampleOptions() {
	cfg, logger, remove := exampleConfig()
	defer remove()
	srv, err := server.New(&server.Options{Config: cfg, Logger: logger,
		AuthorizeRequest: func(r *http.Request, username, password string) bool {
			if password != "pass" {
				return false
			}
			reads := r.Method == http.MethodGet || r.Method == http.MethodHead
			return username == "ci" || reads
		}})
	if err != nil {
		panic(err)
	}
	web := httptest.NewServer(srv)
	for _, user := range []string{"ci", "reader"} {
		req, err := http.NewRequest(http.MethodPost, web.URL+"/v2/team/app/blobs/uploads/", nil)
		if err != nil {
			panic(err)
		}
		req.SetBasicAuth(user, "pass")
		resp, err := web.Client().Do(req)
		if err != nil {
			panic(err)
		}
		resp.Body.Close()
		fmt.Println(user, "pushes:", resp.Status)
	}
	web.Close()
	fmt.Println("shut down:", srv.Shutdown(30*time.Second))
	// Output:
	// ci pushes: 202 Accepted
	// reader pushes: 401 Unauthorized
	// shut down: <nil>
}
