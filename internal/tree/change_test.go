package tree

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func newTree(t *testing.T) (*Tree, string) {
	t.Helper()
	root := t.TempDir()
	tree, err := OpenTree(root, filepath.Join(root, ".m"))
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
		tree.Prune(dir, root)
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
		if err := tree.Rename(staged, to); err != nil {
			t.Fatal(err)
		}
		if err := tree.Sync(to); err != nil {
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
		if moved, err := tree.TrashIf(path, func(string) (bool, error) { return true, nil }); moved || err != nil {
			t.Fatalf("a path that is fresh: moved %v, %v", moved, err)
		}
		if moved, err := tree.Trash(path); !moved || err != nil {
			t.Fatalf("trash: %v, %v", moved, err)
		}
		if moved, err := tree.Trash(path); moved || err != nil {
			t.Fatalf("trash of nothing: %v, %v", moved, err)
		}
	}
	close(stop)
	emptier.Wait()
}
