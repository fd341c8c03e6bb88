package server_test

import (
	"bytes"
	"expvar"
	"flag"
	"fmt"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

// process is what belongs to the whole program, as text, so that what changed can be named.
func process(t *testing.T) map[string]string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var vars, flags []string
	expvar.Do(func(kv expvar.KeyValue) { vars = append(vars, kv.Key) })
	flag.VisitAll(func(f *flag.Flag) { flags = append(flags, f.Name+"="+f.Value.String()) })
	std := logrus.StandardLogger()
	p := map[string]string{
		"logrus": fmt.Sprintf("%p %T %p %v %v %v", std.Out, std.Formatter, std.Formatter, std.Level,
			std.Hooks, std.ReportCaller),
		"log":                   fmt.Sprintf("%p %s %d", log.Default().Writer(), log.Prefix(), log.Flags()),
		"default mux":           fmt.Sprintf("%v", http.DefaultServeMux),
		"default transport":     fmt.Sprintf("%p", http.DefaultTransport),
		"default client":        fmt.Sprintf("%+v", *http.DefaultClient),
		"environment":           strings.Join(os.Environ(), "\n"),
		"working directory":     dir,
		"flags":                 strings.Join(flags, " "),
		"expvar":                strings.Join(vars, " "),
		"time zone":             fmt.Sprintf("%p", time.Local),
		"prometheus registerer": fmt.Sprintf("%p %p", prometheus.DefaultRegisterer, prometheus.DefaultGatherer),
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1} {
		p[s.String()] = fmt.Sprintf("ignored %t", signal.Ignored(s))
	}
	return p
}

// metricNames are those of the program's own registry.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
	}
	return names
}

// TestTwoServersUnderLoadTouchNothingThatIsNotTheirs and leave nothing behind.
func TestTwoServersUnderLoadTouchNothingThatIsNotTheirs(t *testing.T) {
	// Distribution's own packages keep vectors of their storage driver's timings in the default registry,
	// from their init on. They have lines once a driver was used. Whatever else is new would be ours.
	const distributions = "registry_storage_"
	var global bytes.Buffer
	logrus.SetOutput(&global)
	defer logrus.SetOutput(os.Stderr)
	before, metrics := process(t), metricNames(t)

	var servers sync.WaitGroup
	for range 2 {
		opts := options(t)
		opts.Config.Cache.CleanupInterval = 100 * time.Millisecond
		var told seen
		opts.OnBlobAccess, opts.OnBlobDelete = told.access, told.remove
		srv := newServer(t, opts)
		servers.Go(func() {
			front, client := httptest.NewServer(srv), newClient(t)
			var clients sync.WaitGroup
			for c := range 4 {
				clients.Go(func() {
					for i := range 5 {
						image := fmt.Sprintf("app%d:v%d", c, i)
						push(t, client, front.URL, image, newImage(t, 3))
						pull(t, client, front.URL, image)
						if got := status(t, client, "GET", front.URL+"/v2/none/manifests/v1", "", ""); got != 404 {
							t.Errorf("what there is not: %d", got)
						}
					}
				})
			}
			clients.Wait()
			client.CloseIdleConnections()
			front.Close()
			shutdown(t, srv)
			if accessed, _ := told.snapshot(); len(accessed) != 4*5*(5+4) { // 5 parts pushed, 4 pulled
				t.Errorf("told of %d uses; want %d", len(accessed), 4*5*(5+4))
			}
		})
	}
	servers.Wait()

	after := process(t)
	for what, was := range before {
		if is := after[what]; is != was {
			t.Errorf("%s was\n%s\nand is\n%s", what, was, is)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(metricNames(t))) {
		if !metrics[name] && !strings.HasPrefix(name, distributions) {
			t.Errorf("metric %s is new in the default registry", name)
		}
	}
	if global.Len() > 0 {
		t.Errorf("the standard logger got\n%s", &global)
	}
	goleak.VerifyNone(t)
}
