//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// TestAFullDiskStillForgets fills a small disk by pushes. The push that does not fit is told so, what was
// stored is served on, and expiry makes room without a restart.
func TestAFullDiskStillForgets(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	port := freePort(t)
	addr := "127.0.0.1:" + port
	startServer(t, addr, time.Minute, exec.Command(dcsBin, "serve", "--storage.directory", dir,
		"--auth.enabled=false",
		"--server.address", "127.0.0.1", "--server.port", port,
		"--cache.ttl", "15s", "--cache.grace", "5s", "--cache.cleanup_interval", "1s"))

	first := pushImage(t, addr+"/app:first", newImage(t, 1<<20))
	var refused *transport.Error
	for i := range 20 { // more than fits, faster than it expires
		err := remote.Write(reference(t, fmt.Sprintf("%s/app:v%d", addr, i)), newImage(t, 4<<20),
			remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
		if errors.As(err, &refused) {
			break
		}
		if err != nil {
			t.Fatalf("push %d: %v", i, err)
		}
	}
	if refused == nil || refused.StatusCode != http.StatusInsufficientStorage || len(refused.Errors) == 0 ||
		refused.Errors[0].Code != "INSUFFICIENT_STORAGE" {
		t.Errorf("a push onto the full disk: %v; want 507 with INSUFFICIENT_STORAGE", refused)
	}
	mustPull(t, addr+"/app:first", first)
	after := newImage(t, 8<<20) // as a client tries again: what it brought already need not be sent again
	eventually(t, 2*time.Minute, "room for another push", func() error {
		return remote.Write(reference(t, addr+"/app:after"), after, remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	})
}
