//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// owner is the uid and gid of the data directory: the user that the packaged dcs runs as.
const owner = 12345

// An administrator does as root what the server's own user should have done. The server must not be locked out.
func TestRootOverForeignDirectory(t *testing.T) {
	home := tempDir(t)
	dir := filepath.Join(home, "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, owner, owner); err != nil {
		t.Fatal(err)
	}
	dcs := foreignCommand(t, home, dir)
	alice := remote.WithAuth(&authn.Basic{Username: "alice", Password: "s3cret"})

	run(t, withStdin("s3cret\n", dcs(0, "users", "add", "alice", "--password-stdin")))
	wantOwner(t, dir)

	addr, serve := foreignServe(t, dcs, 0)
	byRoot := startServer(t, addr, time.Minute, serve)
	first := pushImage(t, addr+"/app:root", newImage(t, 1<<10), alice)
	run(t, dcs(0, "gc"))
	run(t, dcs(0, "inspect"))
	wantOwner(t, dir)
	byRoot.stop(t)
	run(t, dcs(0, "gc"))
	run(t, dcs(0, "inspect"))
	run(t, withStdin("hunter2\n", dcs(0, "users", "add", "bob", "--password-stdin")))
	wantOwner(t, dir)

	addr, serve = foreignServe(t, dcs, owner)
	byOwner := startServer(t, addr, time.Minute, serve)
	mustPull(t, addr+"/app:root", first, alice)
	second := pushImage(t, addr+"/app:owner", newImage(t, 1<<10), alice)
	run(t, dcs(owner, "gc"))
	run(t, dcs(owner, "inspect"))
	run(t, dcs(0, "gc"))
	run(t, withStdin("open sesame\n", dcs(owner, "users", "add", "carol", "--password-stdin")))
	if got, want := run(t, dcs(owner, "users", "list")), "alice\nbob\ncarol\n"; got != want {
		t.Errorf("dcs users list: %q, want %q", got, want)
	}
	mustPull(t, addr+"/app:owner", second, alice)
	wantOwner(t, dir)
	byOwner.stop(t)
}

// foreignCommand returns what makes commands of a dcs that any uid can run, on the data directory dir.
func foreignCommand(t *testing.T, home, dir string) func(uid uint32, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.ReadFile(dcsBin)
	if err != nil {
		t.Fatal(err)
	}
	dcs := filepath.Join(home, "dcs")
	if err := os.WriteFile(dcs, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	return func(uid uint32, args ...string) *exec.Cmd {
		cmd := exec.Command(dcs, append(args, "--storage.directory", dir)...)
		cmd.Dir = home
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		return cmd
	}
}

func foreignServe(t *testing.T, dcs func(uint32, ...string) *exec.Cmd, uid uint32) (addr string, serve *exec.Cmd) {
	t.Helper()
	port := freePort(t)
	return "127.0.0.1:" + port, dcs(uid, "serve", "--server.address", "127.0.0.1", "--server.port", port)
}

func withStdin(text string, cmd *exec.Cmd) *exec.Cmd {
	cmd.Stdin = strings.NewReader(text)
	return cmd
}

// wantOwner fails when anything in the data directory belongs to somebody else.
func wantOwner(t *testing.T, dir string) {
	t.Helper()
	var foreign []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running server may remove what it no longer needs
		}
		if err != nil {
			return err
		}
		if info, err := entry.Info(); err == nil {
			if stat := info.Sys().(*syscall.Stat_t); stat.Uid != owner || stat.Gid != owner {
				foreign = append(foreign, fmt.Sprintf("%s (%d:%d)", strings.TrimPrefix(path, dir), stat.Uid, stat.Gid))
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if len(foreign) > 0 {
		t.Errorf("%d files do not belong to %d:%d, such as %s", len(foreign), owner, owner,
			strings.Join(foreign[:min(5, len(foreign))], ", "))
	}
}
