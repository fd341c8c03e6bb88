package serve

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// sampled is a world that looks at what its server records.
type sampled struct{ *world }

func newSampled(t *testing.T) sampled { return sampled{newWorld(t)} }

// saved saves, once all requests have told what they were, and reads the file as dcs inspect does.
func (w sampled) saved() inspect.WhatIf {
	w.Helper()
	for deadline := time.Now().Add(20 * time.Second); w.s.flights.count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatal("requests do not end")
		}
	}
	w.s.sampling.save()
	return w.read()
}

func (w sampled) read() inspect.WhatIf {
	w.Helper()
	r, err := inspect.ReadRecording(w.s.store.Dir)
	if err != nil {
		w.Fatal(err)
	}
	return inspect.Judge(r, w.totals().Bytes)
}

// wantPulls says how many pulls are in the file, and which part of their bytes a ttl of a day would have had, and one
// of a month.
func (w sampled) wantPulls(pulls int64, day, month float64) inspect.WhatIf {
	w.Helper()
	got := w.saved()
	if got.Pulls != pulls {
		w.Errorf("%d pulls; want %d", got.Pulls, pulls)
	}
	if pulls > 0 && (got.ByTTL[0].Bytes != day || got.ByTTL[4].Bytes != month) {
		w.Errorf("a day has %v of the bytes, a month %v; want %v and %v",
			got.ByTTL[0].Bytes, got.ByTTL[4].Bytes, day, month)
	}
	return got
}

// TestPullsAreRecorded, and nothing else that reads: an image of two layers is a manifest, a config and two layers.
func TestPullsAreRecorded(t *testing.T) {
	w := newSampled(t)
	w.push("app:v1", w.image(2))
	w.push("app:v1", w.image(2))
	w.push("other:v1", w.image(2))
	w.head("app:v1")
	w.flush()
	w.expire()
	if _, err := w.s.Inspect(t.Context(), inspect.Options{}); err != nil {
		t.Fatal(err)
	}
	w.do("GET", "/v2/_catalog", nil, "")
	w.do("GET", "/v2/app/tags/list", nil, "")
	w.gone("app:none", "none:v1")
	w.wantPulls(0, 0, 0)

	w.pass(2 * time.Hour)
	w.pull("app:v1")
	whole := w.wantPulls(4, 1, 1)
	if whole.Bytes < 2048 || whole.BySize[0].Bytes == 1 || whole.BySize[2].Bytes != 1 {
		t.Errorf("%+v", whole)
	}
	manifest := w.do("GET", "/v2/app/manifests/v1", nil, "")
	etag := manifest.Header.Get("Etag")
	w.do("HEAD", "/v2/app/manifests/v1", nil, "")
	w.wantPulls(5, 1, 1)
	o := &observed{world: w.world}
	if status := o.get("/v2/app/manifests/v1", "If-None-Match", etag).StatusCode; status != 304 {
		t.Errorf("a manifest that the client has: %d", status)
	}
	before := w.wantPulls(5, 1, 1)
	d := w.upload("app", randomBytes(1, 1000))
	o.get("/v2/app/blobs/"+d, "Range", "bytes=0-9")
	if after := w.wantPulls(6, 1, 1); after.Bytes != before.Bytes+10 {
		t.Errorf("10 bytes of a layer count as %d", after.Bytes-before.Bytes)
	}

	w.restart()
	if got := w.read(); got.Pulls != 6 {
		t.Errorf("%d pulls after a restart; want 6", got.Pulls)
	}
	w.pull("app:v1")
	w.wantPulls(10, 1, 1)
}

// TestWhatWasRemovedIsJudged: the server removed the image, and a longer ttl would have had it, with its layers.
func TestWhatWasRemovedIsJudged(t *testing.T) {
	for kind, push := range map[string]func(w sampled){
		"an image": func(w sampled) { w.push("app:v1", w.image(2)) },
		"an image index": func(w sampled) {
			index, err := random.Index(1024, 2, 1)
			if err != nil {
				w.Fatal(err)
			}
			w.pushIndex("app:v1", index)
		},
	} {
		t.Run(kind, func(t *testing.T) {
			w := newSampled(t)
			push(w)
			w.flush()
			bytes := w.totals().Bytes
			w.pass(ttl + 2*time.Minute)
			w.expire()
			w.pass(2 * 24 * time.Hour)
			for range 3 {
				w.gone("app:v1")
			}
			got := w.wantPulls(1, 0, 1)
			if got.MissedBytes != 1 || got.Bytes != bytes {
				t.Errorf("%+v; want %d bytes", got, bytes)
			}
		})
	}
}

// TestABadRecordingStopsNoServer: it is put aside, with a line in the log.
func TestABadRecordingStopsNoServer(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"noise":       func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("noise", 50_000)), 0o600) },
		"cut short":   func(path string) error { return os.Truncate(path, 5000) },
		"empty":       func(path string) error { return os.Truncate(path, 0) },
		"enormous":    func(path string) error { return os.Truncate(path, 1<<40) },
		"a directory": func(path string) error { return firstError(os.Remove(path), os.Mkdir(path, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newSampled(t)
			w.push("app:v1", w.image(1))
			w.stop()
			file := filepath.Join(w.dir, ".metadata/reuse")
			if err := damage(file); err != nil {
				t.Fatal(err)
			}
			w.start()
			w.pull("app:v1")
			w.wantPulls(3, 0, 0)
			if _, err := os.Lstat(file + ".broken"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAKilledSaveLeavesTheLastOne, and nothing of its own.
func TestAKilledSaveLeavesTheLastOne(t *testing.T) {
	w := newSampled(t)
	w.push("app:v1", w.image(1))
	w.pull("app:v1")
	w.wantPulls(3, 1, 1)
	file := w.s.sampling.sampler.Encode()
	staged, err := w.s.store.Tree.Stage(file[:len(file)/2]) // as far as a killed server came
	if err != nil {
		t.Fatal(err)
	}
	if got := w.read(); got.Pulls != 3 {
		t.Errorf("%+v", got)
	}
	w.restart()
	if _, err := staged.Open(); !os.IsNotExist(err) {
		t.Errorf("the staged file is still there: %v", err)
	}
	w.wantPulls(3, 1, 1)
}

// TestTwoServersOfOneProcessRecordTheirOwn pulls.
func TestTwoServersOfOneProcessRecordTheirOwn(t *testing.T) {
	a, b := newSampled(t), newSampled(t)
	for _, w := range []sampled{a, b} {
		w.push("app:v1", w.image(1))
		w.pull("app:v1")
	}
	a.pull("app:v1")
	a.wantPulls(6, 1, 1)
	b.wantPulls(3, 1, 1)
}

// TestWithoutMemoryNothingIsRecorded, and what was is kept.
func TestWithoutMemoryNothingIsRecorded(t *testing.T) {
	w := newSampled(t)
	w.push("app:v1", w.image(1))
	w.pull("app:v1")
	w.wantPulls(3, 1, 1)
	w.configure = func(c *config.Config) { c.Cache.WhatIfMemory = 0 }
	w.restart()
	w.pull("app:v1")
	if w.s.sampling != nil || w.read().Pulls != 3 {
		t.Error("something was recorded")
	}
}

// TestAManifestOfAnySizesIsRecorded, as a stock registry may have taken it: the recording can be read again.
func TestAManifestOfAnySizesIsRecorded(t *testing.T) {
	w := newSampled(t)
	says := &manifest.Manifest{}
	for _, name := range []string{"a", "b", "c"} {
		says.Parts = append(says.Parts, manifest.Part{Digest: digest.FromString(name), Size: math.MaxInt64, Blob: true})
	}
	pull := event.Event{Kind: event.Pull, Hit: true, Repository: "app", Tag: "v1", Digest: digest.FromString("image"),
		Size: 1000, Manifest: says, Request: event.Request{Method: "GET", Status: 200, Sent: 1000}}
	w.s.sampling.observe(pull)
	pull.Digest, pull.Tag = digest.FromString("index"), "all"
	pull.Manifest = &manifest.Manifest{Parts: []manifest.Part{{Digest: digest.FromString("image"), Size: math.MaxInt64}}}
	w.s.sampling.observe(pull)
	w.wantPulls(2, 0, 0)
}

// TestARecordingThatCannotBeSavedIsTriedAgain, also when no client pulls any more.
func TestARecordingThatCannotBeSavedIsTriedAgain(t *testing.T) {
	dir, err := tree.Open(tree.Dir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	s := newSampling(dir, 1<<20, nil, quietLog())
	s.observe(event.Event{Kind: event.Pull, Hit: true, Repository: "app", Digest: digest.FromString("layer"), Size: 1000,
		Request: event.Request{Method: "GET", Status: 200, Sent: 1000}})
	if err := os.MkdirAll(filepath.Join(dir.Reuse(), "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.saveChanges(t.Context())
	if err := os.RemoveAll(dir.Reuse()); err != nil {
		t.Fatal(err)
	}
	s.saveChanges(t.Context())
	if r, err := inspect.ReadRecording(dir.Dir); err != nil || r == nil || r.Summary().Pulls != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
