package serve

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// pin replaces all pins beside the server, as another process does.
func (w *world) pin(keys ...layout.Key) {
	w.Helper()
	o := store.Opener{Dir: tree.Dir(w.dir), Log: w.s.log, Now: w.Now}
	err := o.EditPins(w.Context(), func(_ []index.Pin, now time.Time) (ps []index.Pin, _ error) {
		for _, k := range keys {
			ps = append(ps, index.Pin{Key: k, Made: now, Note: "the auditors want it"})
		}
		return ps, nil
	}, keys...)
	if err != nil {
		w.Fatal(err)
	}
}

func TestAClientCannotDeleteWhatIsPinned(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	w.push("app:v2", img)
	refused := func(reference, by string) {
		t.Helper()
		resp := w.want(405, "DELETE", "/v2/app/manifests/"+reference, nil, "")
		if errs := errorsOf(t, resp); errs[0].Code != "UNSUPPORTED" || !strings.Contains(errs[0].Message, by) ||
			!strings.Contains(errs[0].Message, "the auditors want it") {
			t.Errorf("refused with %+v; want the pin of %s named", errs, by)
		}
	}
	dgst := hashOf(t, img)
	w.pin(layout.TagKey("app", "v1"))
	refused("v1", "app:v1")
	refused(dgst, "app:v1")
	w.want(202, "DELETE", "/v2/app/manifests/v2", nil, "")
	w.pin(layout.ManifestKey("app", digest.Digest(dgst)))
	refused(dgst, "app@"+dgst)
	w.pull("app:v1")
	w.want(202, "DELETE", "/v2/app/manifests/v1", nil, "")
	w.pin()
	w.want(202, "DELETE", "/v2/app/manifests/"+dgst, nil, "")
}

// TestAPinnedImageOutlivesItsTTLAndTheIndex that knew of it.
func TestAPinnedImageOutlivesItsTTLAndTheIndex(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(2))
	w.push("app:v2", w.image(1))
	w.pin(layout.TagKey("app", "v1"))
	w.pass(10 * ttl)
	w.expire()
	w.gone("app:v2")
	if err := os.Remove(filepath.Join(w.dir, ".metadata", "index.db")); err != nil {
		t.Fatal(err)
	}
	w.s.keeper.watch(t.Context())
	w.awaitGate()
	w.pass(10 * ttl)
	w.expire()
	w.restart()
	w.pass(10 * ttl)
	w.expire()
	w.want(405, "DELETE", "/v2/app/manifests/v1", nil, "")
	w.pull("app:v1")
}

// TestAServerWhosePinsCannotBeReadRemovesNothing, serves, and goes on by itself when they can be.
func TestAServerWhosePinsCannotBeReadRemovesNothing(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	w.push("app:v2", w.image(1))
	w.pin(layout.TagKey("app", "v1"))
	file := filepath.Join(w.dir, ".metadata", "pins.json")
	good, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte("{"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.s.keeper.watch(t.Context())
	w.pass(10 * ttl)
	c := gc.Collector{Files: gc.LocalFiles(w.s.store.Dir, w.s.store.Tree), Index: w.s.store.Index, Log: w.s.log}
	rep, err := c.Run(t.Context(), w.s.policy(), false)
	if !errors.Is(err, index.ErrGateClosed) || rep.Removed.Any() {
		t.Errorf("removed %+v, %v", rep.Removed, err)
	}
	said, err := io.ReadAll(w.want(503, "DELETE", "/v2/app/manifests/v2", nil, "").Body)
	if err != nil || !strings.Contains(string(said), "pinned") || strings.Contains(string(said), "rebuilt") {
		t.Errorf("the client is told %s, %v", said, err)
	}
	w.head("app:v2")
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	w.s.keeper.watch(t.Context())
	w.awaitGate()
	w.want(202, "DELETE", "/v2/app/manifests/v2", nil, "")
	w.want(405, "DELETE", "/v2/app/manifests/v1", nil, "")
}
