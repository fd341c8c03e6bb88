// Package metrics has the Prometheus metrics of one server.
//
// It is told of events and, at a scrape, reads what the other rooms count; no room calls it. Names that distribution
// has are kept, since dashboards exist. Whatever can be counted is exported from the start, as 0, so that an alert
// sees the first increment. No label has values that a client chooses.
package metrics

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jc-lab/docker-cache-server/internal/event"
)

// Metrics are those of one server.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	received *prometheus.CounterVec
	sent     *prometheus.CounterVec
	logins   map[event.Login]prometheus.Counter
	runs     map[bool]prometheus.Counter // by whether they failed
	lastRun  prometheus.Gauge
	removed  *prometheus.CounterVec
	skipped  prometheus.Counter
	images   *prometheus.CounterVec
	evicted  prometheus.Histogram
	over     prometheus.Counter
	freed    prometheus.Counter
	running  prometheus.Histogram
	pulls    map[pull]prometheus.Counter
	pulled   map[bool]prometheus.Counter // bytes, by whether the pull was a hit

	mu    sync.RWMutex // guards known; held over no I/O
	known map[kind]series
}

// Build says what the program was built from.
type Build struct{ Version, Revision, GoVersion string }

const day = 24 * 3600 // seconds

// New makes the metrics of a server that was built from build, and registers them with no other registry.
func New(sources Sources, build Build) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	logins := counter("dcs_auth_total", "Logins, by their result.", "result")
	pulls := counter("dcs_pulls_total", "GET requests for manifests and blobs: a hit got the content, a miss 404.",
		"kind", "result")
	pulled := counter("dcs_pull_bytes_total", "Bytes of content that was sent for GET requests; none is for a miss.",
		"result")
	runs := counter("dcs_gc_runs_total", "Clean-ups of this server.", "result")
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: counter("registry_http_requests_total", "Requests answered.", "handler", "method", "code"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "registry_http_request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300}}, []string{"handler", "method"}),
		received: counter("registry_http_request_bytes_total", "Bytes of requests' bodies that were read.", "handler"),
		sent:     counter("registry_http_response_bytes_total", "Bytes of answers' bodies.", "handler"),
		lastRun: prometheus.NewGauge(prometheus.GaugeOpts{Name: "dcs_gc_last_success_timestamp_seconds",
			Help: "When the last clean-up of this server ended without an error; 0: none yet."}),
		removed: counter("dcs_gc_removed_total", "What clean-ups of this server removed.", "kind"),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{Name: "dcs_gc_skipped_used_total",
			Help: "Tags, manifests, links and blobs that a clean-up of this server left, since a client used them."}),
		images: counter("dcs_gc_images_total", "Images that clean-ups of this server removed.", "reason"),
		evicted: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dcs_evicted_age_seconds",
			Help:    "Time since the last use of images that went since there was too little room.",
			Buckets: []float64{3600, 6 * 3600, day, 3 * day, 7 * day, 14 * day, 30 * day, 90 * day}}),
		over: prometheus.NewCounter(prometheus.CounterOpts{Name: "dcs_over_budget_seconds_total",
			Help: "Time for which more was used than cache.max_size."}),
		freed: prometheus.NewCounter(prometheus.CounterOpts{Name: "dcs_gc_freed_bytes_total",
			Help: "Bytes of the blob files that clean-ups of this server removed."}),
		running: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dcs_gc_run_duration_seconds",
			Help: "Time that a clean-up took.", Buckets: []float64{.01, .1, 1, 10, 60, 600}}),
		logins: map[event.Login]prometheus.Counter{},
		runs:   map[bool]prometheus.Counter{false: runs.WithLabelValues("ok"), true: runs.WithLabelValues("error")},
		pulls:  map[pull]prometheus.Counter{},
		pulled: map[bool]prometheus.Counter{true: pulled.WithLabelValues("hit"), false: pulled.WithLabelValues("miss")},
		known:  map[kind]series{},
	}
	for _, route := range []string{"manifest", "blob"} {
		m.pulls[pull{route, true}] = pulls.WithLabelValues(route, "hit")
		m.pulls[pull{route, false}] = pulls.WithLabelValues(route, "miss")
	}
	for _, result := range event.Logins {
		m.logins[result] = logins.WithLabelValues(string(result))
	}
	m.countRemoved(event.Result{})
	for _, reason := range []string{"ttl", "untagged", "rule", "size"} {
		m.images.WithLabelValues(reason)
	}
	from := prometheus.Labels{"version": build.Version, "revision": build.Revision, "goversion": build.GoVersion}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "dcs_build_info",
		Help: "1, with what this dcs was built from.", ConstLabels: from})
	info.Set(1)
	m.registry.MustRegister(m.requests, m.seconds, m.received, m.sent, logins, runs, m.lastRun, m.removed,
		m.skipped, m.images, m.evicted, m.over, m.freed, m.running, pulls, pulled, info, gauges{sources})
	return m
}

// Registry has the metrics, to be served or to be registered elsewhere.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Observe counts an event. It may be called concurrently.
func (m *Metrics) Observe(e event.Event) {
	switch e.Kind {
	case event.Pull, event.Push, event.Answered:
		m.observeRequest(e.Request)
		if e.Fetched() {
			m.pulls[pull{e.Request.Route, e.Hit}].Inc()
			m.pulled[e.Hit].Add(contentOf(e))
		}
	case event.Run:
		m.observeRun(e.Result)
	case event.Gone:
		m.observeGone(e.Why)
	case event.OverBudget:
		m.over.Add(e.Result.Took.Seconds())
	}
}

// pull is what pulls are told apart by.
type pull struct {
	route string
	hit   bool
}

// contentOf is how many bytes of content were sent. The body of a miss is an error.
func contentOf(e event.Event) float64 {
	if !e.Hit {
		return 0
	}
	return float64(e.Request.Sent)
}

// methods bounds the label: a client may send any word.
var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true}

// kind is what requests are told apart by.
type kind struct {
	route, method string
	status        int
}

// series are the metrics of a kind, which are looked up by their labels once and not for each request.
type series struct {
	requests, received, sent prometheus.Counter
	seconds                  prometheus.Observer
}

func (m *Metrics) observeRequest(r event.Request) {
	if !methods[r.Method] {
		r.Method = "other"
	}
	s := m.seriesOf(kind{r.Route, r.Method, r.Status})
	s.requests.Inc()
	s.seconds.Observe(r.Took.Seconds())
	s.received.Add(float64(r.Received))
	s.sent.Add(float64(r.Sent))
	if n := m.logins[r.Login]; n != nil { // nil: no login was needed
		n.Inc()
	}
}

func (m *Metrics) seriesOf(k kind) series {
	m.mu.RLock()
	s, ok := m.known[k]
	m.mu.RUnlock()
	if !ok {
		s = series{m.requests.WithLabelValues(k.route, k.method, strconv.Itoa(k.status)),
			m.received.WithLabelValues(k.route), m.sent.WithLabelValues(k.route), m.seconds.WithLabelValues(k.route,
				k.method)}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.known[k] = s
	}
	return s
}

func (m *Metrics) observeRun(r event.Result) {
	m.runs[r.Failed].Inc()
	if !r.Failed {
		m.lastRun.SetToCurrentTime()
	}
	m.running.Observe(r.Took.Seconds())
	m.skipped.Add(float64(r.Skipped))
	m.freed.Add(float64(r.Freed))
	m.countRemoved(r)
}

func (m *Metrics) observeGone(w event.Why) {
	m.images.WithLabelValues(w.Reason).Inc()
	if w.Reason == "size" {
		m.evicted.Observe(w.Age.Seconds())
	}
}

func (m *Metrics) countRemoved(r event.Result) {
	removed := map[string]int64{"tag": r.Tags, "manifest": r.Manifests, "blob": r.Blobs, "upload": r.Uploads}
	for kind, n := range removed {
		m.removed.WithLabelValues(kind).Add(float64(n))
	}
}
