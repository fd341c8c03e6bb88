package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// observed is a world whose observers write down what they are told.
type observed struct {
	*world
	mu   sync.Mutex // guards told
	told []string
}

func access(digest string, size int) string { return fmt.Sprintf("access %s %d", digest, size) }
func removal(digest string) string          { return "delete " + digest }

func newObserved(t *testing.T, change func(*config.Config, *Options)) *observed {
	t.Helper()
	o := &observed{world: &world{T: t, clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
		dir: t.TempDir()}}
	note := func(s string) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.told = append(o.told, s)
	}
	cfg := config.DefaultConfig()
	cfg.Storage.Directory, cfg.Auth.Enabled, cfg.Log.Access = o.dir, false, false
	cfg.Cache.TTL, cfg.Cache.Grace, cfg.Cache.CleanupInterval = ttl, grace, 0
	opts := Options{Config: cfg, Log: quietLog(), Now: o.Now,
		OnBlobAccess: func(digest string, size int64) { note(access(digest, int(size))) },
		OnBlobDelete: func(digest string) { note(removal(digest)) }}
	if change != nil {
		change(cfg, &opts)
	}
	var err error
	if o.s, err = New(opts); err != nil {
		t.Fatal(err)
	}
	o.http = httptest.NewServer(o.s.Handler())
	o.host = strings.TrimPrefix(o.http.URL, "http://")
	t.Cleanup(o.stop)
	o.awaitGate()
	return o
}

// events returns what was told since the last call, once all requests are over and all is told.
func (o *observed) events() []string {
	o.Helper()
	o.await("requests are over and events are told", func() bool {
		return o.s.flights.count() == 0
	})
	const marker = "marker"
	o.s.callbacks.add(call{digest: marker, deleted: true})
	var told []string
	o.await("the events are told", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		if n := len(o.told); n == 0 || o.told[n-1] != removal(marker) {
			return false
		}
		told, o.told = o.told[:len(o.told)-1], nil
		return true
	})
	return told
}

func (o *observed) await(what string, ok func() bool) {
	o.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			o.Fatal("in vain: " + what)
		}
	}
}

// awaitRun waits for what a run of the server's own cleaner does, and for the end of that run: what went
// is told after it went.
func (o *observed) awaitRun(what string, ok func() bool) {
	o.Helper()
	o.await(what, ok)
	before := o.runs()
	o.await("the run ends", func() bool { return o.runs() > before })
}

// runs is how many runs of the server have ended.
func (o *observed) runs() (n float64) {
	o.Helper()
	families, err := o.s.metrics.Registry().Gather()
	if err != nil {
		o.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "dcs_gc_runs_total" {
			for _, m := range f.Metric {
				n += m.Counter.GetValue()
			}
		}
	}
	return n
}

// wantEvents compares as sets: the parts of an image are pushed at once.
func (o *observed) wantEvents(want ...string) {
	o.Helper()
	got := o.events()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		o.Errorf("told\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func (o *observed) get(path string, header ...string) *http.Response {
	o.Helper()
	return o.send("GET", path, nil, header...)
}

// send is do with headers, as pairs.
func (o *observed) send(method, path string, body []byte, header ...string) *http.Response {
	o.Helper()
	req, err := http.NewRequestWithContext(o.Context(), method, o.http.URL+strings.TrimPrefix(path, o.http.URL),
		bytes.NewReader(body))
	if err != nil {
		o.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		o.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp
}

func randomBytes(seed uint64, n int) []byte {
	data := make([]byte, n)
	src := rand.New(rand.NewPCG(seed, 0))
	for i := range data {
		data[i] = byte(src.Uint32())
	}
	return data
}

// manifestOf is an image of a config and a layer, both stored.
func (o *observed) manifestOf(repo string, layer []byte) []byte {
	o.Helper()
	conf := []byte(`{"architecture":"amd64","os":"linux"}`)
	c, l := o.upload(repo, conf), o.upload(repo, layer)
	data, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
		"config": descriptor(ociConfig, c, len(conf)), "layers": []any{descriptor(ociLayer, l, len(layer))}})
	if err != nil {
		o.Fatal(err)
	}
	return data
}

// TestObserversHearOfEachRequestOnce sends requests as clients do. Each step says what is told of it, and
// nothing else is.
func TestObserversHearOfEachRequestOnce(t *testing.T) {
	o := newObserved(t, nil)
	small, large := randomBytes(1, 1000), randomBytes(2, 32<<20)
	s, l := digestOf(small), digestOf(large)
	manifest := o.manifestOf("app", small)
	m := digestOf(manifest)
	o.upload("app", large)
	o.want(201, "PUT", "/v2/app/manifests/v1", manifest, ociManifest)
	o.events()
	blob, tag, byDigest := "/v2/app/blobs/"+s, "/v2/app/manifests/v1", "/v2/app/manifests/"+m
	other := randomBytes(3, 500)
	start := func() string {
		return o.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
	}
	none := []string(nil)
	for _, c := range []struct {
		what   string
		status int
		do     func() *http.Response
		want   []string
	}{
		{"GET of a blob", 200, func() *http.Response { return o.get(blob) }, []string{access(s, 1000)}},
		{"HEAD of a blob", 200, func() *http.Response { return o.send("HEAD", blob, nil) }, []string{access(s, 1000)}},
		{"GET of a part", 206, func() *http.Response { return o.get(blob, "Range", "bytes=10-19") },
			[]string{access(s, 1000)}},
		{"GET of the rest", 206, func() *http.Response { return o.get(blob, "Range", "bytes=500-") },
			[]string{access(s, 1000)}},
		{"GET of several parts", 206, func() *http.Response { return o.get(blob, "Range", "bytes=0-9,20-29,-5") },
			[]string{access(s, 1000)}},
		{"GET of a part that is not there", 416, func() *http.Response { return o.get(blob, "Range", "bytes=5000-") },
			none},
		{"GET of what the client has", 304, func() *http.Response { return o.get(blob, "If-None-Match", `"`+s+`"`) },
			[]string{access(s, 1000)}},
		{"GET of what the client has in another form", 200, func() *http.Response {
			return o.get(blob, "If-None-Match",
				`"x"`)
		}, []string{access(s, 1000)}},
		{"GET that is hung up on", 0, func() *http.Response { return o.hangUp("/v2/app/blobs/" + l) },
			[]string{access(l, len(large))}},
		{"GET of a blob of another repository", 404, func() *http.Response { return o.get("/v2/else/blobs/" + s) },
			none},
		{"GET of a blob that is nowhere", 404, func() *http.Response { return o.get("/v2/app/blobs/" + digestOf(nil)) },
			none},
		{"GET by tag", 200, func() *http.Response { return o.get(tag) }, []string{access(m, len(manifest))}},
		{"HEAD by tag", 200, func() *http.Response { return o.send("HEAD", tag, nil) },
			[]string{access(m, len(manifest))}},
		{"GET by digest", 200, func() *http.Response { return o.get(byDigest) }, []string{access(m, len(manifest))}},
		{"HEAD by digest", 200, func() *http.Response { return o.send("HEAD", byDigest, nil) },
			[]string{access(m, len(manifest))}},
		{"GET of a tag that there is not", 404, func() *http.Response { return o.get("/v2/app/manifests/v2") }, none},
		{"GET of the list of tags", 200, func() *http.Response { return o.get("/v2/app/tags/list") }, none},
		{"GET of the catalog", 200, func() *http.Response { return o.get("/v2/_catalog") }, none},
		{"ping", 200, func() *http.Response { return o.get("/v2/") }, none},
		{"upload that begins", 202, func() *http.Response { return o.send("POST", "/v2/app/blobs/uploads/", nil) },
			none},
		{"upload in one piece", 201, func() *http.Response {
			return o.send("PUT", start()+"&digest="+digestOf(other),
				other)
		}, []string{access(digestOf(other), 500)}},
		{"upload of what is there", 201, func() *http.Response { return o.send("PUT", start()+"&digest="+s, small) },
			[]string{access(s, 1000)}},
		{"upload of nothing", 201, func() *http.Response {
			return o.send("PUT", start()+"&digest="+digestOf(nil),
				nil)
		}, []string{access(digestOf(nil), 0)}},
		{"upload in pieces", 201, func() *http.Response {
			piece := randomBytes(4, 300)
			loc := o.send("PATCH", start(), piece[:100], "Content-Range", "0-99").Header.Get("Location")
			loc = o.send("PATCH", loc, piece[100:200], "Content-Range", "100-199").Header.Get("Location")
			return o.send("PUT", loc+"&digest="+digestOf(piece), piece[200:])
		}, []string{access(digestOf(randomBytes(4, 300)), 300)}},
		{"upload of other content than announced", 400, func() *http.Response {
			return o.send("PUT",
				start()+"&digest="+l, other)
		}, none},
		{"upload that is given up", 204, func() *http.Response { return o.send("DELETE", start(), nil) }, none},
		{"mount", 201, func() *http.Response {
			return o.send("POST", "/v2/fork/blobs/uploads/?from=app&mount="+s,
				nil)
		}, []string{access(s, 1000)}},
		{"mount once more", 201, func() *http.Response {
			return o.send("POST",
				"/v2/fork/blobs/uploads/?from=app&mount="+s, nil)
		}, []string{access(s, 1000)}},
		{"mount of what is not there", 202, func() *http.Response {
			return o.send("POST", "/v2/fork/blobs/uploads/?from=nowhere&mount="+l, nil)
		}, none},
		{"PUT of a new manifest", 201, func() *http.Response {
			return o.send("PUT", "/v2/app/manifests/v2", append(manifest, '\n'), "Content-Type", ociManifest)
		}, []string{access(digestOf(append(manifest, '\n')), len(manifest)+1)}},
		{"PUT of a manifest that is there", 201, func() *http.Response {
			return o.send("PUT", tag, manifest,
				"Content-Type", ociManifest)
		}, []string{access(m, len(manifest))}},
		{"PUT by digest", 201, func() *http.Response {
			return o.send("PUT", byDigest, manifest, "Content-Type",
				ociManifest)
		}, []string{access(m, len(manifest))}},
		{"PUT of a manifest whose layers are elsewhere", 400, func() *http.Response {
			return o.send("PUT", "/v2/empty/manifests/v1", manifest, "Content-Type", ociManifest)
		}, none},
		{"PUT of no manifest", 400, func() *http.Response {
			return o.send("PUT", tag, []byte("{"), "Content-Type",
				ociManifest)
		}, none},
		{"DELETE of a layer that is needed", 405, func() *http.Response { return o.send("DELETE", blob, nil) }, none},
		{"DELETE of a tag", 202, func() *http.Response { return o.send("DELETE", "/v2/app/manifests/v2", nil) }, none},
		{"DELETE of a manifest", 202, func() *http.Response { return o.send("DELETE", byDigest, nil) }, none},
		{"GET of what was deleted", 404, func() *http.Response { return o.get(byDigest) }, none},
	} {
		if resp := c.do(); resp != nil && resp.StatusCode != c.status {
			t.Errorf("%s: %d; want %d", c.what, resp.StatusCode, c.status)
		}
		if told := o.events(); !slices.Equal(told, c.want) {
			t.Errorf("%s: told %v; want %v", c.what, told, c.want)
		}
	}
}

// hangUp leaves in the middle of an answer that no buffer holds.
func (o *observed) hangUp(path string) *http.Response {
	o.Helper()
	conn, err := net.Dial("tcp", o.host)
	if err != nil {
		o.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, o.host)
	if _, err := io.ReadFull(conn, make([]byte, 100_000)); err != nil {
		o.Fatal(err)
	}
	return nil
}

// TestAPushTellsWhatItDid: the client asks for each part first, and only what is there is told twice.
func TestAPushTellsWhatItDid(t *testing.T) {
	o := newObserved(t, nil)
	img := o.image(2)
	var first, parts []string
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		size, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, access(hashOf(t, l), int(size)))
	}
	conf, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	parts = append(parts, access(digestOf(conf), len(conf)))
	manifest := access(digestOf(raw), len(raw))
	first = append(slices.Clone(parts), manifest)
	o.push("app:v1", img)
	o.wantEvents(first...)
	o.push("app:v1", img) // the client asks for the manifest, finds it there, and does no more
	o.wantEvents(manifest)
	o.push("app:v2", img) // a HEAD of each part by the same client, and a PUT of the manifest
	o.wantEvents(append(slices.Clone(parts), manifest)...)
	if _, err := remote.Head(o.ref("app:v2")); err != nil {
		t.Error(err)
	}
	o.wantEvents(manifest)
}

func TestObserversHearNothingOfWhoIsTurnedAway(t *testing.T) {
	o := newObserved(t, func(_ *config.Config, opts *Options) {
		opts.Authenticate = func(_ *http.Request, user, password string) bool {
			return user == "ci" &&
				password == "pass"
		}
	})
	data := []byte("a layer")
	loc := o.send("POST", "/v2/app/blobs/uploads/", nil, "Authorization", "Basic Y2k6cGFzcw==").Header.Get("Location")
	o.send("PUT", loc+"&digest="+digestOf(data), data, "Authorization", "Basic Y2k6cGFzcw==")
	o.wantEvents(access(digestOf(data), len(data)))
	for _, method := range []string{"GET", "HEAD"} {
		for _, authorization := range []string{"", "Basic Y2k6d3Jvbmc="} {
			if status := o.send(method, "/v2/app/blobs/"+digestOf(data), nil, "Authorization",
				authorization).StatusCode; status != 401 {
				t.Errorf("%s with %q: %d", method, authorization, status)
			}
		}
	}
	o.wantEvents()
}

// TestObserversHearOfEachFileThatGoesOnce lets the server's own cleaner work, while a client deletes.
func TestObserversHearOfEachFileThatGoesOnce(t *testing.T) {
	o := newObserved(t, func(cfg *config.Config, _ *Options) { cfg.Cache.CleanupInterval = 100 * time.Millisecond })
	layer := randomBytes(1, 100)
	deleted, idle := o.manifestOf("app", layer), o.manifestOf("idle", layer)
	idle = append(idle, '\n')
	o.want(201, "PUT", "/v2/app/manifests/v1", deleted, ociManifest)
	o.want(201, "PUT", "/v2/idle/manifests/v1", idle, ociManifest)
	// The row and the file of a blob may part company: by a crash between the two, or by hand.
	half, lost, empty := o.fileOf("half placed"), o.upload("app",
		[]byte("removed by hand")), layout.BlobKey(digest.FromString("never came"))
	for _, k := range []layout.Key{layout.BlobKey(half), empty} {
		if err := o.s.store.Index.Claim(t.Context(), index.Claim{Key: k, Size: 1}); err != nil {
			t.Fatal(err)
		}
	}
	o.flush()
	if err := os.Remove(o.s.store.Dir.File(layout.BlobKey(digest.Digest(lost)).Path())); err != nil {
		t.Fatal(err)
	}
	o.want(202, "DELETE", "/v2/app/manifests/"+digestOf(deleted), nil, "")
	o.events()
	o.pass(grace + time.Minute + time.Second)
	o.awaitRun("the deleted manifest goes", func() bool {
		return o.totals().Blobs == 3 && !o.known(empty) &&
			!o.known(layout.BlobKey(half))
	})
	o.wantEvents(removal(digestOf(deleted)), removal(half.String()))
	o.pass(ttl)
	o.await("the idle image goes", func() bool { return o.totals().Tags == 0 })
	o.pass(grace + time.Minute + time.Second)
	o.awaitRun("its content goes", func() bool { return o.totals().Blobs == 0 })
	conf := []byte(`{"architecture":"amd64","os":"linux"}`)
	o.wantEvents(removal(digestOf(idle)), removal(digestOf(layer)), removal(digestOf(conf)))
	o.upload("app", layer)
	o.wantEvents(access(digestOf(layer), len(layer)))
	o.flush()
	o.pass(2 * (grace + time.Minute))
	o.awaitRun("it goes a second time", func() bool { return o.totals().Blobs == 0 })
	o.wantEvents(removal(digestOf(layer)))
}

// fileOf puts a blob's file in its place, and nothing into the index.
func (o *observed) fileOf(content string) digest.Digest {
	o.Helper()
	d := digest.FromString(content)
	file := o.s.store.Dir.File(layout.BlobKey(d).Path())
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		o.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		o.Fatal(err)
	}
	return d
}

func (o *observed) known(k layout.Key) (known bool) {
	o.Helper()
	err := o.s.store.Index.View(o.Context(), func(r index.Reader) error {
		row, err := r.Row(k)
		known = row != nil
		return err
	})
	if err != nil {
		o.Fatal(err)
	}
	return known
}
