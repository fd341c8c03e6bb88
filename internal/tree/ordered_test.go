package tree

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

func TestNamesComeInTheOrderOfBytesFromAnyOneOn(t *testing.T) {
	dir := Dir(t.TempDir())
	for _, name := range []string{"math/x/y", "math-voila", "math", "math.z/a", "math0", "a/b-c", "a/b/c",
		"zoo/_uploads"} {
		if err := os.MkdirAll(dir.Native(layout.Repositories+"/"+name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"a", "a/b", "a/b-c", "a/b/c", "math", "math-voila", "math.z", "math.z/a", "math/x", "math/x/y",
		"math0", "zoo"}
	if !slices.IsSorted(all) {
		t.Fatal("the test's own list is not in order")
	}
	enough := errors.New("enough")
	for _, after := range append([]string{"", "a/", "math/", "math/a", "math.", "zz"}, all...) {
		var want []string
		for _, name := range all {
			if name > after {
				want = append(want, name)
			}
		}
		w, err := dir.Walk()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		err = w.NamesAfter(t.Context(), after, func(name string) error {
			got = append(got, name)
			if len(got) == len(want) {
				return enough
			}
			return nil
		})
		if !slices.Equal(got, want) || len(want) > 0 && !errors.Is(err, enough) {
			t.Errorf("after %q: %v, %v; want %v", after, got, err, want)
		}
	}
}
