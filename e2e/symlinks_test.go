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

// TestALinkToAnotherFileSystemIsRefusedByName splits a tree over two file systems, between which nothing can be moved
// in one step: near the top, where a start sees it, and further below, where the comparison does.
func TestALinkToAnotherFileSystemIsRefusedByName(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if err := syscall.Mount("tmpfs", other, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(other, syscall.MNT_DETACH) })
	addr, server := serveOpen(t, dir)
	kept := pushImage(t, addr+"/kept:v1", newImage(t, 1<<10))
	server.stop(t)

	named := func(link string, cmd *exec.Cmd) {
		t.Helper()
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); err == nil || code != 1 || !strings.Contains(string(out), link) ||
			!strings.Contains(string(out), "hint: ") {
			t.Errorf("%v: exit %d\n%s\nwant 1, %s named, and a hint", cmd.Args, code, out, link)
		}
	}
	for _, c := range []struct {
		path  string
		start bool
	}{{"repositories/team", true}, {"blobs/sha256/0f", true}, {"repositories/kept/sub",
		false}, {"repositories/kept/_uploads", false}} {
		link := filepath.Join(dir, "docker/registry/v2", c.path)
		aside := filepath.Join(t.TempDir(), "aside")
		moved := os.Rename(link, aside) == nil // there may be none
		if err := os.Symlink(other, link); err != nil {
			t.Fatal(err)
		}
		named(link, exec.Command(dcsBin, "gc", "--storage.directory", dir))
		addr, serve := openCommand(t, dir)
		if c.start {
			named(link, serve)
		} else {
			server := startServer(t, addr, time.Minute, serve)
			named(link, exec.Command(dcsBin, "gc", "--storage.directory", dir))
			mustPull(t, addr+"/kept:v1", kept)
			server.stop(t)
		}
		if out, err := exec.Command(dcsBin, "inspect", "--check", "--storage.directory",
			dir).CombinedOutput(); err == nil || !strings.Contains(string(out),
			"refused link: docker/registry/v2/"+c.path) {
			t.Errorf("dcs inspect --check: %v\n%s", err, out)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
		if moved {
			if err := os.Rename(aside, link); err != nil {
				t.Fatal(err)
			}
		}
	}
	addr, _ = serveOpen(t, dir)
	mustPull(t, addr+"/kept:v1", kept)
	run(t, exec.Command(dcsBin, "gc", "--storage.directory", dir))
}
