package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// TestAListIsFullOrAnError: what cannot be looked at is not left out of a list, for nobody could tell that from one
// that is whole. What is gone or damaged is left out.
func TestAListIsFullOrAnError(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	img := w.image(1)
	w.push("app:v2", img)
	subject := hashOf(t, img)
	var referrers []string
	for i := range 3 {
		referrers = append(referrers, w.put("app", "", map[string]any{"schemaVersion": 2, "mediaType": ociIndex,
			"manifests": []any{},
			"subject":   descriptor(ociManifest, subject, 1), "annotations": map[string]string{"n": fmt.Sprint(i)}}))
	}
	dir := tree.Dir(w.dir)
	tag := filepath.Dir(dir.File(layout.Path{Kind: layout.TagLink, Repository: "app", Tag: "v1"}))
	revision := dir.File(layout.Path{Kind: layout.RevisionLink, Repository: "app", Digest: digestFrom(referrers[0])})
	blob := dir.File(layout.Path{Kind: layout.BlobData, Digest: digestFrom(referrers[1])})
	tagged := func() int {
		var list struct{ Tags []string }
		if err := json.Unmarshal(w.read(w.want(200, "GET", "/v2/app/tags/list", nil, "")), &list); err != nil {
			t.Fatal(err)
		}
		return len(list.Tags)
	}
	referring := func() int {
		var list struct{ Manifests []any }
		if err := json.Unmarshal(w.read(w.want(200, "GET", "/v2/app/referrers/"+subject, nil, "")), &list); err != nil {
			t.Fatal(err)
		}
		return len(list.Manifests)
	}
	// unreadable puts a link that leads to itself where a file or directory was: who opens it gets an error, and
	// not that nothing is there.
	unreadable := func(path string) (mend func()) {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Base(path), path); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := errors.Join(os.Remove(path), os.Rename(path+".away", path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if tagged() != 2 || referring() != 3 {
		t.Fatalf("%d tags, %d referrers", tagged(), referring())
	}
	for _, c := range []struct{ what, path, list string }{
		{"a tag's directory", tag, "/v2/app/tags/list"},
		{"a referrer's link", revision, "/v2/app/referrers/" + subject},
		{"a referrer's file", blob, "/v2/app/referrers/" + subject},
	} {
		mend := unreadable(c.path)
		if status := w.do("GET", c.list, nil, "").StatusCode; status < 500 {
			t.Errorf("%s cannot be read: %d; want an error", c.what, status)
		}
		mend()
		w.want(200, "GET", c.list, nil, "")
	}
	mend := unreadable(tag)
	if _, err := w.s.store.Index.CloseGate(t.Context()); err != nil { // so that the tree is walked
		t.Fatal(err)
	}
	if status := w.do("GET", "/v2/app/tags/list", nil, "").StatusCode; status < 500 {
		t.Errorf("a tag's directory cannot be read while the index is not whole: %d; want an error", status)
	}
	mend()
	w.restart()
	if err := os.RemoveAll(tag); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if tagged() != 1 || referring() != 2 {
		t.Errorf("%d tags, %d referrers; want those that are left", tagged(), referring())
	}
}
