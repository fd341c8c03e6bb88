//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// image builds the image of the Dockerfile in a clone, from the binary under test.
func (d *docker) image(t *testing.T, ref string) {
	t.Helper()
	clone := copyWorkingTree(t)
	run(t, exec.Command("install", "-D", dcsBin, filepath.Join(clone, "bin/dcs"))) // as make build does
	build := d.command("build", "-t", ref, ".")
	build.Dir = clone
	run(t, build)
}

// container runs dcs in a container until the end of the test, and waits until it answers at addr.
func (d *docker) container(t *testing.T, addr string, args ...string) (id string) {
	t.Helper()
	id = strings.TrimSpace(d.run(t, append([]string{"run", "--detach", "--network", "host"}, args...)...))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the container:\n%s", try1(t, d.command("logs", id)))
		}
		_ = try1(t, d.command("rm", "--force", id))
	})
	eventually(t, time.Minute, "answer of the container", func() error { return answer(addr) })
	return id
}

func TestDockerfile(t *testing.T) {
	docker := startDocker(t)
	docker.image(t, "dcs")
	if got := docker.run(t, "image", "inspect", "--format", "{{.Config.User}}", "dcs"); got != "65532:65532\n" {
		t.Errorf("the image runs as %q", got)
	}

	// A user is added in the volume before the server starts.
	add := docker.command("run", "--rm", "--interactive", "--volume", "dcs:/var/cache/docker-cache-server", "dcs",
		"users", "add", "ci", "--password-stdin")
	run(t, withStdin("s3cret\n", add))
	const addr = "127.0.0.1:5000"
	container := docker.container(t, addr, "--volume", "dcs:/var/cache/docker-cache-server", "dcs")
	if top := docker.run(t, "top", container, "-o", "pid,uid,args"); !strings.Contains(strings.Join(strings.Fields(top),
		" "), " 65532 /dcs serve") {
		t.Errorf("docker top: %s", top)
	}

	docker.run(t, "login", "-u", "ci", "-p", "s3cret", addr)
	const ref = addr + "/team/hello:v1"
	docker.build(t, ref, "hello")
	docker.run(t, "push", ref)
	pulled := func() {
		t.Helper()
		docker.run(t, "rmi", ref)
		docker.run(t, "pull", ref)
		if got, want := docker.hello(t, ref), "hello from hello\n"; got != want {
			t.Errorf("%s says %q, want %q", ref, got, want)
		}
	}
	pulled()

	if listed := docker.run(t, "exec", container, "/dcs", "inspect", "--images"); !strings.Contains(listed,
		"team/hello") {
		t.Errorf("dcs inspect in the container does not list the image:\n%s", listed)
	}
	docker.run(t, "exec", container, "/dcs", "gc", "--dry-run")
	docker.run(t, "exec", container, "/dcs", "gc")

	// The volume outlives the container.
	docker.ends(t, container)
	docker.run(t, "rm", container)
	for _, verb := range []string{"inspect", "gc --dry-run", "gc"} { // without a server
		docker.run(t, append([]string{"run", "--rm", "--volume", "dcs:/var/cache/docker-cache-server", "dcs"},
			strings.Fields(verb)...)...)
	}
	container = docker.container(t, addr, "--volume", "dcs:/var/cache/docker-cache-server", "dcs")
	pulled()
	docker.ends(t, container)
}

// A directory of the host belongs to whom it belongs to: the server says so, or works.
func TestDockerfileOnADirectoryOfTheHost(t *testing.T) {
	docker := startDocker(t)
	docker.image(t, "dcs")
	dir := tempDir(t)
	args := []string{"--volume", dir + ":/var/cache/docker-cache-server", "--env", "DCS_AUTH_ENABLED=false"}

	_, said, code := try(t, docker.command(append(append([]string{"run", "--rm", "--network", "host"}, args...),
		"dcs")...))
	if code != 1 || !strings.Contains(said, "permission denied") || !strings.Contains(said, "hint") {
		t.Errorf("on a directory of root: exit code %d, %s", code, said)
	}
	run(t, exec.Command("chown", "65532:65532", dir))
	// Nothing but the volume is written to, and nothing of root's is needed.
	const addr = "127.0.0.1:5000"
	container := docker.container(t, addr, append(args, "--read-only", "--cap-drop", "ALL", "--security-opt",
		"no-new-privileges", "dcs")...)
	image := pushImage(t, addr+"/app:v1", newImage(t, 1<<10))
	mustPull(t, addr+"/app:v1", image)
	docker.run(t, "exec", container, "/dcs", "gc")
	docker.run(t, "exec", container, "/dcs", "inspect")
	docker.ends(t, container)
}

// ends stops a container as docker does, by SIGTERM, which is no failure.
func (d *docker) ends(t *testing.T, container string) {
	t.Helper()
	d.run(t, "stop", "--time", "30", container)
	if code := d.run(t, "inspect", "--format", "{{.State.ExitCode}}", container); code != "0\n" {
		t.Errorf("the container ended with %s", code)
	}
}
