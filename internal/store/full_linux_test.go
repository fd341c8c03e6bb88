package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/pin"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// small is a file system of its own, of so many KiB; fill takes what is free of it, and returns the file that does.
func small(t *testing.T, size string) (dir string, fill func() string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("only root can mount: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir, func() string {
		file := filepath.Join(dir, "fill")
		if err := os.WriteFile(file, make([]byte, 64<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		return file
	}
}

// TestNoOlderPolicyIsLeftWhereTheDiskIsFull: a gc would go by it when the index is lost.
func TestNoOlderPolicyIsLeftWhereTheDiskIsFull(t *testing.T) {
	dir, fill := small(t, "16k")
	d := tree.Dir(dir)
	must(t, os.MkdirAll(d.Metadata(), 0o755))
	must(t, writePolicy(d, promised))
	fill()
	p := promised
	p.TTL *= 2
	if err := writePolicy(d, p); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(d.Policy()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is %q, %v", data, err)
	}
}

// TestAPinThatEndsOnAFullDiskStopsNothing: the row goes, and the file follows when there is room.
func TestAPinThatEndsOnAFullDiskStopsNothing(t *testing.T) {
	o := opener(t)
	dir, fill := small(t, "8m")
	o.Dir = tree.Dir(dir)
	now := time.Now()
	o.Now = func() time.Time { return now }
	s, err := o.Serve(t.Context(), promised)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	s.openGate(t)
	pins := []index.Pin{{Key: manifest, Made: now}, {Key: v1, Made: now, Until: now.Add(time.Hour)}}
	must(t, o.EditPins(t.Context(), func([]index.Pin, time.Time) ([]index.Pin, error) { return pins, nil }))
	must(t, s.KeepPins(t.Context()))
	c, err := sqlite.OpenConn(o.Dir.Index(), sqlite.OpenReadWrite) // what is in the WAL makes room in it
	must(t, err)
	must(t, errors.Join(sqlitex.Execute(c, "PRAGMA wal_checkpoint", nil), c.Close()))
	s.Tree.DropBallast()
	full := fill()
	now = now.Add(2 * time.Hour)
	must(t, s.KeepPins(t.Context()))
	s.isOpen(t, true)
	if ps, _, err := pin.Read(o.Dir.Pins()); err != nil || len(ps) != 2 {
		t.Errorf("the disk is not full: %v, %v", ps, err)
	}
	gc, err := o.Collect(t.Context())
	must(t, err)
	must(t, gc.Close())
	must(t, os.Remove(full))
	must(t, s.KeepPins(t.Context()))
	o.rows(t, s.Index, manifest)
}
