package tree

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

func newTree(t *testing.T) (*Tree, string) {
	t.Helper()
	root := t.TempDir()
	tree, err := Open(Dir(root))
	if err != nil {
		t.Fatal(err)
	}
	return tree, root
}

func TestADirectoryThatIsMadeAgainIsNotTakenForDurable(t *testing.T) {
	tree, root := newTree(t)
	dir := filepath.Join(root, "a", "b")
	for range 20 { // file systems give out the inode of a removed directory again
		if err := tree.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		if len(tree.synced) < 2 {
			t.Fatal("no directory was made durable")
		}
		tree.prune(dir)
		if _, err := os.Stat(filepath.Join(root, "a")); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("prune left %v", err)
		}
		if _, known := tree.synced[dir]; known {
			t.Fatal("a removed directory counts as durable")
		}
	}
}

func TestRenameMakesAVanishedDirectoryAgain(t *testing.T) {
	tree, root := newTree(t)
	for i := range 10 {
		staged, err := tree.Stage([]byte("data"))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, "x", "y", "z", string(rune('a'+i)))
		if err := tree.rename(staged.path, to); err != nil {
			t.Fatal(err)
		}
		if err := tree.reached(filepath.Dir(to)); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(root, "x")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTrashAndEmptyTrashDoNotDisturbEachOther(t *testing.T) {
	tree, root := newTree(t)
	stop := make(chan struct{})
	var emptier sync.WaitGroup
	emptier.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := tree.EmptyTrash(); err != nil {
					t.Errorf("empty: %v", err)
				}
			}
		}
	})
	for range 500 {
		path := filepath.Join(root, "victim")
		if err := os.MkdirAll(filepath.Join(path, "below"), 0o755); err != nil {
			t.Fatal(err)
		}
		if moved, err := tree.throwIf(path, func(string) (bool, error) { return true, nil }); moved || err != nil {
			t.Fatalf("a path that is fresh: moved %v, %v", moved, err)
		}
		if moved, err := tree.throw(path); moved == "" || err != nil {
			t.Fatalf("trash: %v, %v", moved, err)
		}
		if moved, err := tree.throw(path); moved != "" || err != nil {
			t.Fatalf("trash of nothing: %v, %v", moved, err)
		}
	}
	close(stop)
	emptier.Wait()
}

// TestWhatMayBeMovedBackStaysInTheTrash, however long ago its directory was made: another process that empties the
// trash must not remove an upload to which its client has just gone on.
func TestWhatMayBeMovedBackStaysInTheTrash(t *testing.T) {
	tree, root := newTree(t)
	upload := filepath.Join(root, "upload")
	plant(t, upload, "data", "startedat")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(upload, old, old); err != nil {
		t.Fatal(err)
	}
	moved, err := tree.throwIf(upload, func(string) (bool, error) { return true, tree.EmptyTrash() })
	if moved || err != nil {
		t.Errorf("moved %v, %v", moved, err)
	}
	if got := below(t, upload); !slices.Equal(got, []string{"data", "startedat"}) {
		t.Errorf("%q are left of it", got)
	}
}

// TestWhatAKilledProcessWasDecidingIsRemoved, after a minute.
func TestWhatAKilledProcessWasDecidingIsRemoved(t *testing.T) {
	tree, root := newTree(t)
	now := time.Now()
	late, early := undecidedAt(now.Add(-2*time.Minute)), undecidedAt(now)
	for _, name := range []string{late, early} {
		plant(t, filepath.Join(tree.Trash(), name), "data")
	}
	if err := tree.EmptyTrash(); err != nil {
		t.Fatal(err)
	}
	if got := below(t, root); !slices.Equal(got, []string{filepath.Join(".metadata/trash", early, "data")}) {
		t.Errorf("%q are left", got)
	}
}
