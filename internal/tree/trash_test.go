package tree

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// below lists the files below a directory.
func below(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return files
}

func plant(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPiecesMoveSoThatWhatIsLeftMeansNoMoreThanBefore looks at both places after each piece: the link of a
// tag goes last, the file without which nobody can go on with an upload first.
func TestPiecesMoveSoThatWhatIsLeftMeansNoMoreThanBefore(t *testing.T) {
	for name, tt := range map[string]struct{ files, left []string }{
		"a tag": {[]string{"current/link", "index/sha256/aa/link", "index/sha256/bb/link"},
			[]string{"current/link", ""}},
		"an upload": {[]string{"data", "hashstates/sha256/0", "startedat"},
			[]string{"data hashstates/sha256/0", "data", ""}},
	} {
		tree, root := newTree(t)
		from, to := filepath.Join(root, "from"), filepath.Join(root, "to")
		plant(t, from, tt.files...)
		old := time.Now().Add(-time.Hour).Truncate(time.Second)
		if err := os.Chtimes(from, old, old); err != nil {
			t.Fatal(err)
		}
		var left []string
		err := tree.movePieces(from, to, func(moved string) (bool, error) {
			if fi, err := os.Stat(moved); err != nil || !fi.ModTime().Equal(old) {
				t.Errorf("%s: what was moved does not have its time any more", name)
			}
			left = append(left, strings.Join(below(t, from), " "))
			return false, nil
		})
		if err != nil || !slices.Equal(left, tt.left) || !slices.Equal(below(t, to), tt.files) {
			t.Errorf("%s: %v; left after each piece %q, want %q; moved %q", name, err, left, tt.left, below(t, to))
		}
		if _, err := os.Lstat(from); !os.IsNotExist(err) {
			t.Errorf("%s: its directory stays: %v", name, err)
		}
	}
}

// TestPiecesOfWhatIsInUseMoveBack whenever that is found out.
func TestPiecesOfWhatIsInUseMoveBack(t *testing.T) {
	files := []string{"data", "hashstates/sha256/0", "startedat"}
	for after := 1; after <= len(files); after++ {
		tree, root := newTree(t)
		from, to := filepath.Join(root, "from"), filepath.Join(root, "to")
		plant(t, from, files...)
		asked := 0
		err := tree.movePieces(from, to, func(string) (bool, error) {
			asked++
			return asked == after, nil
		})
		if !errors.Is(err, errFresh) || !slices.Equal(below(t, from), files) {
			t.Errorf("in use after %d pieces: %v, back are %q", after, err, below(t, from))
		}
		if _, err := os.Lstat(to); !os.IsNotExist(err) {
			t.Errorf("in use after %d pieces: something stays in the trash: %v", after, err)
		}
	}
}

// TestAPrivateDirectoryIsPrivateWhateverTheUmask, and one that was made wider becomes so.
func TestAPrivateDirectoryIsPrivateWhateverTheUmask(t *testing.T) {
	root := t.TempDir()
	private := Dir(root).Metadata()
	for _, before := range []os.FileMode{0, 0o777, 0o755, 0o750} {
		if before != 0 {
			if err := os.Chmod(private, before); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(Dir(root)); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(private); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("it had %v, and has %v, %v", before, fi.Mode(), err)
		}
	}
}
