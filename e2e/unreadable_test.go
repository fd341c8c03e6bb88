//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestADirectoryThatCannotBeReadHoldsUpNothingElse starts a server without an index on a tree of which it may not read
// some directories. Lists, deletes and the expiry of everything else work, no blob goes, and whoever asks is told what
// to look at. Once it may, all is as it should be within the minute, without a restart.
func TestADirectoryThatCannotBeReadHoldsUpNothingElse(t *testing.T) {
	const uid = 65532
	home, dir := tempDir(t), tempDir(t)
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	dcs := foreignCommand(t, home, dir)
	begin := func(more ...string) (string, *process) {
		addr, serve := foreignServe(t, dcs, uid)
		serve.Args = append(serve.Args, append(more, "--auth.enabled=false", "--cache.grace", "1s")...)
		return addr, startServer(t, addr, time.Minute, serve)
	}
	addr, server := begin()
	pushImage(t, addr+"/team/hidden:v1", newImage(t, 1<<10))
	open := pushImage(t, addr+"/open:v1", newImage(t, 1<<10))
	pushImage(t, addr+"/idle:v1", newImage(t, 1<<10))
	pushImage(t, addr+"/team/blind:v1", newImage(t, 1<<10))
	server.stop(t)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(dir, ".metadata/index.db"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	layers := filepath.Join(dir, "docker/registry/v2/repositories/team/hidden/_layers")
	tags := filepath.Join(dir, "docker/registry/v2/repositories/team/blind/_manifests/tags")
	for _, path := range []string{layers, tags} {
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
	}

	addr, server = begin("--cache.ttl", "10s", "--cache.cleanup_interval", "500ms")
	eventually(t, time.Minute, "the log to name the directory", func() error {
		if log := server.output.String(); !strings.Contains(log, layers) ||
			!strings.Contains(log, "index matches the disk") {
			return fmt.Errorf("it says\n%s", log)
		}
		return nil
	})
	if resp, err := http.Get("http://" + addr + "/v2/team/blind/tags/list"); err != nil || resp.Body.Close() != nil ||
		resp.StatusCode < 500 {
		t.Errorf("a list of tags that cannot be read: %v, %v; want a 5xx, and nothing that is short", resp.StatusCode,
			err)
	}
	for path, want := range map[string]string{"/v2/_catalog": "open", "/v2/team/hidden/tags/list": "v1"} {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	blobs := len(filesOf(t, filepath.Join(dir, "docker/registry/v2/blobs")))
	idle := filepath.Join(dir, "docker/registry/v2/repositories/idle")
	eventually(t, time.Minute, "what is idle to go", func() error {
		mustPull(t, addr+"/open:v1", open, once())
		if _, err := os.Stat(idle); !os.IsNotExist(err) {
			return fmt.Errorf("%s: %v", idle, err)
		}
		return nil
	})
	if left := len(filesOf(t, filepath.Join(dir, "docker/registry/v2/blobs"))); left != blobs {
		t.Errorf("%d of %d blobs are left", left, blobs)
	}
	if err := remote.Delete(reference(t, addr+"/open@"+open.String())); err != nil {
		t.Errorf("a DELETE: %v", err)
	}
	out, err := dcs(uid, "gc").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "repository team/") || !strings.Contains(string(out), "hint: ") {
		t.Errorf("dcs gc: %v\n%s", err, out)
	}
	if out, err := dcs(uid, "inspect", "--check").CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "unreadable: ") {
		t.Errorf("dcs inspect --check: %v\n%s", err, out)
	}

	for _, path := range []string{layers, tags} { // by now nobody used what is there for the ttl
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 2*time.Minute, "everything to go", func() error {
		if left := filesOf(t, filepath.Join(dir, "docker")); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
	run(t, dcs(uid, "gc"))
	server.end(syscall.SIGTERM)
}
