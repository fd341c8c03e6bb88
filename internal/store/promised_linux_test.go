package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// TestNoOlderPolicyIsLeftWhereTheDiskIsFull: a gc would go by it when the index is lost.
func TestNoOlderPolicyIsLeftWhereTheDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("only root can mount: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	d := tree.Dir(dir)
	must(t, os.MkdirAll(d.Metadata(), 0o755))
	must(t, writePolicy(d, promised))
	if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 64<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	p := promised
	p.TTL *= 2
	if err := writePolicy(d, p); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(d.Policy()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is %q, %v", data, err)
	}
}
