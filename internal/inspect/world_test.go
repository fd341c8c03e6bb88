package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
)

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rules = index.Policy{TTL: 30 * day, Grace: time.Hour, Resolution: time.Minute}
)

// life and lease are how long names and content live under the policy.
const (
	life  = 30*day + time.Minute
	lease = time.Hour + time.Minute
)

// world is a store, and the clock that it goes by.
type world struct {
	*sqlite.Store
	t   testing.TB
	now time.Time
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, now: start}
	var err error
	w.Store, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "index.db"), sqlite.Serve, func() time.Time { return w.now })
	w.must(err)
	t.Cleanup(func() { w.must(w.Store.Close()) })
	token, err := w.CloseGate(t.Context())
	w.must(err)
	_, err = w.OpenGate(t.Context(), token)
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// at sets the clock to a time after the start.
func (w *world) at(d time.Duration) *world {
	w.now = start.Add(d)
	return w
}

func nop() error { return nil }

func (w *world) place(c index.Claim) {
	w.t.Helper()
	w.must(w.Claim(context.Background(), c))
	w.must(w.Place(context.Background(), c, nop))
}

// dgst is the digest of a thing with a name.
func dgst(name string) digest.Digest { return digest.FromString(name) }

// blob uploads a layer or a config into a repository.
func (w *world) blob(repo, name string, size int64) {
	w.t.Helper()
	w.place(index.Claim{Key: layout.BlobKey(dgst(name)), Size: size})
	w.place(index.Claim{Key: layout.LayerKey(repo, dgst(name))})
}

// manifest pushes a manifest of 100 bytes that names others.
func (w *world) manifest(repo, name string, c manifest.Manifest, names ...string) {
	w.t.Helper()
	for _, n := range names {
		c.References = append(c.References, dgst(n))
	}
	if c.Config != "" {
		c.References = append(c.References, c.Config)
	}
	if c.MediaType == "" {
		c.MediaType = ociManifest
	}
	w.place(index.Claim{Key: layout.BlobKey(dgst(name)), Size: 100})
	w.place(index.Claim{Key: layout.ManifestKey(repo, dgst(name)), Size: 100, Content: &c})
}

func (w *world) tag(repo, tag, name string) {
	w.t.Helper()
	w.must(w.MoveTag(context.Background(), repo, tag, dgst(name), nop))
}

func (w *world) use(k layout.Key) {
	w.t.Helper()
	if found, err := w.Lease(context.Background(), k); err != nil || !found[0].Found {
		w.t.Fatalf("lease %s: %v, %v", k, found, err)
	}
}

// team fills a store with a bit of everything.
//
//	day 0  app:v1 and app:latest, one image of config app-config, and layers base and app-1
//	day 1  lib/core: an untagged image with layer base and core-1; signed at day 2
//	day 3  multi:all, an index of two platforms that share layer data
//	day 5  a layer into scratch that no manifest names yet, and a claim that never came
//	day 6  app:v1 is pulled
func (w *world) team() {
	w.blob("app", "app-config", 1000)
	w.blob("app", "base", 3<<20)
	w.blob("app", "app-1", 5<<20)
	w.manifest("app", "app-manifest", manifest.Manifest{Config: dgst("app-config")}, "base", "app-1")
	w.tag("app", "v1", "app-manifest")
	w.tag("app", "latest", "app-manifest")

	w.at(day).blob("lib/core", "base", 3<<20)
	w.blob("lib/core", "core-1", 2000)
	w.manifest("lib/core", "core-manifest", manifest.Manifest{}, "base", "core-1")
	w.at(2*day).blob("lib/core", "signature", 10)
	w.manifest("lib/core", "core-signature", manifest.Manifest{Subject: dgst("core-manifest")}, "signature")

	w.at(3*day).blob("multi", "data", 1<<30)
	w.blob("multi", "arm-1", 20)
	w.manifest("multi", "amd", manifest.Manifest{}, "data")
	w.manifest("multi", "arm", manifest.Manifest{}, "data", "arm-1")
	w.manifest("multi", "all-index", manifest.Manifest{MediaType: ociIndex}, "amd", "arm")
	w.tag("multi", "all", "all-index")

	w.at(5*day).blob("scratch", "loose", 7)
	w.must(w.Claim(w.t.Context(), index.Claim{Key: layout.BlobKey(dgst("never")), Size: 9}))
	w.must(w.Claim(w.t.Context(), index.Claim{Key: layout.LayerKey("scratch", dgst("never"))}))
	w.at(6 * day).use(layout.TagKey("app", "v1"))
}

// listing is what dcs prints as JSON, read by somebody who takes the contract at its word.
type listing struct {
	Summary struct {
		Tags      *int64 `json:"tags"`
		Manifests *int64 `json:"manifests"`
		Blobs     *int64 `json:"blobs"`
		Bytes     *int64 `json:"bytes"`
		Day       *int64 `json:"expiring_1d_bytes"`
		Week      *int64 `json:"expiring_7d_bytes"`
		Untagged  *int64 `json:"untagged_bytes"`
		Complete  *bool  `json:"complete"`
	} `json:"summary"`
	Blobs  []blobJSON  `json:"blobs"`
	Images []imageJSON `json:"images"`
	Tags   []imageJSON `json:"tags"`
}

type blobJSON struct {
	Digest       digest.Digest `json:"digest"`
	Size         *int64        `json:"size"`
	Kind         string        `json:"kind"`
	CreatedAt    string        `json:"created_at"`
	LastAccess   string        `json:"last_access"`
	ExpiresAt    *string       `json:"expires_at"`
	Repositories []string      `json:"repositories"`
	Manifests    *int          `json:"manifests"`
}

type imageJSON struct {
	Repository  string        `json:"repository"`
	Tag         *string       `json:"tag"`
	Digest      digest.Digest `json:"digest"`
	MediaType   string        `json:"media_type"`
	Size        int64         `json:"size"`
	UniqueBytes int64         `json:"unique_bytes"`
	LastAccess  string        `json:"last_access"`
	ExpiresAt   *string       `json:"expires_at"`
	KeptBy      *string       `json:"kept_by"`
	Tags        *[]string     `json:"tags"` // of images
}

func (w *world) list(p index.Policy, o Options) listing {
	w.t.Helper()
	var out bytes.Buffer
	w.must(Write(context.Background(), w, p, o, Output{To: &out, Format: JSON}))
	var l listing
	dec := json.NewDecoder(bytes.NewReader(out.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		w.t.Fatalf("%v in\n%s", err, out.Bytes())
	}
	if dec.More() {
		w.t.Fatalf("more than one object:\n%s", out.Bytes())
	}
	return l
}

func stamped(d time.Duration) string { return start.Add(d).Format("2006-01-02T15:04:05.000Z07:00") }
