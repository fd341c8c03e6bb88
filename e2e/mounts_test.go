//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mountAt mounts something until the test ends.
func mountAt(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount %s at %s: %v", kind, target, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestATreeInPiecesIsRefused at the start, with a hint, instead of failing with each push: a rename reaches no
// other file system, and no other mount of the same one.
func TestATreeInPiecesIsRefused(t *testing.T) {
	tree := "docker/registry/v2"
	for _, piece := range []string{"docker", "docker/registry", tree, tree + "/blobs", tree + "/repositories",
		".metadata", ".metadata/tmp", ".metadata/trash"} {
		for how, mount := range map[string]func(t *testing.T, dir, at string){
			"a file system of its own": func(t *testing.T, _, at string) {
				mountAt(t, "tmpfs", at, "tmpfs", 0,
					"size=8m")
			},
			"a mount of the same one": func(t *testing.T, _, at string) {
				mountAt(t, t.TempDir(), at, "",
					syscall.MS_BIND, "")
			},
			"a link": func(t *testing.T, dir, at string) {
				elsewhere := t.TempDir()
				mountAt(t, "tmpfs", elsewhere, "tmpfs", 0, "size=8m")
				if err := os.Remove(at); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(elsewhere, at); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(strings.ReplaceAll(piece, "/", " ")+" is "+how, func(t *testing.T) {
				dir := t.TempDir()
				at := filepath.Join(dir, piece)
				if err := os.MkdirAll(at, 0o755); err != nil {
					t.Fatal(err)
				}
				mount(t, dir, at)
				for _, command := range [][]string{{"serve", "--auth.enabled=false", "--server.address", "127.0.0.1",
					"--server.port", "0", "--debug.address", ""}, {"gc"}} {
					cmd := exec.Command(dcsBin, append(command, "--storage.directory", dir)...)
					late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
					_, said, code := try(t, cmd)
					if !late.Stop() {
						t.Fatalf("dcs %s takes it", command[0])
					}
					if command[0] == "gc" && strings.Contains(said, "not a registry data directory") {
						continue
					}
					if code != 1 || !strings.Contains(said, "is on another file system than") ||
						!strings.Contains(said, "dcs: hint: mount one file system") {
						t.Errorf("dcs %s: exit code %d\n%s", command[0], code, said)
					}
				}
			})
		}
	}
}

// TestAMountInsideTheTreeIsRefusedByName mounts something further down, with each push into it bound to fail: another
// file system, or a second name for a directory of the same one. The start, a gc and a check name it.
func TestAMountInsideTheTreeIsRefusedByName(t *testing.T) {
	for _, piece := range []string{"repositories/team", "repositories/team/app/_uploads", "blobs/sha256",
		"blobs/sha256/ab", "repositories/a b"} {
		for _, bound := range []bool{false, true} {
			dir := t.TempDir()
			at := filepath.Join(dir, "docker/registry/v2", piece)
			if err := os.MkdirAll(at, 0o755); err != nil {
				t.Fatal(err)
			}
			if bound {
				mountAt(t, t.TempDir(), at, "", syscall.MS_BIND, "")
			} else {
				mountAt(t, "tmpfs", at, "tmpfs", 0, "size=8m")
			}
			for command, want := range map[string]int{"serve": 1, "gc": 1, "inspect --check": 3} {
				args := append(strings.Fields(command), "--storage.directory", dir)
				if command == "serve" {
					args = append(args, "--auth.enabled=false", "--server.address", "127.0.0.1", "--server.port", "0",
						"--debug.address", "")
				}
				cmd := exec.Command(dcsBin, args...)
				late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
				out, said, got := try(t, cmd)
				if !late.Stop() {
					t.Fatalf("dcs %s takes it", command)
				}
				if got != want || !strings.Contains(out+said, at+" is on another file system than") ||
					!strings.Contains(out+said, "mount one file system") {
					t.Errorf("%s, bound %v: dcs %s: exit code %d\n%s%s", piece, bound, command, got, out, said)
				}
			}
		}
	}
}

// TestATreeInALowerLayerForgets serves an image with its images inside: the tree is in the lower layer of an
// overlay file system, where directories cannot be renamed. Tags and manifests are deleted, unfinished uploads and
// images expire, and what is used stays.
func TestATreeInALowerLayerForgets(t *testing.T) {
	base := tempDir(t)
	mountAt(t, "tmpfs", base, "tmpfs", 0, "size=64m")
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	args := func(dir, port string) *exec.Cmd {
		return exec.Command(dcsBin, "serve", "--storage.directory", dir, "--auth.enabled=false", "--server.address",
			"127.0.0.1", "--server.port", port,
			"--debug.address", "", "--cache.ttl", "20s", "--cache.grace", "5s", "--cache.cleanup_interval", "1s")
	}
	lower, port := filepath.Join(base, "lower"), freePort(t)
	addr := "127.0.0.1:" + port
	built := startServer(t, addr, time.Minute, args(lower, port))
	image := newImage(t, 1<<16)
	used := newImage(t, 1<<16)
	pushImage(t, addr+"/app:old", image)
	pushImage(t, addr+"/app:deleted", newImage(t, 1<<10))
	gone := pushImage(t, addr+"/gone:v1", newImage(t, 1<<10))
	want := pushImage(t, addr+"/app:used", used)
	if code := built.end(syscall.SIGKILL); code == 0 { // no time for anything to expire
		t.Fatal("it ended by itself")
	}
	upload := filepath.Join(lower, "docker/registry/v2/repositories/app/_uploads/6ba7b810-9dad-41d1-80b4-00c04fd430c8")
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"data", "startedat", "hashstates/sha256/0"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(upload, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(upload, name), old.UTC().Format(time.RFC3339))
	}
	for _, name := range []string{"data", "startedat", "."} {
		if err := os.Chtimes(filepath.Join(upload, name), old, old); err != nil {
			t.Fatal(err)
		}
	}

	dir := filepath.Join(base, "merged")
	mountAt(t, "overlay", dir, "overlay", 0,
		fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,redirect_dir=off", lower, base, base))
	blobs := blobsOf(t, dir, image)
	startServer(t, addr, time.Minute, args(dir, port))
	for what, path := range map[string]string{"a tag": "/v2/app/manifests/deleted",
		"a manifest": "/v2/gone/manifests/" + gone.String()} {
		eventually(t, time.Minute, "delete of "+what, func() error { // the gate opens when the tree was compared
			req, err := http.NewRequest(http.MethodDelete, "http://"+addr+path, nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted {
				return fmt.Errorf("%s", resp.Status)
			}
			return nil
		})
	}
	tags := filepath.Join(dir, "docker/registry/v2/repositories/app/_manifests/tags")
	if _, err := os.Stat(filepath.Join(tags, "deleted")); !os.IsNotExist(err) {
		t.Errorf("the deleted tag has a directory: %v", err)
	}
	eventually(t, 2*time.Minute, "end of what nobody uses", func() error {
		mustPull(t, addr+"/app:used", want)
		if _, err := os.Stat(strings.Replace(upload, lower, dir, 1)); !os.IsNotExist(err) {
			return fmt.Errorf("the upload is still there: %v", err)
		}
		if _, err := os.Stat(filepath.Join(tags, "old")); !os.IsNotExist(err) {
			return fmt.Errorf("tag old is still there: %v", err)
		}
		return stillThere(blobs)
	})
	eventually(t, time.Minute, "end of the trash", func() error { // a run moves files there, and then empties it
		if trash, err := os.ReadDir(filepath.Join(dir, ".metadata/trash")); err != nil || len(trash) > 0 {
			return fmt.Errorf("%d files in the trash, %v", len(trash), err)
		}
		return nil
	})
	if said := run(t, exec.Command(dcsBin, "inspect", "--check", "--storage.directory", dir)); !strings.Contains(said,
		"no problems") {
		t.Error(said)
	}
}
