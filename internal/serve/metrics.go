package serve

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/registry"
)

// metrics are those of one server. Names that distribution has are kept, since dashboards exist. Whatever can be
// counted is there from the start, as 0, so that alerts see the first of it.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	received *prometheus.CounterVec
	sent     *prometheus.CounterVec
	flying   prometheus.Gauge
	logins   map[registry.Login]prometheus.Counter
	runs     map[string]prometheus.Counter
	lastRun  prometheus.Gauge
	removed  *prometheus.CounterVec
	freed    prometheus.Counter
	running  prometheus.Histogram

	mu    sync.RWMutex // guards known; held over no I/O
	known map[kind]series
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	logins, runs := counter("dcs_auth_total", "Logins, by what became of them.", "result"), counter("dcs_gc_runs_total", "Expiry runs of this server.", "result")
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: counter("registry_http_requests_total", "Requests answered.", "handler", "method", "code"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "registry_http_request_duration_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300}}, []string{"handler", "method"}),
		received: counter("registry_http_request_bytes_total", "Bytes of requests' bodies that were read.", "handler"),
		sent:     counter("registry_http_response_bytes_total", "Bytes of answers' bodies.", "handler"),
		flying:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "registry_http_in_flight_requests", Help: "Requests that are being answered."}),
		lastRun:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "dcs_gc_last_success_timestamp_seconds", Help: "When the last expiry run of this server ended well; 0: none yet."}),
		removed:  counter("dcs_gc_removed_total", "What expiry runs of this server removed.", "kind"),
		freed:    prometheus.NewCounter(prometheus.CounterOpts{Name: "dcs_gc_freed_bytes_total", Help: "Bytes of the blob files that expiry runs of this server removed."}),
		running:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dcs_gc_run_duration_seconds", Help: "Time that an expiry run took.", Buckets: []float64{.01, .1, 1, 10, 60, 600}}),
		logins:   map[registry.Login]prometheus.Counter{},
		runs:     map[string]prometheus.Counter{},
		known:    map[kind]series{},
	}
	for _, result := range registry.Logins {
		m.logins[result] = logins.WithLabelValues(string(result))
	}
	for _, result := range []string{"ok", "error"} {
		m.runs[result] = runs.WithLabelValues(result)
	}
	m.count(gc.Counts{})
	b := buildOf()
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "dcs_build_info", Help: "1, with what this dcs was built from.",
		ConstLabels: prometheus.Labels{"version": b.version, "revision": b.revision, "goversion": b.goversion}})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.seconds, m.received, m.sent, m.flying, logins, runs, m.lastRun, m.removed, m.freed, m.running, build)
	return m
}

// methods bounds the label: a client may send any word.
var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true}

// kind is what requests are told apart by.
type kind struct {
	route, method string
	status        int
}

// series are the metrics of a kind, which are not looked up by their labels for each request.
type series struct {
	requests, received, sent prometheus.Counter
	seconds                  prometheus.Observer
}

func (m *metrics) request(method string, e registry.Exchange) {
	if !methods[method] {
		method = "other"
	}
	s := m.seriesOf(kind{e.Route, method, e.Status})
	s.requests.Inc()
	s.seconds.Observe(e.Took.Seconds())
	s.received.Add(float64(e.Received))
	s.sent.Add(float64(e.Sent))
	if n := m.logins[e.Login]; n != nil { // nil: nobody needed one
		n.Inc()
	}
}

func (m *metrics) seriesOf(k kind) series {
	m.mu.RLock()
	s, ok := m.known[k]
	m.mu.RUnlock()
	if !ok {
		s = series{m.requests.WithLabelValues(k.route, k.method, strconv.Itoa(k.status)), m.received.WithLabelValues(k.route), m.sent.WithLabelValues(k.route), m.seconds.WithLabelValues(k.route, k.method)}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.known[k] = s
	}
	return s
}

func (m *metrics) inFlight(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.flying.Inc()
		defer m.flying.Dec()
		next.ServeHTTP(w, r)
	})
}

func (m *metrics) run(rep gc.Report, err error) {
	if err != nil {
		m.runs["error"].Inc()
	} else {
		m.runs["ok"].Inc()
		m.lastRun.SetToCurrentTime()
	}
	m.running.Observe(float64(rep.DurationMS) / 1000)
	m.freed.Add(float64(rep.FreedBytes))
	m.count(rep.Removed)
}

func (m *metrics) count(removed gc.Counts) {
	for kind, n := range map[string]int64{"tag": removed.Tags, "manifest": removed.Manifests, "blob": removed.Blobs, "upload": removed.Uploads} {
		m.removed.WithLabelValues(kind).Add(float64(n))
	}
}

// gauges are what a server knows about its store, when somebody asks.
type gauges struct{ s *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	bytesDesc   = desc("dcs_store_bytes", "Bytes of all blobs on disk, manifests included.")
	objectsDesc = desc("dcs_store_objects", "Objects on disk, each counted once: tags, manifests, and blobs that are no manifests.", "kind")
	freeDesc    = desc("dcs_store_free_bytes", "Bytes that the file system of the data directory has left for dcs.")
	diskDesc    = desc("dcs_store_disk_bytes", "Size of the file system of the data directory in bytes.")
	dueDesc     = desc("dcs_store_due_bytes", "Bytes of the blobs that are removed within this time if nobody uses them; of some minutes ago.", "within")
	uploadsDesc = desc("dcs_uploads", "Unfinished uploads: active in the hands of a request, waiting for their client.", "state")
	ttlDesc     = desc("dcs_cache_ttl_seconds", "The ttl that this server keeps; 0: for ever.")
	graceDesc   = desc("dcs_cache_grace_seconds", "The grace that this server keeps.")
)

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{bytesDesc, objectsDesc, freeDesc, diskDesc, dueDesc, uploadsDesc, ttlDesc, graceDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	policy := g.s.policy()
	set(ttlDesc, policy.TTL.Seconds())
	set(graceDesc, policy.Grace.Seconds())
	active, waiting := g.s.registry.Uploads(time.Now().Add(-policy.Grace))
	set(uploadsDesc, float64(active), "active")
	set(uploadsDesc, float64(waiting), "waiting")
	if free, size, err := g.s.store.Tree.Space(); err != nil {
		ch <- prometheus.NewInvalidMetric(freeDesc, err)
	} else {
		set(freeDesc, float64(free))
		set(diskDesc, float64(size))
	}
	t, err := g.s.Stats()
	switch {
	case err != nil && g.s.life.ending.Load():
		return // the index is closed
	case err != nil:
		ch <- prometheus.NewInvalidMetric(bytesDesc, err)
		return
	}
	figures, known := g.s.outlook.last()
	files := manifestFiles(t, figures)
	set(bytesDesc, float64(t.Bytes))
	set(objectsDesc, float64(t.Tags), "tag")
	set(objectsDesc, float64(files), "manifest")
	set(objectsDesc, float64(t.Blobs-files), "blob")
	if known {
		set(dueDesc, float64(figures.Day), "1d")
		set(dueDesc, float64(figures.Week), "7d")
	}
}

// manifestFiles is how many blobs are manifests. The index counts a manifest in each repository; how many of those
// are the same one was found by the last pass over the store.
func manifestFiles(t index.Totals, last inspect.Figures) int64 {
	return min(max(t.Manifests-(last.Manifests-last.Files), 0), t.Blobs)
}
