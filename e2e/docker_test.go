//go:build e2e

package e2e

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// docker is the docker command of a user, with a daemon of the test's own behind it.
type docker struct {
	host   string // where the daemon listens
	config string // where `docker login` keeps credentials
}

func startDocker(t *testing.T) *docker {
	t.Helper()
	dir := tempDir(t)
	d := &docker{host: "unix://" + filepath.Join(dir, "docker.sock"), config: t.TempDir()}
	// The daemon chooses its storage driver: overlay2, or vfs where the file system cannot carry that.
	daemon := start(t, exec.Command("dockerd",
		"--host", d.host,
		"--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"),
		"--config-file", writeFile(t, filepath.Join(dir, "daemon.json"), "{}"),
		"--bridge=none", "--iptables=false", "--ip6tables=false"))
	eventually(t, time.Minute, "dockerd", func() error {
		select {
		case <-daemon.done:
			t.Fatalf("dockerd does not start here: %v\n%s", daemon.cmd.ProcessState, daemon.output.String())
		default:
		}
		return d.command("version").Run()
	})
	return d
}

func (d *docker) command(args ...string) *exec.Cmd {
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.host, "DOCKER_CONFIG="+d.config,
		"DOCKER_BUILDKIT=0") // BuildKit is a plugin that need not be installed
	return cmd
}

func (d *docker) run(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, d.command(args...))
}

// build makes an image that shares nothing with any other: a static program that says hello from name,
// and 8 MiB that nobody can compress.
func (d *docker) build(t *testing.T, ref, name string) {
	t.Helper()
	dir := t.TempDir()
	compile := exec.Command("go", "build", "-ldflags", "-s -w -X main.name="+name, "-o", filepath.Join(dir, "hello"),
		"./testdata/hello")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	run(t, compile)

	ballast := make([]byte, 8<<20)
	_, _ = rand.Read(ballast) // never fails
	writeFile(t, filepath.Join(dir, "ballast"), string(ballast))
	writeFile(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\nCOPY hello ballast /\nCMD [\"/hello\"]\n")
	d.run(t, "build", "-t", ref, dir)
}

// hello runs the image and returns what it says.
func (d *docker) hello(t *testing.T, ref string) string {
	t.Helper()
	return d.run(t, "run", "--rm", "--network", "none", ref)
}
