package tree

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/disk"
)

func TestTheServersLockNamesItsHolder(t *testing.T) {
	dir := Dir(t.TempDir())
	if err := os.MkdirAll(dir.Metadata(), 0o755); err != nil {
		t.Fatal(err)
	}
	if h, err := dir.Live(); h != nil || err != nil {
		t.Fatalf("Live of an unlocked directory = %v, %v", h, err)
	}
	lock, err := dir.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Announce(Holder{PID: 812, Index: "abc"}); err != nil {
		t.Fatal(err)
	}
	if h, err := dir.Live(); err != nil || h == nil || h.PID != 812 || h.Index != "abc" {
		t.Fatalf("Live = %+v, %v", h, err)
	}
	_, err = dir.Lock(t.Context())
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Holder.PID != 812 {
		t.Fatalf("second Lock = %v; want a LockedError with pid 812", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := dir.Lock(t.Context())
	if err != nil {
		t.Fatalf("Lock after Unlock: %v", err)
	}
	if err := again.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// TestALockThatIsAHardLinkNamesTheDirectoryOfItsServer: a copy of hard links has the very lock of the
// original, whose server uses another index than what the copy's has become.
func TestALockThatIsAHardLinkNamesTheDirectoryOfItsServer(t *testing.T) {
	dir, copied := Dir(t.TempDir()), Dir(t.TempDir())
	for _, d := range []Dir{dir, copied} {
		if err := os.Mkdir(d.Metadata(), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := dir.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Announce(Holder{PID: 812, Index: "abc"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(dir.LockFile(), copied.LockFile()); err != nil {
		t.Fatal(err)
	}
	_, live := copied.Live()
	_, taken := copied.Lock(t.Context())
	for _, err := range []error{live, taken} {
		var elsewhere *ElsewhereError
		if !errors.As(err, &elsewhere) || elsewhere.Directory != string(copied) ||
			elsewhere.Holder.Directory != string(dir) || elsewhere.Holder.PID != 812 {
			t.Errorf("%v; want an ElsewhereError with %s and pid 812", err, dir)
		}
		if !errors.Is(err, ErrLocked) {
			t.Errorf("%v is no ErrLocked", err)
		}
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if h, err := copied.Live(); h != nil || err != nil {
		t.Errorf("once the server has ended: %v, %v", h, err)
	}
}

// TestALockThatIsNoFileIsRefusedAtOnce: to open a pipe would wait for somebody who writes to it.
func TestALockThatIsNoFileIsRefusedAtOnce(t *testing.T) {
	dir := Dir(t.TempDir())
	if err := os.Mkdir(dir.Metadata(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir.LockFile(), dir.GCLock()} {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, locked := dir.Lock(t.Context())
	_, live := dir.Live()
	_, gc := dir.LockGC(t.Context())
	for name, err := range map[string]error{"Lock": locked, "Live": live, "LockGC": gc} {
		if !errors.Is(err, disk.ErrNotRegular) || !strings.Contains(err.Error(), "lock") {
			t.Errorf("%s of a pipe: %v", name, err)
		}
	}
}

func TestOnlyALockThatDoesNotWorkBlamesTheFileSystem(t *testing.T) {
	for _, tt := range []struct {
		err    error
		blamed bool
	}{{syscall.EACCES, false}, {syscall.EPERM, false}, {syscall.ENOLCK, true}, {syscall.EINVAL, true}} {
		err := lockError("/data/.metadata/lock", &fs.PathError{Op: "open", Path: "/data/.metadata/lock", Err: tt.err})
		if blamed := strings.Contains(err.Error(), "locks must work"); blamed != tt.blamed || !errors.Is(err, tt.err) {
			t.Errorf("%v: %v", tt.err, err)
		}
	}
}
