//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInspectReadsAReadOnlyDirectory looks at a directory through a read-only mount, as a container of an
// operator may have it: beside its server, after it was killed, after its index lost the file beside it, and
// without an index. The answer is always the same, and nothing is written.
func TestInspectReadsAReadOnlyDirectory(t *testing.T) {
	dir, view := t.TempDir(), t.TempDir()
	port := freePort(t)
	addr := "127.0.0.1:" + port
	server := startServer(t, addr, time.Minute, exec.Command(dcsBin, "serve", "--storage.directory", dir,
		"--auth.enabled=false", "--server.address", "127.0.0.1", "--server.port", port))
	pushImage(t, addr+"/app:v1", newImage(t, 1<<16))
	readOnly(t, dir, view)
	inspect := func(when string) string {
		t.Helper()
		out, err := exec.Command(dcsBin, "inspect", "--images", "--format", "csv", "--storage.directory",
			view).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "\napp,v1,sha256:") {
			t.Fatalf("%s: %v\n%s", when, err, out)
		}
		return string(out)
	}
	want := inspect("beside the server")
	server.end(syscall.SIGKILL)
	index := filepath.Join(dir, ".metadata", "index.db")
	if fi, err := os.Stat(index + "-wal"); err != nil || fi.Size() == 0 {
		t.Fatalf("a killed server leaves a WAL: %v", err)
	}
	for _, tt := range []struct{ when, without string }{{"after kill -9", ""},
		{"without the shared memory file", index + "-shm"}} {
		if tt.without != "" {
			if err := os.Remove(tt.without); err != nil {
				t.Fatal(err)
			}
		}
		if got := inspect(tt.when); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.when, got, want)
		}
	}
	for _, suffix := range []string{"", "-wal"} {
		if err := os.Remove(index + suffix); err != nil {
			t.Fatal(err)
		}
	}
	inspect("without an index") // by its own clock
	if _, err := os.Stat(index); err == nil {
		t.Error("reading made an index")
	}
}

// readOnly shows a directory at another place, where it cannot be written to.
func readOnly(t *testing.T, dir, view string) {
	t.Helper()
	if err := syscall.Mount(dir, view, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(view, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mount("", view, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
}
