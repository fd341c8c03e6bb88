package serve

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// pulled is what the index remembers of the pulls of all hours.
func (w *world) pulled() (sum index.Pulls) {
	w.Helper()
	err := w.s.store.Index.View(w.Context(), func(r index.Reader) error {
		return r.PullHistory(time.Time{}, func(p index.Pulls) error {
			sum.Hits, sum.Misses, sum.Bytes = sum.Hits+p.Hits, sum.Misses+p.Misses, sum.Bytes+p.Bytes
			return nil
		})
	})
	if err != nil {
		w.Fatal(err)
	}
	return sum
}

// TestPullsAreHitsAndMisses as far as clients wanted the content. With a HEAD they ask what they have to push.
func TestPullsAreHitsAndMisses(t *testing.T) {
	w := newWorldWith(t, func(cfg *config.Config) { cfg.Cache.GoneFor = 30 * 24 * time.Hour })
	img := w.image(1)
	w.push("app:v1", img)
	unknown := digestOf([]byte("unknown"))
	for _, method := range []string{"GET", "HEAD"} {
		w.want(http.StatusOK, method, "/v2/app/manifests/v1", nil, "")
		w.want(http.StatusNotFound, method, "/v2/app/manifests/v2", nil, "")
		w.want(http.StatusNotFound, method, "/v2/app/manifests/"+unknown, nil, "")
		w.want(http.StatusNotFound, method, "/v2/app/blobs/"+unknown, nil, "")
	}
	size, err := img.Size()
	if err != nil {
		t.Fatal(err)
	}
	await(t, w.s, map[string]float64{
		`dcs_pulls_total{kind="manifest",result="hit"}`: 1, `dcs_pulls_total{kind="manifest",result="miss"}`: 2,
		`dcs_pulls_total{kind="blob",result="hit"}`: 0, `dcs_pulls_total{kind="blob",result="miss"}`: 1,
		`dcs_pull_bytes_total{result="hit"}`: float64(size), `dcs_pull_bytes_total{result="miss"}`: 0,
	})
	want := index.Pulls{Hits: 1, Misses: 3, Bytes: size}
	w.s.writePulls(t.Context())
	w.s.writePulls(t.Context())
	if got := w.pulled(); got != want {
		t.Errorf("remembered %+v, want %+v", got, want)
	}
	w.want(http.StatusOK, "GET", "/v2/app/manifests/v1", nil, "")
	w.stop()
	w.start()
	want.Hits, want.Bytes = 2, 2*size
	if got := w.pulled(); got != want {
		t.Errorf("after a restart: remembered %+v, want %+v", got, want)
	}
}

func TestPullsAreNotRememberedWhereThatIsAskedFor(t *testing.T) {
	w := newWorldWith(t, func(cfg *config.Config) { cfg.Cache.GoneFor = 0 })
	w.want(http.StatusNotFound, "GET", "/v2/app/manifests/v1", nil, "")
	await(t, w.s, map[string]float64{`dcs_pulls_total{kind="manifest",result="miss"}`: 1})
	w.s.writePulls(t.Context())
	if got := w.pulled(); got != (index.Pulls{}) {
		t.Errorf("remembered %+v", got)
	}
}

// unwritable is an index that cannot write for a while.
type unwritable struct {
	index.Store
	full bool
	got  index.Pulls
}

func (u *unwritable) NotePulls(_ context.Context, n index.Pulls) error {
	if u.full {
		return index.ErrFull
	}
	u.got = n
	return nil
}

func TestPullsThatCannotBeWrittenAreWrittenLater(t *testing.T) {
	ix := &unwritable{full: true}
	p := &pulls{index: ix, log: quietLog()}
	get := event.Event{Kind: event.Pull, Hit: true, Request: event.Request{Method: "GET", Sent: 7}}
	p.observe(get)
	p.write(t.Context(), true)
	get.Hit = false
	p.observe(get)
	ix.full = false
	p.write(t.Context(), true)
	if want := (index.Pulls{Hits: 1, Misses: 1, Bytes: 7}); ix.got != want {
		t.Errorf("wrote %+v, want %+v", ix.got, want)
	}
	if n := testing.AllocsPerRun(100, func() { p.observe(get) }); n != 0 {
		t.Errorf("%v allocations for an event", n)
	}
}
