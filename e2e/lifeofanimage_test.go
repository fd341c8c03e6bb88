//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// An image is built, pushed, pulled and run; nobody uses it for the ttl, and it is gone, bytes and all.
// Another one lived beside it all the time and was pulled every second.
func TestDockerLifeOfAnImage(t *testing.T) {
	const ttl = 20 * time.Second // longer than docker takes for all that it does with the other image
	dir := t.TempDir()
	const config = "testdata/ancestor/config.yaml" // which must go on working; only the data directory is ours
	port := freePort(t)
	addr := "127.0.0.1:" + port
	server := startServer(t, addr, time.Minute, exec.Command(dcsBin, "serve", "--config", config,
		"--storage.directory="+dir, "--server.port="+port,
		"--cache.ttl", ttl.String(), "--cache.grace=5s", "--cache.cleanup_interval=1s"))
	docker := startDocker(t)

	idle, busy := addr+"/team/idle:v1", addr+"/team/busy:v1"
	docker.build(t, idle, "idle")
	docker.build(t, busy, "busy")

	refused(t, docker, "no basic auth credentials", "push", idle)
	refused(t, docker, "unauthorized", "login", "-u", "admin", "-p", "wrong", addr)
	docker.run(t, "login", "-u", "user1", "-p", "password1", addr)
	docker.run(t, "login", "-u", "admin", "-p", "admin123", addr)

	for ref, name := range map[string]string{busy: "busy", idle: "idle"} {
		docker.run(t, "push", ref)
		docker.run(t, "rmi", ref)
		docker.run(t, "pull", ref)
		if got, want := docker.hello(t, ref), "hello from "+name+"\n"; got != want {
			t.Fatalf("%s says %q, want %q", ref, got, want)
		}
	}
	docker.run(t, "rmi", idle)

	lastUse := time.Now()
	idleImage, err := remote.Image(reference(t, idle), remote.WithAuth(&authn.Basic{Username: "admin",
		Password: "admin123"}))
	if err != nil {
		t.Fatalf("the image is to be there until its ttl is over: %v", err)
	}
	idleBlobs := blobsOf(t, dir, idleImage)
	before := du(t, dir)

	var lastPull time.Time
	eventually(t, 5*ttl, "end of the idle image", func() error {
		if time.Since(lastPull) >= time.Second {
			lastPull = time.Now()
			docker.run(t, "pull", busy)
		}
		return stillThere(idleBlobs)
	})
	if lived := time.Since(lastUse); lived < ttl {
		t.Errorf("the idle image went %v after its last use, but its ttl is %v", lived, ttl)
	}
	wantFreed(t, dir, before, bytesOf(idleBlobs), unlinked)
	refused(t, docker, "not found", "pull", idle)

	docker.run(t, "rmi", busy)
	docker.run(t, "pull", busy)
	if got, want := docker.hello(t, busy), "hello from busy\n"; got != want {
		t.Errorf("after the end of the other image this one says %q, want %q", got, want)
	}
	eventually(t, time.Minute, "end of the idle image's directories",
		func() error { return leftovers(dir, "team/idle") })

	if code := server.end(syscall.SIGTERM); code != 0 {
		t.Errorf("dcs serve ended with %d after SIGTERM, want 0", code)
	}
}

// refused runs a docker command that must fail, and say why.
func refused(t *testing.T, docker *docker, why string, args ...string) {
	t.Helper()
	_, stderr, code := try(t, docker.command(args...))
	if code == 0 || !strings.Contains(strings.ToLower(stderr), why) {
		t.Errorf("docker %s: exit code %d, %q; want a failure that says %q", strings.Join(args, " "), code, stderr, why)
	}
}
