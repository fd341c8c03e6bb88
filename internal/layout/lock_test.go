package layout

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestRootLockNamesItsHolder(t *testing.T) {
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
