package serve

import (
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestWhatIsUsedStaysAndWhatIsNotGoes(t *testing.T) {
	uses := map[string]func(w *world, d string){
		"pull by tag":              func(w *world, _ string) { w.pull("app:v1") },
		"pull by digest":           func(w *world, d string) { w.pull("app@" + d) },
		"head by tag":              func(w *world, _ string) { w.head("app:v1") },
		"head by digest":           func(w *world, d string) { w.head("app@" + d) },
		"another push of the same": func(w *world, d string) { w.pushAgain("app:v1", d) },
	}
	for use, f := range uses {
		t.Run(use+" is use", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			img := w.image(2)
			w.push("app:v1", img)
			w.push("idle:v1", w.image(1))
			w.keepUsing(3, func() { f(w, hashOf(t, img)) })
			w.pull("app:v1")
			w.gone("idle:v1")
		})
	}
	notUses := map[string]func(w *world, layer string){
		"nothing at all": func(*world, string) {},
		"tag list":       func(w *world, _ string) { w.want(200, "GET", "/v2/app/tags/list", nil, "") },
		"catalog":        func(w *world, _ string) { w.want(200, "GET", "/v2/_catalog", nil, "") },
		"ping":           func(w *world, _ string) { w.want(200, "GET", "/v2/", nil, "") },
		"another image":  func(w *world, _ string) { w.pull("other:v1") },
		"run of gc":      func(w *world, _ string) { w.expire() },
		"restart":        func(w *world, _ string) { w.restart() },
		"delete of its layer": func(w *world, layer string) {
			w.want(405, "DELETE", "/v2/app/blobs/"+layer, nil, "")
		},
		"delete of another tag of it": func(w *world, _ string) {
			w.want(202, "DELETE", "/v2/app/manifests/v2", nil,
				"")
		},
	}
	for use, f := range notUses {
		t.Run(use+" is no use", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			img := w.image(2)
			w.push("other:v1", w.image(1))
			w.push("app:v1", img)
			w.push("app:v2", img)
			w.pass(ttl)
			f(w, layerOf(t, img))
			w.pass(2 * time.Minute)
			w.expire()
			w.gone("app:v1", "app:v2", "app@"+hashOf(t, img))
		})
	}
}

// pushAgain pushes what is there: the client sees that each part exists and only puts the manifest.
func (w *world) pushAgain(ref, d string) {
	w.Helper()
	img, err := remote.Image(w.ref("app@" + d))
	if err != nil {
		w.Fatal(err)
	}
	w.push(ref, img)
}

// TestALayerThatIsOnlyAskedForDoesNotKeepItsImage while one whose bytes are read does: a lazy puller reads layers for
// weeks, and never asks for the manifest.
func TestALayerThatIsOnlyAskedForDoesNotKeepItsImage(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	layer := "/v2/app/blobs/" + layerOf(t, img)
	w.keepUsing(5, func() { w.want(200, "GET", layer, nil, "") })
	w.pull("app:v1")
	w.pass(ttl)
	w.want(200, "HEAD", layer, nil, "")
	w.pass(2 * time.Minute)
	w.expire()
	w.gone("app:v1")
	w.want(200, "HEAD", layer, nil, "") // promised two minutes ago
	w.pass(grace + 2*time.Minute)
	w.expire()
	w.empty()
}

func TestTTLZeroIsNever(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	w.s.Config().Cache.TTL = 0
	w.pass(10 * 365 * 24 * time.Hour)
	rep := w.expire()
	if rep.Removed.Any() || !time.Time(rep.Cutoff).IsZero() {
		t.Errorf("ttl 0 removed %+v before %v", rep.Removed, rep.Cutoff)
	}
	w.pull("app:v1")
}
