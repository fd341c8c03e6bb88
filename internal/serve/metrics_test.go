package serve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// scrape reads /metrics as Prometheus does.
func scrape(t *testing.T, s *Server) (text string, samples map[string]float64) {
	t.Helper()
	s.outlook.mu.Lock()
	s.outlook.patience = time.Minute // on a machine that is busy with other tests
	s.outlook.mu.Unlock()
	debug := httptest.NewServer(s.front.debug.Handler)
	defer debug.Close()
	resp, err := http.Get(debug.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s, %v\n%s", resp.Status, err, data)
	}
	samples = map[string]float64{}
	for line := range strings.Lines(string(data)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			samples[line[:i]] = value
		}
	}
	return string(data), samples
}

func wantSamples(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		if is, ok := got[name]; !ok || is != value {
			t.Errorf("%s is %v (there: %t); want %v", name, is, ok, value)
		}
	}
}

// TestAllThatCanBeCountedIsThereFromTheFirstScrape, so that an alert sees the first of it.
func TestAllThatCanBeCountedIsThereFromTheFirstScrape(t *testing.T) {
	w := newWorld(t)
	text, got := scrape(t, w.s)
	want := map[string]float64{
		`dcs_gc_runs_total{result="ok"}`: 0, `dcs_gc_runs_total{result="error"}`: 0,
		"dcs_gc_last_success_timestamp_seconds": 0, "dcs_gc_skipped_used_total": 0,
		"dcs_gc_freed_bytes_total": 0, "dcs_gc_run_duration_seconds_count": 0,
		`dcs_gc_images_total{reason="ttl"}`: 0, `dcs_gc_images_total{reason="untagged"}`: 0,
		`dcs_gc_images_total{reason="rule"}`: 0, `dcs_gc_images_total{reason="size"}`: 0,
		"dcs_evicted_age_seconds_count": 0, "dcs_over_budget_seconds_total": 0,
		"dcs_store_bytes": 0, `dcs_store_due_bytes{within="1d"}`: 0, `dcs_store_due_bytes{within="7d"}`: 0,
		"dcs_store_budget_bytes": 0, "dcs_store_reserved_bytes": 0,
		`dcs_uploads{state="active"}`: 0, `dcs_uploads{state="waiting"}`: 0,
		"dcs_cache_ttl_seconds": ttl.Seconds(), "dcs_cache_grace_seconds": grace.Seconds(),
	}
	for _, kind := range []string{"tag", "manifest", "blob"} {
		want[fmt.Sprintf("dcs_store_objects{kind=%q}", kind)] = 0
		want[fmt.Sprintf("dcs_gc_removed_total{kind=%q}", kind)] = 0
	}
	for _, result := range []string{"hit", "miss"} {
		want[fmt.Sprintf("dcs_pull_bytes_total{result=%q}", result)] = 0
		for _, kind := range []string{"manifest", "blob"} {
			want[fmt.Sprintf("dcs_pulls_total{kind=%q,result=%q}", kind, result)] = 0
		}
	}
	for _, result := range []string{"fresh", "written", "failed"} {
		want[fmt.Sprintf("dcs_leases_total{result=%q}", result)] = 0
	}
	for _, result := range []string{"ok", "challenged", "malformed", "unknown_user", "wrong_password", "rejected",
		"abandoned"} {
		want[fmt.Sprintf("dcs_auth_total{result=%q}", result)] = 0
	}
	wantSamples(t, got, want)
	free, size := got["dcs_store_free_bytes"], got["dcs_store_disk_bytes"]
	if free <= 0 || size < free {
		t.Errorf("%v bytes of %v are free", free, size)
	}
	if used := got["dcs_store_used_bytes"]; used < 4096 || used > size {
		t.Errorf("the data directory takes %v bytes", used)
	}
	build := regexp.MustCompile(`(?m)^dcs_build_info\{goversion="go1[^"]+",revision="[^"]*",version="[^"]+"\} 1$`)
	if !build.MatchString(text) {
		t.Error("nothing says which dcs this is")
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	for _, p := range problems {
		if !strings.HasPrefix(p.Metric, "go_") && !strings.HasPrefix(p.Metric, "process_") { // Prometheus's own
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// TestMetricsCountWhatIsStoredOnce, a manifest of two repositories too, once somebody looked.
func TestMetricsCountWhatIsStoredOnce(t *testing.T) {
	w := newWorld(t)
	img := w.image(2) // with config and manifest four files
	w.push("app:v1", img)
	w.push("app:v2", img)
	w.push("fork:v1", img)
	_, got := scrape(t, w.s)
	wantSamples(t, got, map[string]float64{`dcs_store_objects{kind="tag"}`: 3, `dcs_store_objects{kind="manifest"}`: 1,
		`dcs_store_objects{kind="blob"}`:   3,
		"dcs_store_bytes":                  float64(w.totals().Bytes),
		`dcs_store_due_bytes{within="1d"}`: float64(w.totals().Bytes)})
	w.push("other:v1", w.image(1)) // since the look, and no other comes so soon
	_, got = scrape(t, w.s)
	wantSamples(t, got, map[string]float64{`dcs_store_objects{kind="tag"}`: 4, `dcs_store_objects{kind="manifest"}`: 2,
		`dcs_store_objects{kind="blob"}`: 5})
}

// TestMetricsCostNoLookAtTheWholeStoreEach: one is made at most once a minute, whoever scrapes how often.
func TestMetricsCostNoLookAtTheWholeStoreEach(t *testing.T) {
	w := newWorld(t)
	look, looks := w.s.outlook.look, 0
	w.s.outlook.look = func(ctx context.Context) (inspect.Figures, bool, error) {
		looks++
		return look(ctx)
	}
	for range 50 {
		scrape(t, w.s)
	}
	if looks != 1 {
		t.Errorf("%d looks in 50 scrapes", looks)
	}
	w.s.outlook.mu.Lock()
	rest := time.Until(w.s.outlook.stale)
	w.s.outlook.stale = time.Now()
	w.s.outlook.mu.Unlock()
	if rest < outlookPause/2 {
		t.Errorf("the next look may come in %v", rest)
	}
	scrape(t, w.s)
	w.s.calls.all.Wait()
	if looks != 2 {
		t.Errorf("%d looks once the figures were old; want one more", looks)
	}
}

// TestMetricsSayNothingOfAnIndexThatIsNotWhole about what is due: they would say that it is little.
func TestMetricsSayNothingOfAnIndexThatIsNotWhole(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	token, err := w.s.store.Index.CloseGate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, got := scrape(t, w.s)
	if _, is := got[`dcs_store_due_bytes{within="1d"}`]; is || got[`dcs_store_objects{kind="tag"}`] != 1 {
		t.Errorf("while the index is compared with the disk: %v", got)
	}
	if _, err := w.s.store.Index.OpenGate(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	_, got = scrape(t, w.s)
	wantSamples(t, got, map[string]float64{`dcs_store_due_bytes{within="1d"}`: float64(w.totals().Bytes)})
}

// TestMetricsCountBytesAndLogins of each request.
func TestMetricsCountBytesAndLogins(t *testing.T) {
	var s *Server
	url, _ := guarded(t, func(cfg *config.Config, _ *Options) {
		cfg.Auth.Users = []config.User{{Username: "ci", Password: "s3cret"}}
	}, func(made *Server) { s = made })
	data := randomBytes(1, 50_000)
	sendAs(t, "GET", url+"/v2/", "", "", nil)
	sendAs(t, "GET", url+"/v2/", "eve", "x", nil)
	sendAs(t, "GET", url+"/v2/", "ci", "x", nil)
	begun := sendAs(t, "POST", url+"/v2/app/blobs/uploads/", "ci", "s3cret", nil)
	await(t, s, map[string]float64{`dcs_uploads{state="waiting"}`: 1, `dcs_uploads{state="active"}`: 0})
	sendAs(t, "PUT", begun.Header.Get("Location")+"&digest="+digestOf(data), "ci", "s3cret", data)
	await(t, s, map[string]float64{
		`dcs_auth_total{result="challenged"}`: 1, `dcs_auth_total{result="unknown_user"}`: 1,
		`dcs_auth_total{result="wrong_password"}`: 1,
		`dcs_auth_total{result="ok"}`:             2, `registry_http_request_bytes_total{handler="upload"}`: 50_000,
		`dcs_uploads{state="waiting"}`: 0,
	})
}

// TestMetricsCountUses of a tag: the first is written, those that follow within the resolution are fresh.
func TestMetricsCountUses(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	w.pass(ttl / 2)
	_, before := scrape(t, w.s)
	used := func() {
		w.Helper()
		a, err := http.Head(w.http.URL + "/v2/app/manifests/v1")
		if err != nil || a.Body.Close() != nil || a.StatusCode != http.StatusOK {
			t.Fatal(a, err)
		}
	}
	used()
	_, after := scrape(t, w.s)
	written, fresh := `dcs_leases_total{result="written"}`, `dcs_leases_total{result="fresh"}`
	if n := after[written] - before[written]; n == 0 || after[fresh] != before[fresh]+2-n {
		t.Errorf("the first use of a tag and its manifest: %v written, %v fresh", n, after[fresh]-before[fresh])
	}
	used()
	_, last := scrape(t, w.s)
	if last[written] != after[written] || last[fresh] != after[fresh]+2 {
		t.Errorf("the second use: %v written, %v fresh", last[written]-after[written], last[fresh]-after[fresh])
	}
}

// await scrapes until the samples are there: a request is counted after its answer.
func await(t *testing.T, s *Server, want map[string]float64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		_, got := scrape(t, s)
		missing := ""
		for name, value := range want {
			if got[name] != value {
				missing = fmt.Sprintf("%s is %v; want %v", name, got[name], value)
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(missing)
		}
	}
}

// TestARunIsCounted, and when the last one ended well.
func TestARunIsCounted(t *testing.T) {
	o := newObserved(t, func(cfg *config.Config, _ *Options) { cfg.Cache.CleanupInterval = 100 * time.Millisecond })
	before := float64(time.Now().Unix())
	o.awaitRun("a run", func() bool { return true })
	_, got := scrape(t, o.s)
	if n, at := got[`dcs_gc_runs_total{result="ok"}`], got["dcs_gc_last_success_timestamp_seconds"]; n < 1 ||
		at < before {
		t.Errorf("%v runs ended well, the last at %v; it is after %v", n, at, before)
	}
	wantSamples(t, got, map[string]float64{`dcs_gc_runs_total{result="error"}`: 0})
}
