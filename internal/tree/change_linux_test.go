package tree

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// A disk has room for some of the directories of a file, and not for all. Those that were made are removed again.
func TestADirectoryThatCannotBeMadeLeavesNoneAboveIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, who may mount a small disk")
	}
	tree, root := newTree(t)
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "nr_inodes=5"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c := tree.Begin()
	err := c.Prepare(layout.LayerKey("app", digest.FromString("x")).Path())
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%v; want %v", err, syscall.ENOSPC)
	}
	c.Abandon()
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("%v stay, %v", left, err)
	}
}
