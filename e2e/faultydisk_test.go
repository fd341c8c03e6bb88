//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// once is a client that does not try again.
func once() remote.Option { return remote.WithRetryBackoff(remote.Backoff{Steps: 1}) }

// fails wants a push to be refused by an error in the protocol's form, with a status of 5xx.
func fails(t *testing.T, why, ref string, img v1.Image) {
	t.Helper()
	var refused *transport.Error
	err := remote.Write(reference(t, ref), img, once())
	if !errors.As(err, &refused) || refused.StatusCode < 500 || (len(refused.Errors) == 0 &&
		refused.Request.Method != http.MethodHead) {
		t.Errorf("a push while %s: %v; want a 5xx that says why", why, err)
	}
}

// TestADiskThatFailsNowAndThen makes one kind of system call fail in a running server. Nothing is acknowledged that
// did not happen, what is stored is served on, and afterwards all is as before, without a restart.
func TestADiskThatFailsNowAndThen(t *testing.T) {
	for feature, calls := range map[string][]string{
		"^has_journal": {"fsync", "renameat", "mkdirat", "pwrite64"},
		"has_journal":  {"syncfs"},
	} {
		t.Run(feature, func(t *testing.T) { failNowAndThen(t, newExt4(t, feature), calls) })
	}
}

func failNowAndThen(t *testing.T, dir string, calls []string) {
	addr, serve := openCommand(t, dir)
	server := startServer(t, addr, time.Minute, serve)
	first := pushImage(t, addr+"/app:first", newImage(t, 1<<16))
	for i, call := range calls {
		img := newImage(t, 1<<16)
		strace := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(serve.Process.Pid), "-e",
			"trace="+call, "-e", "inject="+call+":error=EIO")
		tracer := start(t, strace)
		eventually(t, time.Minute, "strace of each thread", func() error {
			threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", serve.Process.Pid))
			for _, thread := range threads {
				status, gone := os.ReadFile(thread)
				if gone == nil && strings.Contains(string(status), "TracerPid:\t0\n") {
					return fmt.Errorf("nothing traces %s yet", thread)
				}
			}
			return err
		})
		fails(t, call+" fails", fmt.Sprintf("%s/new%d:v1", addr, i), img)
		mustPull(t, addr+"/app:first", first, once())
		tracer.end(syscall.SIGTERM)
		eventually(t, time.Minute, "a push when "+call+" works again", func() error {
			return remote.Write(reference(t, fmt.Sprintf("%s/new%d:v1", addr, i)), img, once())
		})
		mustPull(t, fmt.Sprintf("%s/new%d:v1", addr, i), hashOf(t, img))
		mustPull(t, addr+"/app:first", first)
	}
	server.stop(t)
	if log := server.output.String(); strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
		t.Errorf("the server panicked:\n%s", log)
	}
	run(t, exec.Command(dcsBin, "inspect", "--check", "--deep", "--storage.directory", dir))
}

// mountExt4 mounts a new file system of so many MiB.
func mountExt4(t *testing.T, dir, size, options string) (image string) {
	t.Helper()
	image = filepath.Join(t.TempDir(), "disk")
	run(t, exec.Command("truncate", "-s", size, image))
	run(t, exec.Command("mkfs.ext4", "-q", image))
	mountImage(t, image, dir, options)
	return image
}

func mountImage(t *testing.T, image, dir, options string) {
	t.Helper()
	run(t, exec.Command("mount", "-o", "loop,"+options, image, dir))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }) // it may be unmounted already
}

// TestAFileSystemThatTurnsReadOnly is what ext4 does when it finds an error: every write fails from then on. Pulls go
// on, pushes are told so; after a check of the file system everything that was acknowledged is there.
func TestAFileSystemThatTurnsReadOnly(t *testing.T) {
	dir := t.TempDir()
	image := mountExt4(t, dir, "64M", "errors=remount-ro")
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	addr, server := serveOpen(t, data)
	first := pushImage(t, addr+"/app:first", newImage(t, 1<<16))
	device := strings.TrimSpace(run(t, exec.Command("findmnt", "-no", "SOURCE", dir)))
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(device), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("1"), 0o200); err != nil {
		t.Fatal(err)
	}
	fails(t, "the file system is read-only", addr+"/app:second", newImage(t, 1<<16))
	mustPull(t, addr+"/app:first", first, once())
	if err := answers(addr, "app", "second"); err == nil {
		t.Error("a refused push left a tag")
	}
	server.end(syscall.SIGTERM)
	if err := syscall.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	_ = exec.Command("e2fsck", "-fy", image).Run() // 1: it mended something
	mountImage(t, image, dir, "errors=remount-ro")
	addr, server = serveOpen(t, data)
	mustPull(t, addr+"/app:first", first)
	pushImage(t, addr+"/app:second", newImage(t, 1<<16))
	server.stop(t)
	run(t, exec.Command(dcsBin, "inspect", "--check", "--deep", "--storage.directory", data))
}

// TestNoInodesLeft is a disk with room for bytes and none for files.
func TestNoInodesLeft(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m,nr_inodes=600"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	addr, serve := openCommand(t, dir)
	serve.Args = append(serve.Args, "--cache.ttl", "15s", "--cache.grace", "5s", "--cache.cleanup_interval", "1s")
	startServer(t, addr, time.Minute, serve)
	first := pushImage(t, addr+"/app:first", newImage(t, 100))
	var refused *transport.Error
	for i := range 100 {
		err := remote.Write(reference(t, fmt.Sprintf("%s/r%d:v1", addr, i)), newImage(t, 100), once())
		if errors.As(err, &refused) {
			break
		}
		if err != nil {
			t.Fatalf("push %d: %v", i, err)
		}
	}
	if refused == nil || refused.StatusCode != http.StatusInsufficientStorage || len(refused.Errors) == 0 ||
		refused.Errors[0].Code != "INSUFFICIENT_STORAGE" {
		t.Errorf("a push without an inode left: %v; want 507 with INSUFFICIENT_STORAGE", refused)
	}
	mustPull(t, addr+"/app:first", first)
	eventually(t, 2*time.Minute, "room for another push", func() error {
		return remote.Write(reference(t, addr+"/app:after"), newImage(t, 100), once())
	})
}

// TestPermissionsLost takes from a server what it needs for one image. That one fails with an error that says so;
// others are served, and it is too when it may again.
func TestPermissionsLost(t *testing.T) {
	const uid = 65532
	home, dir := tempDir(t), tempDir(t)
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	addr, serve := foreignServe(t, foreignCommand(t, home, dir), uid)
	serve.Args = append(serve.Args, "--auth.enabled=false")
	server := startServer(t, addr, time.Minute, serve)
	one, two := newImage(t, 1<<10), newImage(t, 1<<10)
	first, second := pushImage(t, addr+"/app:first", one), pushImage(t, addr+"/app:second", two)
	layer := blobsOf(t, dir, one)[2].file
	if err := os.Chmod(layer, 0); err != nil {
		t.Fatal(err)
	}
	if err := pull(reference(t, addr+"/app:first"), first, once()); !isStatus(err, http.StatusInternalServerError) {
		t.Errorf("a pull of what may not be read: %v; want 500", err)
	}
	mustPull(t, addr+"/app:second", second)
	pushImage(t, addr+"/app:third", newImage(t, 1<<10))
	if err := os.Chmod(layer, 0o644); err != nil {
		t.Fatal(err)
	}
	mustPull(t, addr+"/app:first", first)

	blobs := filepath.Join(dir, "docker/registry/v2/blobs/sha256")
	if err := os.Chmod(blobs, 0o500); err != nil {
		t.Fatal(err)
	}
	fails(t, "no blob can be made", addr+"/app:fourth", newImage(t, 1<<10))
	mustPull(t, addr+"/app:second", second)
	if err := os.Chmod(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	pushImage(t, addr+"/app:fourth", newImage(t, 1<<10))
	server.stop(t)
}
