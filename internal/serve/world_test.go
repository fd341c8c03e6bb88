package serve

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// The policy of the stories: a name lives ten hours after its last use, content an hour.
const (
	ttl   = 10 * time.Hour
	grace = time.Hour
)

// clock is a wall clock that a test moves.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a server with real files behind a real socket, in which time passes when a test says so.
type world struct {
	*testing.T
	*clock
	dir  string
	s    *Server
	http *httptest.Server
	host string

	configure func(*config.Config) // nil: as the stories have it
}

func newWorld(t *testing.T) *world { return newWorldWith(t, nil) }

func newWorldWith(t *testing.T, configure func(*config.Config)) *world {
	w := &world{T: t, clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, dir: t.TempDir(),
		configure: configure}
	w.start()
	t.Cleanup(w.stop)
	return w
}

func (w *world) start() {
	w.Helper()
	cfg := config.DefaultConfig()
	cfg.Storage.Directory, cfg.Auth.Enabled, cfg.Log.Access = w.dir, false, false
	cfg.Cache.TTL, cfg.Cache.Grace, cfg.Cache.CleanupInterval = ttl, grace, 0
	if w.configure != nil {
		w.configure(cfg)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := New(Options{Config: cfg, Log: log, Now: w.Now})
	if err != nil {
		w.Fatal(err)
	}
	w.s = s
	w.http = httptest.NewServer(s.Handler())
	w.host = strings.TrimPrefix(w.http.URL, "http://")
	w.awaitGate()
}

func (w *world) stop() {
	w.http.Close()
	if err := w.s.Shutdown(time.Second); err != nil {
		w.Error(err)
	}
}

// restart is a clean stop and a new server.
func (w *world) restart() {
	w.Helper()
	w.stop()
	w.start()
}

// awaitGate waits until the index was compared with the disk.
func (w *world) awaitGate() {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if open, err := w.s.store.Index.GateOpen(w.Context()); err != nil {
			w.Fatal(err)
		} else if open {
			return
		}
	}
	w.Fatal("the gate stays shut")
}

// flush waits until all that was pushed has its name.
func (w *world) flush() {
	w.Helper()
	if err := w.s.content.Flush(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// expire is one run of the built-in cleaner.
func (w *world) expire() gc.Report {
	w.Helper()
	w.flush()
	c := gc.Collector{Files: gc.LocalFiles(w.s.store.Dir, w.s.store.Tree), Index: w.s.store.Index, Log: w.s.log}
	plan, err := c.NewPlan(w.Context(), w.s.policy())
	if err != nil {
		w.Fatal(err)
	}
	planned := plan.Result()
	rep, err := c.Run(w.Context(), w.s.policy(), false)
	if err != nil {
		w.Fatal(err)
	}
	if rep.Removed != planned.Removed || rep.FreedBytes != planned.FreedBytes ||
		len(rep.Images) != len(planned.Images) {
		w.Errorf("a dry run promised %+v, %d bytes, %d images; the run did %+v, %d bytes, %d images",
			planned.Removed, planned.FreedBytes, len(planned.Images), rep.Removed, rep.FreedBytes, len(rep.Images))
	}
	return rep
}

func (w *world) ref(s string) name.Reference {
	w.Helper()
	r, err := name.ParseReference(w.host + "/" + s)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// image makes an image that shares nothing with others.
func (w *world) image(layers int64) v1.Image {
	w.Helper()
	img, err := random.Image(1024, layers)
	if err != nil {
		w.Fatal(err)
	}
	return img
}

func (w *world) push(ref string, img v1.Image) {
	w.Helper()
	if err := remote.Write(w.ref(ref), img); err != nil {
		w.Fatalf("push %s: %v", ref, err)
	}
}

func (w *world) pushIndex(ref string, idx v1.ImageIndex) {
	w.Helper()
	if err := remote.WriteIndex(w.ref(ref), idx); err != nil {
		w.Fatalf("push %s: %v", ref, err)
	}
}

// pull reads all of an image or index, and checks every digest.
func (w *world) pull(ref string) {
	w.Helper()
	repo, reference, ok := strings.Cut(ref, "@")
	if !ok {
		repo, reference, _ = strings.Cut(ref, ":")
	}
	w.fetch(repo, reference)
}

func (w *world) fetch(repo, reference string) {
	w.Helper()
	resp := w.do("GET", "/v2/"+repo+"/manifests/"+reference, nil, "")
	data := w.read(resp)
	if d := resp.Header.Get("Docker-Content-Digest"); resp.StatusCode != 200 || d != digestOf(data) {
		w.Errorf("manifest %s of %s: %d, digest %s, content %s", reference, repo, resp.StatusCode, d, digestOf(data))
		return
	}
	content, err := manifest.Parse(data)
	if err != nil {
		w.Errorf("manifest %s of %s: %v", reference, repo, err)
		return
	}
	for _, d := range content.References {
		if w.do("HEAD", "/v2/"+repo+"/manifests/"+d.String(), nil, "").StatusCode == 200 {
			w.fetch(repo, d.String())
			continue
		}
		resp := w.do("GET", "/v2/"+repo+"/blobs/"+d.String(), nil, "")
		if got := digestOf(w.read(resp)); resp.StatusCode != 200 || got != d.String() {
			w.Errorf("blob %s of %s@%s: %d, content %s", d, repo, reference, resp.StatusCode, got)
		}
	}
}

func (w *world) read(resp *http.Response) []byte {
	w.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return data
}

// keepUsing lets nearly the ttl pass, uses something, and expires what can be, so many times.
func (w *world) keepUsing(times int, use func()) {
	w.Helper()
	for range times {
		w.pass(ttl - time.Minute)
		use()
		w.expire()
	}
}

// head asks for a manifest only, as docker does first.
func (w *world) head(ref string) {
	w.Helper()
	if _, err := remote.Head(w.ref(ref)); err != nil {
		w.Errorf("head %s: %v", ref, err)
	}
}

func (w *world) gone(refs ...string) {
	w.Helper()
	for _, ref := range refs {
		path := "/v2/" + strings.Replace(ref, ":", "/manifests/", 1)
		if repo, d, ok := strings.Cut(ref, "@"); ok {
			path = "/v2/" + repo + "/manifests/" + d
		}
		if status := w.do("GET", path, nil, "").StatusCode; status != http.StatusNotFound {
			w.Errorf("%s answers %d; want it gone", ref, status)
		}
	}
}

// do sends a request and returns the answer, read to its end.
func (w *world) do(method, path string, body []byte, contentType string) *http.Response {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, w.http.URL+strings.TrimPrefix(path, w.http.URL),
		bytes.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp
}

func (w *world) want(status int, method, path string, body []byte, contentType string) *http.Response {
	w.Helper()
	resp := w.do(method, path, body, contentType)
	if resp.StatusCode != status {
		data, _ := io.ReadAll(resp.Body)
		w.Fatalf("%s %s: %d %s; want %d", method, path, resp.StatusCode, data, status)
	}
	return resp
}

// upload stores a blob by one POST and one PUT, and returns its digest.
func (w *world) upload(repo string, data []byte) string {
	w.Helper()
	d := digestOf(data)
	loc := w.want(202, "POST", "/v2/"+repo+"/blobs/uploads/", nil, "").Header.Get("Location")
	w.want(201, "PUT", strings.TrimPrefix(loc, w.http.URL)+"&digest="+d, data, "application/octet-stream")
	return d
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// put stores a manifest and returns its digest.
func (w *world) put(repo, reference string, manifest map[string]any) string {
	w.Helper()
	data, err := json.Marshal(manifest)
	if err != nil {
		w.Fatal(err)
	}
	d := digestOf(data)
	if reference == "" {
		reference = d
	}
	w.want(201, "PUT", "/v2/"+repo+"/manifests/"+reference, data, manifest["mediaType"].(string))
	return d
}

func descriptor(mediaType, digest string, size int) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": size}
}

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// files lists everything below the data directory, but what dcs keeps beside the tree.
func (w *world) files() (files []string) {
	w.Helper()
	w.flush()
	err := filepath.WalkDir(w.dir, func(path string, e fs.DirEntry, err error) error {
		if e != nil && e.Name() == ".metadata" {
			return fs.SkipDir
		}
		if errors.Is(err, fs.ErrNotExist) && path != w.dir {
			return nil // it was removed a moment ago
		}
		if path != w.dir {
			files = append(files, strings.TrimPrefix(path, w.dir))
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return files
}

// empty wants nothing left: no byte, no link, no directory, no row.
func (w *world) empty() {
	w.Helper()
	w.flush()
	if left := w.files(); len(left) > 0 {
		w.Errorf("left on disk: %v", left)
	}
	for _, sub := range []string{"trash", "tmp"} {
		if entries, err := os.ReadDir(filepath.Join(w.dir, ".metadata", sub)); err != nil || len(entries) > 0 {
			w.Errorf("left in %s: %v %v", sub, entries, err)
		}
	}
	if t := w.totals(); t != (index.Totals{}) {
		w.Errorf("left in the index: %+v", t)
	}
	err := w.s.store.Index.View(w.Context(), func(r index.Reader) error {
		for _, k := range []layout.Kind{layout.Blob, layout.Layer, layout.Manifest, layout.Tag} {
			if err := r.Each(k, func(row index.Row) error {
				w.Errorf("left in the index: %s", row.Key)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.Error(err)
	}
}

func (w *world) totals() index.Totals {
	w.Helper()
	w.flush()
	t, err := w.s.Stats()
	if err != nil {
		w.Fatal(err)
	}
	return t
}

func hashOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// layerOf is the digest of an image's first layer.
func layerOf(t *testing.T, img v1.Image) string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return hashOf(t, layers[0])
}

// apiError is an error in the protocol's form.
type apiError struct {
	Code, Message string
	Detail        json.RawMessage
}

// errorsOf wants an answer to be errors in the protocol's form.
func errorsOf(t *testing.T, resp *http.Response) []apiError {
	t.Helper()
	var body struct{ Errors []apiError }
	data, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(data, &body)
	}
	if err != nil || len(body.Errors) == 0 {
		t.Fatalf("answer %d %q is no OCI error: %v", resp.StatusCode, data, err)
	}
	return body.Errors
}
