package serve

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/registry"
)

// metrics are those of one server. Names that distribution has are kept, since dashboards exist.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	flying   prometheus.Gauge
	runs     *prometheus.CounterVec
	removed  *prometheus.CounterVec
	freed    prometheus.Counter
	running  prometheus.Histogram

	mu    sync.RWMutex // guards known; held over no I/O
	known map[kind]series
}

func newMetrics(ix index.Store) *metrics {
	m := &metrics{
		known:    map[kind]series{},
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "registry_http_requests_total", Help: "Requests answered."}, []string{"handler", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "registry_http_request_duration_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300}}, []string{"handler", "method"}),
		bytes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "registry_http_response_bytes_total", Help: "Bytes of answers' bodies."}, []string{"handler"}),
		flying:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "registry_http_in_flight_requests", Help: "Requests that are being answered."}),
		runs:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dcs_gc_runs_total", Help: "Expiry runs of this server."}, []string{"result"}),
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dcs_gc_removed_total", Help: "What expiry runs of this server removed."}, []string{"kind"}),
		freed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "dcs_gc_freed_bytes_total", Help: "Bytes of the blob files that expiry runs of this server removed."}),
		running: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dcs_gc_run_duration_seconds", Help: "Time that an expiry run took.", Buckets: []float64{.01, .1, 1, 10, 60, 600}}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.bytes, m.flying, m.runs, m.removed, m.freed, m.running, &stored{ix},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
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
	requests, bytes prometheus.Counter
	seconds         prometheus.Observer
}

func (m *metrics) request(method string, e registry.Exchange) {
	if !methods[method] {
		method = "other"
	}
	s := m.seriesOf(kind{e.Route, method, e.Status})
	s.requests.Inc()
	s.seconds.Observe(e.Took.Seconds())
	s.bytes.Add(float64(e.Sent))
}

func (m *metrics) seriesOf(k kind) series {
	m.mu.RLock()
	s, ok := m.known[k]
	m.mu.RUnlock()
	if !ok {
		s = series{m.requests.WithLabelValues(k.route, k.method, strconv.Itoa(k.status)), m.bytes.WithLabelValues(k.route), m.seconds.WithLabelValues(k.route, k.method)}
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
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.runs.WithLabelValues(result).Inc()
	m.running.Observe(float64(rep.DurationMS) / 1000)
	m.freed.Add(float64(rep.FreedBytes))
	for kind, n := range map[string]int64{"tag": rep.Removed.Tags, "manifest": rep.Removed.Manifests, "blob": rep.Removed.Blobs, "upload": rep.Removed.Uploads} {
		m.removed.WithLabelValues(kind).Add(float64(n))
	}
}

// stored reads the index's counters when somebody asks.
type stored struct{ index index.Store }

var (
	bytesDesc   = prometheus.NewDesc("dcs_store_bytes", "Bytes of all blobs on disk.", nil, nil)
	objectsDesc = prometheus.NewDesc("dcs_store_objects", "Objects on disk. Blobs count files, manifests included.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (s *stored) Describe(ch chan<- *prometheus.Desc) { ch <- bytesDesc; ch <- objectsDesc }

// Collect implements prometheus.Collector.
func (s *stored) Collect(ch chan<- prometheus.Metric) {
	t, err := totals(s.index)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(bytesDesc, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(t.Bytes))
	for kind, n := range map[string]int64{"tag": t.Tags, "manifest": t.Manifests, "blob": t.Blobs} {
		ch <- prometheus.MustNewConstMetric(objectsDesc, prometheus.GaugeValue, float64(n), kind)
	}
}

// debugHandler serves what operators and their machines ask. /livez: the process answers. /readyz: it
// takes requests, and its index can be read.
func (s *Server) debugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{ErrorLog: s.log}))
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	ready := func(w http.ResponseWriter, _ *http.Request) {
		if err := s.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
	mux.HandleFunc("/readyz", ready)
	mux.HandleFunc("/debug/health", ready)
	return mux
}

var errStopping = errors.New("shutting down")

func (s *Server) ready() error {
	select {
	case <-s.stopping:
		return errStopping
	default:
	}
	_, err := s.Stats()
	return err
}

// errorLog takes what net/http has to say, such as failed TLS handshakes: clients' troubles.
func (s *Server) errorLog() *log.Logger {
	return log.New(lines{s.log}, "", 0)
}

type lines struct{ log logrus.FieldLogger }

// Write implements io.Writer.
func (l lines) Write(p []byte) (int, error) {
	l.log.WithField("component", "http").Debug(string(p))
	return len(p), nil
}
