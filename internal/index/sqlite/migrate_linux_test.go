package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// A migration needs room beside the old index. Without it the index stays what it was, and is migrated once there is.
func TestAMigrationOnAFullDiskChangesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, who may mount a small disk")
	}
	n, now := nest{500, 2000, 200_000}, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	old, dir := filepath.Join(t.TempDir(), "index.db"), t.TempDir()
	n.make(t, old, now)
	fi, err := os.Stat(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", fi.Size()+2<<20)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "index.db")
	if err := copyFile(path, old); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := Open(t.Context(), path, Serve, time.Now)
		if !errors.Is(err, index.ErrFull) || !strings.Contains(err.Error(), path) {
			t.Fatalf("%v; want %v, and the name of the index", errors.Join(err, s.Close()), index.ErrFull)
		}
		n.isOld(t, path)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=256m"); err != nil {
		t.Fatal(err)
	}
	n.migrate(t, path, now)
}
