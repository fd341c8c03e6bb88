package serve

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// debugHandler answers operators and their machines. /livez: the process answers. /readyz: it takes requests, and its
// index can be read.
func (s *Server) debugHandler() http.Handler {
	mux := http.NewServeMux()
	all := prometheus.NewRegistry() // the process is dcs's own, so its metrics are, too
	all.MustRegister(s.metrics.Registry(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	scrape := promhttp.HandlerOpts{ErrorLog: s.log, ErrorHandling: promhttp.ContinueOnError}
	mux.Handle("/metrics", promhttp.HandlerFor(all, scrape))
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", s.answerReady)
	mux.HandleFunc("/debug/health", s.answerReady)
	return mux
}

func (s *Server) answerReady(w http.ResponseWriter, _ *http.Request) {
	if err := s.ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

var errStopping = errors.New("shutting down")

func (s *Server) ready() error {
	select {
	case <-s.life.stopping:
		return errStopping
	default:
	}
	_, err := s.Stats()
	return err
}
