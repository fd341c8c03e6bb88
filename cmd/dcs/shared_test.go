package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// TestACopyOfHardLinksIsNoStoreOfItsOwn: its lock and its index are those of the original, whose server writes to
// a log that the copy does not have. So a gc of the copy would look at half an index, and wait for a gate that
// never opens there.
func TestACopyOfHardLinksIsNoStoreOfItsOwn(t *testing.T) {
	t.Parallel()
	first := startServer(t, filepath.Join(t.TempDir(), "store"))
	first.push("app:v1")
	first.awaitNoUploads()
	copied := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-al", first.dir, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	first.stop(syscall.SIGTERM)
	s := startServer(t, first.dir)
	s.push("app:v2")
	for _, args := range [][]string{{"gc"}, {"gc", "--dry-run"}, {"gc", "--repair"},
		{"serve", "--auth.enabled=false", "--debug.address", "", "--server.port", "0"}} {
		code, said := within(t, append(args, "--storage.directory", copied)...)
		if code != exitLocked || !strings.Contains(said, "hard link to that of "+s.dir) ||
			!strings.Contains(said, "dcs: hint: ") {
			t.Errorf("dcs %v of the copy: exit code %d, want %d and the name of %s:\n%s", args, code, exitLocked, s.dir,
				said)
		}
	}
	// What the hint says makes a store of the copy.
	for _, pattern := range []string{"lock", "gc.lock", "index.db*"} {
		files, err := filepath.Glob(filepath.Join(tree.Dir(copied).Metadata(), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if code, said := within(t, "gc", "--storage.directory", copied); code != exitDone {
		t.Errorf("with an index of its own: exit code %d\n%s", code, said)
	}
	if err := s.pull("app:v2"); err != nil {
		t.Error(err)
	}
}

// TestAnIndexThatIsHeldIsToldAsBusy holds a lock on the index as any process can that may open its files, for
// longer than a server waits for it.
func TestAnIndexThatIsHeldIsToldAsBusy(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	s.push("app:v1")
	shm, err := os.Open(tree.Dir(s.dir).Index() + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	defer shm.Close()
	// WAL_WRITE_LOCK, which the server may be holding now: what it does beside its answers writes, too.
	if err := syscall.FcntlFlock(shm.Fd(), syscall.F_SETLKW, &syscall.Flock_t{Type: syscall.F_RDLCK, Start: 120,
		Len: 1}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodDelete, "http://"+s.host+"/v2/app/manifests/v1", nil) // one transaction
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a delete is answered by %s, want 503", resp.Status)
	}
	s.await(func() bool { // the log is written beside the answer
		return strings.Contains(s.log.String(), "another process has held the index") &&
			strings.Contains(s.log.String(), "fuser")
	}, "the log says what to look for")
	if err := shm.Close(); err != nil { // which gives the lock back
		t.Fatal(err)
	}
	if err := s.pull("app:v1"); err != nil {
		t.Error(err)
	}
	s.push("app:v2")
}
