// Package inspecttest makes stores for the tests of what is read of a store, and of how it is shown.
package inspecttest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// Day is the unit of these tests.
const Day = 24 * time.Hour

// Media types.
const (
	OCIManifest = "application/vnd.oci.image.manifest.v1+json"
	OCIIndex    = "application/vnd.oci.image.index.v1+json"
)

// Start is when each world begins, and Rules are its policy.
var (
	Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	Rules = index.Policy{TTL: 30 * Day, Grace: time.Hour, Resolution: time.Minute}
)

// Life and Lease are how long images, and what no manifest refers to, live under Rules.
const (
	Life  = 30*Day + time.Minute
	Lease = time.Hour + time.Minute
)

// World is a store, and the clock that it goes by.
type World struct {
	*sqlite.Store
	T     testing.TB
	Clock time.Time
}

// New makes an empty World whose gate is open.
func New(t testing.TB) *World {
	w := &World{T: t, Clock: Start}
	var err error
	w.Store, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "index.db"), sqlite.Serve,
		func() time.Time { return w.Clock })
	w.Must(err)
	t.Cleanup(func() { w.Must(w.Store.Close()) })
	w.Must(w.SetPins(t.Context()))
	token, err := w.CloseGate(t.Context())
	w.Must(err)
	_, err = w.OpenGate(t.Context(), token)
	w.Must(err)
	return w
}

// Must ends the test with an error.
func (w *World) Must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// At sets the clock to a time after Start.
func (w *World) At(d time.Duration) *World {
	w.Clock = Start.Add(d)
	return w
}

// Nop renames and removes nothing.
func Nop() error { return nil }

// Put claims content and places it.
func (w *World) Put(c index.Claim) {
	w.T.Helper()
	w.Must(w.Claim(context.Background(), c))
	w.Must(indextest.Place(context.Background(), w.Store, c, Nop))
}

// Dgst is the digest of an object with a name.
func Dgst(name string) digest.Digest { return digest.FromString(name) }

// Blob uploads a layer or a config into a repository.
func (w *World) Blob(repo, name string, size int64) {
	w.T.Helper()
	w.Put(index.Claim{Key: layout.BlobKey(Dgst(name)), Size: size})
	w.Put(index.Claim{Key: layout.LayerKey(repo, Dgst(name))})
}

// Manifest pushes a manifest of 100 bytes that names others.
func (w *World) Manifest(repo, name string, c manifest.Manifest, names ...string) {
	w.T.Helper()
	for _, n := range names {
		c.References = append(c.References, Dgst(n))
	}
	if c.Config != "" {
		c.References = append(c.References, c.Config)
	}
	if c.MediaType == "" {
		c.MediaType = OCIManifest
	}
	w.Put(index.Claim{Key: layout.BlobKey(Dgst(name)), Size: 100})
	w.Put(index.Claim{Key: layout.ManifestKey(repo, Dgst(name)), Size: 100, Manifest: &c})
}

// Tag points a tag at a manifest.
func (w *World) Tag(repo, tag, name string) {
	w.T.Helper()
	w.Must(indextest.MoveTag(context.Background(), w, repo, tag, Dgst(name), Nop))
}

// Use records a use.
func (w *World) Use(k layout.Key) {
	w.T.Helper()
	if found, err := w.Lease(context.Background(), k); err != nil || !found[0].Found {
		w.T.Fatalf("lease %s: %v, %v", k, found, err)
	}
}

// Team fills a store with a bit of everything.
//
//	day 0  app:v1 and app:latest, one image of config app-config, and layers base and app-1
//	day 1  lib/core: an untagged image with layer base and core-1; signed on day 2
//	day 3  multi:all, an index of two platforms that share layer data
//	day 5  a layer into scratch that no manifest names yet, and a claim that never came
//	day 6  app:v1 is pulled
func (w *World) Team() {
	w.Blob("app", "app-config", 1000)
	w.Blob("app", "base", 3<<20)
	w.Blob("app", "app-1", 5<<20)
	w.Manifest("app", "app-manifest", manifest.Manifest{Config: Dgst("app-config")}, "base", "app-1")
	w.Tag("app", "v1", "app-manifest")
	w.Tag("app", "latest", "app-manifest")

	w.At(Day).Blob("lib/core", "base", 3<<20)
	w.Blob("lib/core", "core-1", 2000)
	w.Manifest("lib/core", "core-manifest", manifest.Manifest{}, "base", "core-1")
	w.At(2*Day).Blob("lib/core", "signature", 10)
	w.Manifest("lib/core", "core-signature", manifest.Manifest{Subject: Dgst("core-manifest")}, "signature")

	w.At(3*Day).Blob("multi", "data", 1<<30)
	w.Blob("multi", "arm-1", 20)
	w.Manifest("multi", "amd", manifest.Manifest{}, "data")
	w.Manifest("multi", "arm", manifest.Manifest{}, "data", "arm-1")
	w.Manifest("multi", "all-index", manifest.Manifest{MediaType: OCIIndex}, "amd", "arm")
	w.Tag("multi", "all", "all-index")

	w.At(5*Day).Blob("scratch", "loose", 7)
	w.Must(w.Claim(w.T.Context(), index.Claim{Key: layout.BlobKey(Dgst("never")), Size: 9}))
	w.Must(w.Claim(w.T.Context(), index.Claim{Key: layout.LayerKey("scratch", Dgst("never"))}))
	w.At(6 * Day).Use(layout.TagKey("app", "v1"))
}

// Stamped is a time after Start as JSON has it.
func Stamped(d time.Duration) string { return Start.Add(d).Format("2006-01-02T15:04:05.000Z07:00") }
