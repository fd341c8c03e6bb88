package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/registry"
)

// Sources are what the rooms of a server count. A scrape calls each of them once; none makes a pass over the store.
type Sources struct {
	// Policy is what the server promises now.
	Policy func() index.Policy
	// InFlight is how many requests are being answered.
	InFlight func() int
	// Registry counts unfinished uploads and leases.
	Registry func() registry.Stats
	// Space is what the file system of the data directory has, in bytes.
	Space func() (free, size int64, err error)
	// Totals are the counters of the index.
	Totals func() (index.Totals, error)
	// Outlook has the figures of the last pass over the store; false: there was none yet.
	Outlook func() (inspect.Figures, bool)
	// Ended says that the server was shut down: its index is closed, which is no error.
	Ended func() bool
}

// gauges export what the sources say at the time of a scrape.
type gauges struct{ sources Sources }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	flyingDesc  = desc("registry_http_in_flight_requests", "Requests that are being answered.")
	bytesDesc   = desc("dcs_store_bytes", "Bytes of all blobs on disk, manifests included.")
	objectsDesc = desc("dcs_store_objects",
		"Objects on disk, each counted once: tags, manifests, and blobs that are no manifests.", "kind")
	freeDesc   = desc("dcs_store_free_bytes", "Bytes that the file system of the data directory has left for dcs.")
	budgetDesc = desc("dcs_store_budget_bytes", "What cache.max_size is in bytes; 0: there is no budget.")
	diskDesc   = desc("dcs_store_disk_bytes", "Size of the file system of the data directory in bytes.")
	dueDesc    = desc("dcs_store_due_bytes",
		"Bytes of the blobs that are removed within this time if they stay unused; some minutes old.", "within")
	uploadsDesc = desc("dcs_uploads",
		"Unfinished uploads: active while a request sends to them, waiting for their client otherwise.", "state")
	leasesDesc = desc("dcs_leases_total",
		"Uses by clients: fresh if one was written within the resolution, else written to the index, or failed.",
		"result")
	ttlDesc   = desc("dcs_cache_ttl_seconds", "The ttl of this server; 0: images are kept forever.")
	graceDesc = desc("dcs_cache_grace_seconds", "The grace of this server.")
)

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{flyingDesc, bytesDesc, objectsDesc, freeDesc, diskDesc, budgetDesc, dueDesc,
		uploadsDesc, leasesDesc, ttlDesc, graceDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	policy, clients := g.sources.Policy(), g.sources.Registry()
	set(ttlDesc, policy.TTL.Seconds())
	set(graceDesc, policy.Grace.Seconds())
	set(flyingDesc, float64(g.sources.InFlight()))
	set(uploadsDesc, float64(clients.Active), "active")
	set(uploadsDesc, float64(clients.Waiting), "waiting")
	for result, n := range map[string]int64{"fresh": clients.Leases.Fresh, "written": clients.Leases.Written,
		"failed": clients.Leases.Failed} {
		ch <- prometheus.MustNewConstMetric(leasesDesc, prometheus.CounterValue, float64(n), result)
	}
	if free, size, err := g.sources.Space(); err != nil {
		ch <- prometheus.NewInvalidMetric(freeDesc, err)
	} else {
		set(freeDesc, float64(free))
		set(diskDesc, float64(size))
		set(budgetDesc, float64(policy.Budget.MaxSize.Of(size)))
	}
	t, err := g.sources.Totals()
	switch {
	case err != nil && g.sources.Ended():
		return
	case err != nil:
		ch <- prometheus.NewInvalidMetric(bytesDesc, err)
		return
	}
	figures, known := g.sources.Outlook()
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

// manifestFiles is how many blobs are manifests. The index counts a manifest once in each repository; how many of those
// are the same file was found by the last pass over the store.
func manifestFiles(t index.Totals, last inspect.Figures) int64 {
	return min(max(t.Manifests-(last.Manifests-last.Files), 0), t.Blobs)
}
