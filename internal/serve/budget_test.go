package serve

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// megabyte pushes an image of about a megabyte.
func (w *world) megabyte(reference string, seed uint64) {
	w.Helper()
	layer, conf := randomBytes(seed, 1_000_000), "{}"
	w.put("app", reference, map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
		"config": descriptor(ociConfig, w.upload("app", []byte(conf)), len(conf)),
		"layers": []any{descriptor(ociLayer, w.upload("app", layer), len(layer))}})
	w.flush()
}

// farm pushes app:0 to app:n-1, of about a megabyte each, an hour after each other.
func (w *world) farm(n int) {
	w.Helper()
	for i := range n {
		w.megabyte(fmt.Sprint(i), uint64(i))
		w.pass(time.Hour)
	}
}

// left returns the tags of app.
func (w *world) left() string {
	w.Helper()
	resp := w.want(200, http.MethodGet, "/v2/app/tags/list", nil, "")
	return string(w.read(resp))
}

func (w *world) awaitLeft(tags string) {
	w.Helper()
	w.await("the tags "+tags+" are left", func() bool { return strings.Contains(w.left(), "["+tags+"]") })
}

// TestAServerAboveItsMarkEvictsWhatWasUsedLeastRecently keeps what clients pulled in the meantime, and says what it
// does before. A budget that is lowered on a running server counts at once.
func TestAServerAboveItsMarkEvictsWhatWasUsedLeastRecently(t *testing.T) {
	w := newWorldWith(t, func(cfg *config.Config) { cfg.Cache.TTL = 0 })
	var log bytes.Buffer
	w.s.log.SetOutput(&log)
	w.s.log.SetFormatter(&logrus.JSONFormatter{})
	w.farm(10)
	w.pull("app:0")
	w.pull("app:3")
	w.pass(2 * time.Hour)
	budget := (w.takes() + 500_000) / 95 * 100
	w.bounded(budget)
	w.megabyte("new", 100)
	var gone int
	w.await("what went is counted, and the store is below its mark", func() bool {
		gone = 11 - strings.Count(w.left(), ",") // the first comma is behind the name
		_, got := scrape(t, w.s)
		return gone > 0 && got[`dcs_gc_images_total{reason="size"}`] == float64(gone) &&
			got["dcs_evicted_age_seconds_count"] == float64(gone) &&
			got["dcs_store_budget_bytes"] == float64(budget) && w.takes() <= budget/100*95
	})
	left := w.left()
	for i, tag := range strings.Fields("1 2 4 5 6 7 8 9 0 3 new") { // in the order of their last use
		if stays := strings.Contains(left, `"`+tag+`"`); stays != (i >= gone) {
			t.Errorf("%d went, and app:%s stays is %v: %s", gone, tag, stays, left)
		}
	}
	r, err := w.reloaded(func(cfg *config.Config) { cfg.Cache.MaxSize.Bytes /= 10 })
	if err != nil || fmt.Sprint(r.Taken) != "[cache.max_size]" {
		t.Fatalf("%+v, %v", r, err)
	}
	w.awaitLeft(`"new"`) // in its grace
	w.await("the time above the budget is counted", func() bool {
		_, got := scrape(t, w.s)
		return got["dcs_over_budget_seconds_total"] > 0
	})
	w.s.log.SetOutput(io.Discard)
	said := strings.Index(log.String(), "too little room: the images that were used least recently go")
	if went := strings.Index(log.String(), "removed image"); said < 0 || said > went {
		t.Errorf("what it does is said at %d of the log, and done at %d:\n%s", said, went, &log)
	}
}

// A server that runs for months sees its disk grow. What it evicts by and what it refuses by are one budget.
func TestAShareOfTheDiskFollowsItsSize(t *testing.T) {
	w := newWorld(t)
	if _, err := w.reloaded(func(cfg *config.Config) { cfg.Cache.MaxSize.Percent = 50 }); err != nil {
		t.Fatal(err)
	}
	want := w.s.room.Stats().Budget
	w.s.room.SetBudget(want / 2) // that of the disk as it was
	w.await("the share of the disk as it is", func() bool { return w.s.room.Stats().Budget == want })
}
