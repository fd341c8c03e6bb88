package serve

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

func TestAMultiArchIndexLivesAndGoesAsAWhole(t *testing.T) {
	w := newWorld(t)
	idx, err := random.Index(512, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	w.pushIndex("multi:v1", idx)
	w.keepUsing(3, func() { w.head("multi:v1") }) // the other platforms are never asked for
	w.pull("multi:v1")
	w.pass(ttl + 2*time.Minute)
	rep := w.expire()
	if len(rep.Images) != 1 || rep.Images[0].Tag != "v1" || rep.Removed.Manifests != 4 {
		t.Errorf("removed %+v, images %+v; want one image of four manifests", rep.Removed, rep.Images)
	}
	w.empty()
}

func TestAChildAskedForByDigestDoesNotKeepItsIndex(t *testing.T) {
	w := newWorld(t)
	used, other := w.pushTwoPlatforms("multi:v1")
	w.pass(ttl)
	w.want(200, "GET", "/v2/multi/manifests/"+used, nil, "")
	w.pass(2 * time.Minute)
	w.expire()
	w.gone("multi:v1", "multi@"+other)
	w.pull("multi@" + used)
}

// TestAChildPulledWithItsLayersKeepsItsIndex since who reads a layer's bytes uses the last used image that holds it:
// here that is the tag, with both platforms.
func TestAChildPulledWithItsLayersKeepsItsIndex(t *testing.T) {
	w := newWorld(t)
	used, other := w.pushTwoPlatforms("multi:v1")
	w.pass(ttl)
	w.pull("multi@" + used)
	w.pass(2 * time.Minute)
	w.expire()
	w.pull("multi:v1")
	w.pull("multi@" + other)
}

// pushTwoPlatforms pushes an image index of two platforms, and returns their digests.
func (w *world) pushTwoPlatforms(ref string) (one, other string) {
	w.Helper()
	idx, err := random.Index(512, 1, 2)
	if err != nil {
		w.Fatal(err)
	}
	w.pushIndex(ref, idx)
	m, err := idx.IndexManifest()
	if err != nil {
		w.Fatal(err)
	}
	return m.Manifests[0].Digest.String(), m.Manifests[1].Digest.String()
}

func TestLayersThatNobodyAsksForLiveWithTheirImage(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(3))
	w.keepUsing(5, func() { w.head("app:v1") }) // docker has the layers already: it only asks for the manifest
	w.pull("app:v1")
}

func TestWhatTwoImagesShareStaysAsLongAsOneLives(t *testing.T) {
	w := newWorld(t)
	shared := w.upload("a", []byte("shared layer"))
	w.want(201, "POST", "/v2/b/blobs/uploads/?mount="+shared+"&from=a", nil, "")
	image := func(repo, own string) string {
		config, layer := w.upload(repo, []byte(`{"c":"`+own+`"}`)), w.upload(repo, []byte("only "+own))
		return w.put(repo, "v1", map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
			"config": descriptor(ociConfig, config, 9),
			"layers": []any{descriptor(ociLayer, shared, 12), descriptor(ociLayer, layer, 6)}})
	}
	image("a", "a")
	image("b", "b")
	w.pass(ttl - time.Minute)
	w.pull("b:v1")
	w.pass(3 * time.Minute)
	rep := w.expire()
	w.gone("a:v1")
	w.pull("b:v1")
	if rep.Removed.Blobs != 3 {
		t.Errorf("removed %d blob files; want manifest, config and own layer of a", rep.Removed.Blobs)
	}
	w.want(404, "HEAD", "/v2/a/blobs/"+shared, nil, "") // the link went with a
	w.pass(ttl + 2*time.Minute)
	w.expire()
	w.empty()
}

func TestAReferrerLivesAsLongAsItsSubject(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	subject := hashOf(t, img)
	empty := w.upload("app", []byte("{}"))
	sbom := w.upload("app", []byte("bill of materials"))
	referrer := w.put("app", "", map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
		"artifactType": "application/spdx+json",
		"config": descriptor("application/vnd.oci.empty.v1+json", empty,
			2), "layers": []any{descriptor("application/spdx+json", sbom, 17)},
		"subject": descriptor(ociManifest, subject, 1)})
	w.keepUsing(3, func() { w.head("app:v1") })
	w.pull("app@" + referrer)
	w.pass(ttl + 2*time.Minute)
	w.expire()
	w.gone("app:v1", "app@"+referrer)
	w.empty()
}

func TestABuildKitCacheIndexHoldsItsLayers(t *testing.T) {
	w := newWorld(t)
	layer, cfg := w.upload("cache", []byte("cached layer")), w.upload("cache", []byte(`{"layers":[]}`))
	w.put("cache", "main", map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{
		descriptor(ociLayer, layer, 12), descriptor(ociLayer, layer,
			12), descriptor("application/vnd.buildkit.cacheconfig.v0", cfg, 13)}})
	w.keepUsing(3, func() { w.want(200, "GET", "/v2/cache/manifests/main", nil, "") })
	w.want(200, "GET", "/v2/cache/blobs/"+layer, nil, "")
	w.want(200, "GET", "/v2/cache/blobs/"+cfg, nil, "")
	w.pass(ttl + 2*time.Minute)
	w.expire()
	w.empty()
}

func TestAnIndexWithAMissingChildIsRefused(t *testing.T) {
	w := newWorld(t)
	absent := digestOf([]byte("absent"))
	body, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociIndex,
		"manifests": []any{descriptor(ociManifest, absent, 6)}})
	if err != nil {
		t.Fatal(err)
	}
	resp := w.want(400, "PUT", "/v2/app/manifests/v1", body, ociIndex)
	errs := errorsOf(t, resp)
	if errs[0].Code != "MANIFEST_BLOB_UNKNOWN" || !strings.Contains(string(errs[0].Detail), absent) {
		t.Errorf("refused with %+v; want MANIFEST_BLOB_UNKNOWN of %s", errs, absent)
	}
	w.pass(grace + 2*time.Minute) // a refused PUT pins nothing
	w.expire()
	w.empty()
}

func TestABlobDeleteMayNotBreakALivingImage(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	resp := w.want(405, "DELETE", "/v2/app/blobs/"+layerOf(t, img), nil, "")
	if errs := errorsOf(t, resp); !strings.Contains(errs[0].Message, hashOf(t, img)) {
		t.Errorf("refused with %+v; want the manifest named", errs)
	}
	w.pull("app:v1")
}

func TestADeletedChildOfALivingIndexIsRefused(t *testing.T) {
	w := newWorld(t)
	idx, err := random.Index(256, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.pushIndex("multi:v1", idx)
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	resp := w.want(405, "DELETE", "/v2/multi/manifests/"+m.Manifests[0].Digest.String(), nil, "")
	if errs := errorsOf(t, resp); !strings.Contains(errs[0].Message, hashOf(t, idx)) {
		t.Errorf("refused with %+v; want the index named", errs)
	}
	w.pull("multi:v1")
}

func TestADeleteTakesTheNameAndLeavesTheContentItsGrace(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	w.push("app:v2", img)
	w.pass(ttl - time.Minute)
	w.head("app:v1") // a pull begins
	w.want(202, "DELETE", "/v2/app/manifests/"+hashOf(t, img), nil, "")
	w.gone("app:v1", "app:v2", "app@"+hashOf(t, img))
	w.expire()
	w.want(200, "GET", "/v2/app/blobs/"+layerOf(t, img), nil, "") // and goes on
	w.pass(grace + 2*time.Minute)
	w.expire()
	w.empty()
}

func TestAMovedTagLeavesWhatItPointedToUntilItsOwnTTL(t *testing.T) {
	w := newWorld(t)
	old, fresh := w.image(1), w.image(1)
	w.push("app:v1", old)
	w.pass(ttl - time.Minute)
	w.head("app:v1")
	w.push("app:v1", fresh)
	w.pass(ttl - time.Minute)
	w.expire()
	w.pull("app@" + hashOf(t, old)) // used through its tag less than a ttl ago
	w.pull("app:v1")
	if entries := indexEntries(t, w, "app", "v1"); len(entries) != 1 {
		t.Errorf("index entries of the tag: %v; want only the current one", entries)
	}
}

func indexEntries(t *testing.T, w *world, repo, tag string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(w.dir + "/docker/registry/v2/repositories/" + repo + "/_manifests/tags/" + tag +
		"/index/sha256")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBytesReallyGo(t *testing.T) {
	w := newWorld(t)
	w.push("deep/er/app:v1", w.image(3))
	w.push("deep/app:v1", w.image(2))
	w.upload("orphan", []byte("a layer whose manifest never came"))
	w.want(202, "POST", "/v2/left/over/blobs/uploads/", nil, "")
	loc := w.want(202, "POST", "/v2/left/cancelled/blobs/uploads/", nil, "").Header.Get("Location")
	w.want(204, "DELETE", strings.TrimPrefix(loc, w.http.URL), nil, "")
	loc = w.want(202, "POST", "/v2/left/wrong/blobs/uploads/", nil, "").Header.Get("Location")
	w.want(400, "PUT", strings.TrimPrefix(loc, w.http.URL)+"&digest="+digestOf([]byte("other")), []byte("data"), "")
	old := time.Now().Add(-2 * grace) // uploads know the wall clock only
	for _, f := range w.files() {
		if strings.Contains(f, "cancelled") || strings.Contains(f, "wrong") {
			t.Errorf("an upload that ended left %s", f)
		}
		if strings.Contains(f, "_uploads") {
			if err := os.Chtimes(w.dir+f, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.pass(ttl + 2*time.Minute)
	rep := w.expire()
	if rep.Removed.Uploads != 1 || rep.Removed.Tags != 2 || rep.FreedBytes == 0 {
		t.Errorf("removed %+v, %d bytes", rep.Removed, rep.FreedBytes)
	}
	w.empty()
}

func TestAnUploadUnderWayKeepsTheRestOfItsPush(t *testing.T) {
	w := newWorld(t)
	first := w.upload("app", []byte("first layer"))
	loc := w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
	loc = w.want(202, "PATCH", strings.TrimPrefix(loc, w.http.URL), []byte("second "), "").Header.Get("Location")
	w.startUploadsNow()
	w.pass(3 * grace) // the first layer was promised three hours ago, and bytes still come
	w.expire()
	w.want(200, "HEAD", "/v2/app/blobs/"+first, nil, "")
	w.pass(3 * grace)
	second := digestOf([]byte("second layer"))
	w.want(201, "PUT", strings.TrimPrefix(loc, w.http.URL)+"&digest="+second, []byte("layer"), "")
	w.expire() // between the last layer and the manifest
	cfg := w.upload("app", []byte("{}"))
	w.put("app", "v1", map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
		"config": descriptor(ociConfig, cfg, 2),
		"layers": []any{descriptor(ociLayer, first, 11), descriptor(ociLayer, second, 12)}})
	w.pull("app:v1")
}

func TestRecencySurvivesARestart(t *testing.T) {
	w := newWorld(t)
	w.push("used:v1", w.image(1))
	w.push("idle:v1", w.image(1))
	w.pass(ttl - time.Minute)
	w.head("used:v1")
	w.restart()
	w.pass(3 * time.Minute)
	w.expire()
	w.gone("idle:v1")
	w.pull("used:v1")
}

func TestDowntimeAndClockJumpsDoNotExpireAStore(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	w.pass(time.Hour)
	w.stop()
	w.pass(365 * 24 * time.Hour) // switched off for a year; or the clock is wrong
	w.start()
	w.expire()
	w.pass(ttl - time.Hour - time.Minute)
	w.expire()
	w.head("app:v1")
	w.pass(ttl + 2*time.Minute)
	w.expire()
	w.gone("app:v1")
}

func TestALostIndexExpiresNothingEarly(t *testing.T) {
	w := newWorld(t)
	idx, err := random.Index(256, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	w.pushIndex("multi:v1", idx)
	w.push("app:v1", w.image(2))
	before := w.totals()
	w.stop()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(w.dir + "/.metadata/index.db" + suffix)
	}
	w.start()
	if after := w.totals(); after != before {
		t.Errorf("rebuilt to %+v; was %+v", after, before)
	}
	w.pass(ttl - time.Minute)
	w.expire()
	w.pull("multi:v1")
	w.pull("app:v1")
	w.pass(ttl + 2*time.Minute)
	w.expire()
	w.empty()
}

// TestFileTimesVoidNoPromise loses an index beside files that look old. Any of them may have been promised a moment
// before: nothing goes until such a promise is over.
func TestFileTimesVoidNoPromise(t *testing.T) {
	const short = 2 * time.Second
	w := newWorldWith(t, func(cfg *config.Config) { cfg.Cache.AdoptAge, cfg.Cache.Grace = "mtime", short })
	w.push("app:v1", w.image(1))
	w.head("app:v1")
	w.stop()
	old := w.Now().Add(-48 * time.Hour)
	for _, file := range w.files() {
		if err := os.Chtimes(filepath.Join(w.dir, file), old, old); err != nil {
			t.Fatal(err)
		}
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(tree.Dir(w.dir).Index() + suffix); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	w.start()
	promised := w.Now().Add(short + short/4) // with the resolution
	for _, passed := range []time.Duration{0, short} {
		w.pass(passed)
		w.restart() // which finds nothing to adopt any more
		c := gc.Collector{Files: gc.LocalFiles(w.s.store.Dir, w.s.store.Tree), Index: w.s.store.Index, Log: w.s.log}
		rep, err := c.Run(t.Context(), w.s.policy(), false)
		var held *index.HeldError
		if !errors.As(err, &held) || !held.Until.Equal(promised) || rep.Removed.Any() ||
			!time.Time(rep.NothingBefore).Equal(promised) || rep.HeldBy != gc.HeldByFileDates {
			t.Errorf("after %v: removed %+v, nothing before %v, %v; want nothing to go before %v", passed, rep.Removed,
				time.Time(rep.NothingBefore), err, promised)
		}
	}
	w.pass(short)
	w.expire()
	w.gone("app:v1")
}

func TestADamagedIndexIsPutAsideAndRebuilt(t *testing.T) {
	damages := map[string]func(path string) error{
		"noise": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("noise", 5000)),
				0o644)
		},
		"truncated":   func(path string) error { return os.Truncate(path, 5000) },
		"empty":       func(path string) error { return os.Truncate(path, 0) },
		"a directory": func(path string) error { return firstError(os.Remove(path), os.Mkdir(path, 0o755)) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.push("app:v1", w.image(1))
			before := w.totals()
			w.stop()
			if err := damage(w.dir + "/.metadata/index.db"); err != nil {
				t.Fatal(err)
			}
			w.start()
			if after := w.totals(); after != before {
				t.Errorf("rebuilt to %+v; was %+v", after, before)
			}
			w.pull("app:v1")
		})
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestACatalogListsWhatIsThere(t *testing.T) {
	w := newWorld(t)
	w.push("b/c:v1", w.image(1))
	w.push("a:v1", w.image(1))
	repos, err := remote.Catalog(t.Context(), w.ref("x").Context().Registry)
	if err != nil || strings.Join(repos, " ") != "a b/c" {
		t.Errorf("catalog: %v %v", repos, err)
	}
}

// startUploadsNow makes the uploads under way begin now by the story's clock, which does not reach files.
func (w *world) startUploadsNow() {
	w.Helper()
	for _, f := range w.files() {
		if strings.HasSuffix(f, "/startedat") {
			if err := os.WriteFile(w.dir+f, []byte(w.Now().UTC().Format(time.RFC3339)), 0o644); err != nil {
				w.Fatal(err)
			}
		}
	}
}

func TestACancelledUploadLeavesNothing(t *testing.T) {
	w := newWorld(t)
	loc := w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
	loc = w.want(202, "PATCH", strings.TrimPrefix(loc, w.http.URL), []byte("some bytes"), "").Header.Get("Location")
	w.want(204, "DELETE", strings.TrimPrefix(loc, w.http.URL), nil, "")
	w.empty()
}

func TestWhatWentMissingFromDiskLeavesTheCountsAtTheNextStart(t *testing.T) {
	w := newWorld(t)
	w.push("gone:v1", w.image(1))
	w.push("app:v1", w.image(1))
	w.stop()
	// by a stock registry, or by hand
	if err := os.RemoveAll(w.dir + "/docker/registry/v2/repositories/gone"); err != nil {
		t.Fatal(err)
	}
	w.start()
	if got := w.totals(); got.Tags != 1 || got.Manifests != 1 || got.Blobs != 6 {
		t.Errorf("counts %+v; want those of one image, and the blobs that are still there", got)
	}
	w.gone("gone:v1")
	w.pass(grace + 2*time.Minute)
	w.expire()
	if got := w.totals(); got.Blobs != 3 {
		t.Errorf("counts %+v after the grace; want those of one image", got)
	}
	w.pull("app:v1")
}

func TestAnIndexReplacedWhileServingIsRebuilt(t *testing.T) {
	replacements := map[string]func(path string) error{
		"deleted": os.Remove,
		"replaced by noise": func(path string) error {
			return firstError(os.Remove(path), os.WriteFile(path, []byte(strings.Repeat("noise", 5000)), 0o644))
		},
		"replaced by a directory": func(path string) error {
			return firstError(os.Remove(path),
				os.Mkdir(path, 0o755))
		},
	}
	for how, replace := range replacements {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.push("before:v1", w.image(1))
			id := w.s.store.Index.ID()
			if err := replace(w.dir + "/.metadata/index.db"); err != nil {
				t.Fatal(err)
			}
			w.push("between:v1", w.image(1)) // the server goes on meanwhile
			w.s.keeper.watch(t.Context())
			w.awaitGate()
			if w.s.store.Index.ID() == id {
				t.Error("the server goes on with an index that nobody will find again")
			}
			if holder, err := w.s.store.Dir.Live(); err != nil || holder == nil ||
				holder.Index != w.s.store.Index.ID() {
				t.Errorf("the lock names %+v, %v; want index %s", holder, err, w.s.store.Index.ID())
			}
			if got := w.totals(); got.Tags != 2 {
				t.Errorf("rebuilt to %+v; want two images", got)
			}
			w.pass(ttl - time.Minute)
			w.expire()
			w.pull("before:v1")
			w.pull("between:v1")
		})
	}
}

func TestOneBadFileHoldsUpNothingElse(t *testing.T) {
	w := newWorld(t)
	bad := w.image(1)
	w.push("bad:v1", bad)
	w.push("good:v1", w.image(1))
	link := w.dir + "/docker/registry/v2/repositories/bad/_layers/" + strings.Replace(layerOf(t, bad), ":", "/", 1) +
		"/link"
	if err := firstError(os.Remove(link), os.MkdirAll(link+"/in/the/way", 0o755)); err != nil {
		t.Fatal(err)
	}
	w.pass(ttl + 2*time.Minute)
	c := gc.Collector{Files: gc.LocalFiles(w.s.store.Dir, w.s.store.Tree), Index: w.s.store.Index, Log: w.s.log}
	rep, err := c.Run(t.Context(), w.s.policy(), false)
	if err == nil || !strings.Contains(err.Error(), link) {
		t.Errorf("run = %v; want the bad link named", err)
	}
	if rep.Removed.Tags != 2 || rep.Removed.Blobs != 5 {
		t.Errorf("removed %+v; want all but the layer that cannot be unlinked", rep.Removed)
	}
}

func TestAPushMendsABlobThatWasCutShort(t *testing.T) {
	w := newWorld(t)
	data := []byte("a layer that a power loss will cut short")
	d := w.upload("app", data)
	w.flush()
	hex := strings.TrimPrefix(d, "sha256:")
	if err := os.Truncate(w.dir+"/docker/registry/v2/blobs/sha256/"+hex[:2]+"/"+hex+"/data", 7); err != nil {
		t.Fatal(err)
	}
	w.upload("app", data)
	if got := string(w.read(w.want(200, "GET", "/v2/app/blobs/"+d, nil, ""))); got != string(data) {
		t.Errorf("after another push of it the layer is %q", got)
	}
}

func TestALocationBehindTwoProxiesIsOne(t *testing.T) {
	w := newWorld(t)
	for forwarded, want := range map[string]string{"https, http": "https://", "javascript": "http://",
		"HTTPS": "https://"} {
		req, err := http.NewRequest("POST", w.http.URL+"/v2/app/blobs/uploads/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-Proto", forwarded)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if loc := resp.Header.Get("Location"); !strings.HasPrefix(loc, want+w.host) {
			t.Errorf("X-Forwarded-Proto %q: Location %s", forwarded, loc)
		}
	}
}

func TestAGateThatAnInterruptedGCLeftShutIsOpenedAgain(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	if _, err := w.s.store.Index.CloseGate(t.Context()); err != nil { // and was killed
		t.Fatal(err)
	}
	w.want(503, "DELETE", "/v2/app/manifests/"+hashOf(t, img), nil, "")
	w.s.keeper.watch(t.Context())
	w.awaitGate()
	w.pass(ttl + 2*time.Minute)
	w.expire()
	w.empty()
}

func TestADamagedPageIsHealedWhileServing(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	w.restart() // nothing is left in the write-ahead log
	path := w.dir + "/.metadata/index.db"
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, fi.Size()-4096), 4096); err != nil { // all pages but the first
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.start()
	if got := w.totals(); got.Tags != 1 {
		t.Errorf("rebuilt to %+v; want one image", got)
	}
	w.pull("app:v1")
}

func TestDirectoriesThatACrashLeftEmptyGoAtTheNextStart(t *testing.T) {
	w := newWorld(t)
	hex := strings.TrimPrefix(digestOf([]byte("x")), "sha256:")
	for _, dir := range []string{"blobs/sha256/" + hex[:2] + "/" + hex, "repositories/a/b/_layers/sha256/" + hex,
		"repositories/a/b/_manifests/tags/v1/current"} {
		if err := os.MkdirAll(w.dir+"/docker/registry/v2/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.restart()
	w.empty()
}
