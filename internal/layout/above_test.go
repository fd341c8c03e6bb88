package layout

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestWhatIsAboveAKeyHoldsItsFile(t *testing.T) {
	for _, k := range []Key{BlobKey(dgst), BlobKey(dgst5), LayerKey("a/b", dgst), ManifestKey("a/b", dgst5),
		TagKey("a/b", "v1")} {
		dirs := Above(k)
		below := Below(path.Dir(path.Dir(k.Path().String())))
		if k.Kind == Tag { // current is in the tag's own directory
			below = path.Dir(below)
		}
		if dirs[0] != below {
			t.Errorf("%s: %s, want %s", k, dirs[0], below)
		}
		for i, dir := range dirs[1:] {
			if dir != path.Dir(dirs[i]) {
				t.Errorf("%s: %s is above %s", k, dir, dirs[i])
			}
		}
		if top := dirs[len(dirs)-1]; top != "blobs" && top != "repositories" {
			t.Errorf("%s: the last is %s", k, top)
		}
		all := RepositoryDirs(k.Repository)
		if k.Kind == Blob {
			all = BlobDirs()
		}
		for _, dir := range dirs {
			if !slices.Contains(all, dir) {
				t.Errorf("%s: %s is not one of %s", k, dir, strings.Join(all, " "))
			}
		}
	}
}
