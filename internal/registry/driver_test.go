package registry

import (
	"os"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// TestWalkingShowsATagOnlyWithACurrentLink holds it for lists that are made while the index is not whole.
func TestWalkingShowsATagOnlyWithACurrentLink(t *testing.T) {
	dir := layout.Dir(t.TempDir())
	half := dir.File(layout.Path{Kind: layout.TagDir, Repository: "a", Tag: "half"})
	if err := os.MkdirAll(half+"/index/sha256", 0o755); err != nil {
		t.Fatal(err)
	}
	var seen []string
	err := newDriver(dir).Walk(t.Context(), layout.Path{Kind: layout.TagsDir, Repository: "a"}.String(), func(fi storagedriver.FileInfo) error {
		seen = append(seen, fi.Path())
		return nil
	})
	if err != nil || len(seen) > 0 {
		t.Errorf("listed %v, %v", seen, err)
	}
}
