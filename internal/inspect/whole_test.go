package inspect

import (
	"context"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

func TestNothingExpiresBeforeItCan(t *testing.T) {
	w := newWorld(t)
	w.Blob("app", "loose", 1)
	w.Manifest("app", "m", manifest.Manifest{MediaType: inspecttest.OCIManifest}, "loose")
	w.Tag("app", "v1", "m")
	w.Blob("other", "unnamed", 1)
	w.At(100 * day)
	w.Must(w.Hold(context.Background(), time.Hour))
	want := inspecttest.Stamped(100*day + time.Hour)
	for _, b := range w.list(inspecttest.Rules, Options{}).Blobs {
		if *b.ExpiresAt != want {
			t.Errorf("%s expires at %s; nothing goes before %s", b.Digest, *b.ExpiresAt, want)
		}
	}
	for _, i := range w.list(inspecttest.Rules, Options{Kind: Images}).Images {
		if *i.ExpiresAt != want {
			t.Errorf("%s expires at %s; nothing goes before %s", i.Repository, *i.ExpiresAt, want)
		}
	}
}
