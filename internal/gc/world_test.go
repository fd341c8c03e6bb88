package gc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// policy is that of the stories here: a name lives ten hours, content an hour.
var rules = index.Policy{TTL: 10 * time.Hour, Grace: time.Hour, Resolution: time.Minute}

// world is a store with real files and a real index, in which time passes when a test says so.
type world struct {
	*Collector
	Dir  tree.Dir
	tree *tree.Tree
	t    *testing.T
	now  time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Dir: tree.Dir(t.TempDir()), t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	w.tree, err = tree.Open(w.Dir)
	w.must(err)
	ix, err := sqlite.Open(t.Context(), w.Dir.Index(), sqlite.Serve, func() time.Time { return w.now })
	w.must(err)
	t.Cleanup(func() { w.must(ix.Close()) })
	w.must(ix.SetPins(t.Context()))
	log := logrus.New()
	log.SetOutput(io.Discard)
	w.Collector = &Collector{Files: LocalFiles(w.Dir, w.tree), Index: ix, Log: log}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

// write writes a file of the tree as a stock registry does.
func (w *world) write(p layout.Path, data []byte) {
	w.t.Helper()
	file := w.Dir.File(p)
	w.must(os.MkdirAll(filepath.Dir(file), 0o755))
	w.must(os.WriteFile(file, data, 0o644))
}

func (w *world) blob(data []byte) digest.Digest {
	w.t.Helper()
	d := digest.FromBytes(data)
	w.write(layout.Path{Kind: layout.BlobData, Digest: d}, data)
	return d
}

func (w *world) layer(repo, text string) digest.Digest {
	w.t.Helper()
	d := w.blob([]byte(text))
	w.write(layout.Path{Kind: layout.LayerLink, Repository: repo, Digest: d}, []byte(d))
	return d
}

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int           `json:"size"`
}

// size is how long a blob is; one that is not stored has a byte.
func (w *world) size(d digest.Digest) int {
	fi, err := os.Stat(w.Dir.File(layout.Path{Kind: layout.BlobData, Digest: d}))
	if err != nil {
		return 1
	}
	return int(fi.Size())
}

// manifest stores a manifest that names things in the list called so, with a subject unless that is "".
func (w *world) manifest(repo, list string, names []digest.Digest, subject digest.Digest) digest.Digest {
	w.t.Helper()
	m := map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
	var named []descriptor
	for _, d := range names {
		named = append(named, descriptor{"application/octet-stream", d, w.size(d)})
	}
	m[list] = named
	if subject != "" {
		m["subject"] = descriptor{"application/vnd.oci.image.manifest.v1+json", subject, 1}
	}
	data, err := json.Marshal(m)
	w.must(err)
	d := w.blob(data)
	w.write(layout.Path{Kind: layout.RevisionLink, Repository: repo, Digest: d}, []byte(d))
	return d
}

func (w *world) tag(repo, tag string, d digest.Digest) {
	w.t.Helper()
	w.write(layout.Path{Kind: layout.TagLink, Repository: repo, Tag: tag}, []byte(d))
	w.write(layout.Path{Kind: layout.TagIndexLink, Repository: repo, Tag: tag, Digest: d}, []byte(d))
}

// image stores an image of these layers and tags it, unless tag is "".
func (w *world) image(repo, tag string, layers ...string) digest.Digest {
	w.t.Helper()
	var names []digest.Digest
	for _, text := range layers {
		names = append(names, w.layer(repo, text))
	}
	d := w.manifest(repo, "layers", names, "")
	if tag != "" {
		w.tag(repo, tag, d)
	}
	return d
}

// upload leaves an upload to which nothing was written for days.
func (w *world) upload(repo, id string) {
	w.t.Helper()
	p := layout.Path{Kind: layout.UploadData, Repository: repo, Upload: id}
	w.write(p, []byte("half"))
	old := time.Now().Add(-48 * time.Hour)
	for _, path := range []string{w.Dir.File(p), filepath.Dir(w.Dir.File(p))} {
		w.must(os.Chtimes(path, old, old))
	}
}

// adopt brings the index in line with the files, and wants it to be so already if they are all known.
func (w *world) adopt(known bool) {
	w.t.Helper()
	res, err := reconcile.Rebuild(w.t.Context(), reconcile.Options{Dir: w.Dir, Index: w.Index, Log: w.Log})
	w.must(err)
	if known && res.Adopted+res.Missing > 0 {
		w.t.Errorf("index and disk differ: %+v", res)
	}
	if opened, err := w.Index.OpenGate(w.t.Context(), res.Token); !opened || err != nil {
		w.t.Fatalf("the gate stays shut: %v", err)
	}
}

// fill stores one of each sort of thing, and lets all of it go stale.
func (w *world) fill() {
	w.t.Helper()
	w.image("app", "v1", "base", "one")
	w.image("app", "v2", "base", "two")
	w.tag("app", "latest", w.image("app", "", "base", "three"))
	w.image("app", "", "nobody named it")
	other := w.image("other", "v1", "base", "one")
	w.manifest("other", "layers", []digest.Digest{w.layer("other", "signature")}, other)
	amd, arm := w.image("multi", "", "base", "amd"), w.image("multi", "", "base", "arm")
	w.tag("multi", "v1", w.manifest("multi", "manifests", []digest.Digest{amd, arm}, ""))
	w.layer("loose", "pushed without a manifest")
	w.upload("app", "1")
	w.upload("loose", "2")
	w.adopt(false)
	w.pass(rules.TTL + time.Hour)
}

// whole wants that everything that a manifest on disk names is there.
func (w *world) whole() {
	w.t.Helper()
	walk, err := w.Dir.Walk()
	w.must(err)
	w.must(walk.Repositories(w.t.Context(), func(repo string) error {
		return walk.Links(w.t.Context(), layout.Manifest, repo, func(d digest.Digest) error {
			data, err := w.Dir.ReadManifest(d)
			if err != nil {
				return err
			}
			content, err := manifest.Parse(data)
			if err != nil {
				return err
			}
			for _, child := range content.References {
				if !w.has(layout.BlobKey(child)) || !w.has(layout.LayerKey(repo, child)) &&
					!w.has(layout.ManifestKey(repo, child)) {
					w.t.Errorf("%s of %s has lost %s", d, repo, child)
				}
			}
			return nil
		})
	}))
}

func (w *world) has(k layout.Key) bool {
	there, err := w.Dir.Has(k)
	w.must(err)
	return there
}

// empty wants no byte, no directory and no row to be left.
func (w *world) empty() {
	w.t.Helper()
	for _, dir := range []string{filepath.Join(string(w.Dir), "docker"), w.Dir.Trash()} {
		w.must(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if os.IsNotExist(err) || path == w.Dir.Trash() {
				return nil
			}
			w.t.Errorf("left on disk: %s", path)
			return err
		}))
	}
	w.must(w.Index.View(w.t.Context(), func(r index.Reader) error {
		for _, k := range []layout.Kind{layout.Blob, layout.Layer, layout.Manifest, layout.Tag} {
			if err := r.Each(k, func(row index.Row) error {
				return fmt.Errorf("left in the index: %s",
					row.Key)
			}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// debug collects the log, down to its last detail.
func (w *world) debug() *bytes.Buffer {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	log.SetLevel(logrus.DebugLevel)
	log.SetFormatter(&logrus.JSONFormatter{})
	w.Log = log
	return &out
}
