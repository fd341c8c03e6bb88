package gc

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// TestOnlyWhatARegistryWroteIsRemovedAsAnUpload puts somebody's own directories where uploads are, also by a link in
// the place of the list: a run removes old uploads beside them, and nothing else.
func TestOnlyWhatARegistryWroteIsRemovedAsAnUpload(t *testing.T) {
	for _, linked := range []bool{false, true} {
		w := newWorld(t)
		uploads := w.Dir.Native(layout.UploadsDir("app"))
		if linked {
			elsewhere := t.TempDir()
			w.must(os.MkdirAll(filepath.Dir(uploads), 0o755))
			w.must(os.Symlink(elsewhere, uploads))
		}
		old := func(path string) string {
			path = filepath.Join(uploads, path)
			w.must(os.MkdirAll(filepath.Dir(path), 0o755))
			w.must(os.WriteFile(path, []byte("x"), 0o644))
			for _, p := range []string{path, filepath.Dir(path)} {
				w.must(os.Chtimes(p, time.Unix(1, 0), time.Unix(1, 0)))
			}
			return path
		}
		upload, own := old("3f8a2b1c/data"), old("holiday-2019/photo.jpg")
		rep, err := w.Run(t.Context(), rules, false)
		if err == nil || rep.Removed.Uploads != 1 { // the gate was never opened
			t.Errorf("linked %v: removed %+v, %v", linked, rep.Removed, err)
		}
		if _, err := os.Stat(upload); !os.IsNotExist(err) {
			t.Errorf("linked %v: the upload is there: %v", linked, err)
		}
		if _, err := os.Stat(own); err != nil {
			t.Errorf("linked %v: %v", linked, err)
		}
	}
}
