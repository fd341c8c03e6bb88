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

// A newcomer clones the repository and types what the README says.
func TestMakeRun(t *testing.T) {
	clone := copyWorkingTree(t)
	build := exec.Command("make", "build")
	build.Dir = clone
	run(t, build)

	makeRun := exec.Command("make", "run")
	makeRun.Dir = clone
	server := startServer(t, "127.0.0.1:5000", time.Minute, makeRun)

	for _, host := range []string{"localhost:5000", "[::1]:5000"} { // a client may try either loopback
		resp, err := http.Get("http://" + host + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}

	const ref = "127.0.0.1:5000/x"
	docker := startDocker(t)
	docker.build(t, ref, "x")
	docker.run(t, "push", ref)
	docker.run(t, "rmi", ref)
	docker.run(t, "pull", ref)
	if got, want := docker.hello(t, ref), "hello from x\n"; got != want {
		t.Errorf("%s says %q, want %q", ref, got, want)
	}
	if _, err := os.Stat(filepath.Join(clone, "data/docker/registry/v2/repositories/x")); err != nil {
		t.Errorf("the data is to be in ./data: %v", err)
	}

	// make dies of a signal of its own, so the signal goes to dcs, and make reports how that ended.
	pid, err := pidOf(filepath.Join(clone, "bin/dcs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.done:
	case <-time.After(time.Minute):
		t.Fatal("dcs goes on after SIGTERM")
	}
	if code := server.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("make run ended with %d after SIGTERM, want 0", code)
	}
}

// copyWorkingTree copies what a clone of the working tree, once committed, would hold.
func copyWorkingTree(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	clone := t.TempDir()
	for _, file := range strings.Split(strings.TrimSuffix(run(t, list), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue // deleted, but not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(clone, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return clone
}

// pidOf finds the process that runs this program.
func pidOf(program string) (pid int, err error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return 0, err
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == program {
			_, err := fmt.Sscanf(link, "/proc/%d/exe", &pid)
			return pid, err
		}
	}
	return 0, fmt.Errorf("nothing runs %s", program)
}
