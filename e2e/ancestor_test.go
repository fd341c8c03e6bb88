//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the README of docker-cache-server tells its users to type, to the letter. Its config.yaml is in testdata.
// Two lines are not run here: `go mod download`, since there is no network, and `go test ./...`, which is what
// `make test` runs.

// starts are its ways to start the server. In place of the binary is `dcs serve`.
var starts = map[string]struct {
	script string
	port   string
	from   map[string]string // where `dcs config` must say that a value comes from
}{
	"the configuration file": {`./docker-cache-server --config config.yaml`, "5000",
		map[string]string{"auth.users": "config.yaml", "cache.ttl": "config.yaml"}},
	"flags": {`./docker-cache-server --server.port=5000 --cache.ttl=720h`, "5000",
		map[string]string{"server.port": "flag", "cache.ttl": "flag"}},
	"the environment": {`
		export DCS_SERVER_PORT=5000
		export DCS_CACHE_TTL=720h
		./docker-cache-server`, "5000",
		map[string]string{"server.port": "env", "cache.ttl": "env"}},
	"flags before the environment": {`
		export DCS_SERVER_PORT=8080
		./docker-cache-server --server.port=9000  # 9000`, "9000",
		map[string]string{"server.port": "flag"}},
}

// client is what it tells the users of the server, with images that were made before.
const client = `
	docker login localhost:5000 -u admin -p admin123
	docker tag myimage:latest localhost:5000/myimage:latest
	docker push localhost:5000/myimage:latest
	docker pull localhost:5000/myimage:latest`

func TestTheAncestorsCommandsStart(t *testing.T) {
	emptyVarCache(t)
	dir := t.TempDir()
	config, err := os.ReadFile("testdata/ancestor/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "config.yaml"), string(config))
	run(t, exec.Command("install", "-d", "/var/cache/docker-cache-server"))
	run(t, withStdin("admin123\n", exec.Command(dcsBin, "users", "add", "admin", "--password-stdin")))
	for name, c := range starts {
		t.Run(name, func(t *testing.T) {
			instead := func(verb string) *exec.Cmd {
				cmd := exec.Command("sh", "-ec", strings.Replace(c.script, "./docker-cache-server",
					"exec "+dcsBin+" "+verb, 1))
				cmd.Dir = dir
				return cmd
			}
			effective := run(t, instead("config"))
			for key, from := range c.from {
				if !regexp.MustCompile(`(?m)^` + key + ` .*` + from).MatchString(effective) {
					t.Errorf("%s is not from %s:\n%s", key, from, effective)
				}
			}
			addr := "127.0.0.1:" + c.port
			server := startServer(t, addr, time.Minute, instead("serve"))
			image := pushImage(t, addr+"/app:v1", newImage(t, 1<<10), as("admin", "admin123"))
			mustPull(t, addr+"/app:v1", image, as("admin", "admin123"))
			server.stop(t)
		})
	}
}

func TestTheAncestorsClients(t *testing.T) {
	emptyVarCache(t)
	startServer(t, "127.0.0.1:5000", time.Minute, exec.Command(dcsBin, "serve", "--config",
		"testdata/ancestor/config.yaml"))
	docker := startDocker(t)
	docker.build(t, "myimage:latest", "myimage")
	cmd := exec.Command("sh", "-exc", client)
	cmd.Env = docker.command().Env
	run(t, cmd)
	if got, want := docker.hello(t, "localhost:5000/myimage:latest"), "hello from myimage\n"; got != want {
		t.Errorf("the image says %q, want %q", got, want)
	}
}

// Those who build it find the program in cmd/dcs, and `make build` goes before `docker build`.
func TestTheAncestorsBuild(t *testing.T) {
	emptyVarCache(t)
	clone := copyWorkingTree(t)
	build := exec.Command("go", "build", "-o", "docker-cache-server", "./cmd/dcs")
	build.Dir = clone
	run(t, build)
	run(t, exec.Command(filepath.Join(clone, "docker-cache-server"), "version"))

	docker := startDocker(t)
	made := exec.Command("make", "build")
	made.Dir = clone
	run(t, made)
	image := docker.command("build", "-t", "docker-cache-server:latest", ".")
	image.Dir = clone
	run(t, image)
	docker.run(t, "run", "--rm", "docker-cache-server:latest", "version")

	run(t, exec.Command("install", "-d", "/var/cache/docker-cache-server"))
	run(t, withStdin("admin123\n", exec.Command(dcsBin, "users", "add", "admin", "--password-stdin")))
	goRun := exec.Command("go", "run", "./cmd/dcs", "serve", "--config", "config.example.yaml")
	goRun.Dir = clone
	goRun.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	server := startServer(t, "127.0.0.1:5000", time.Minute, goRun)
	if err := syscall.Kill(-goRun.Process.Pid, syscall.SIGTERM); err != nil { // go passes no signal on
		t.Fatal(err)
	}
	<-server.done
}

// What it stored lies a directory deeper than its README said. One rename, and dcs serves it.
func TestTheAncestorsDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	addr, end := serveStock(t, filepath.Join(dir, "data")) // its tree was distribution's, too
	image := newImage(t, 1<<10)
	dgst := pushImage(t, addr+"/app:v1", image)
	end()
	for _, meta := range []string{"meta/cache/sh/a2", ".metadata/sh/a2"} { // its records, and where its README had them
		if err := os.MkdirAll(filepath.Join(dir, meta), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, meta, dgst.String()+".json"),
			`{"digest":"`+dgst.String()+`","last_accessed":"2020-01-01T00:00:00Z","size":1}`)
	}

	run(t, exec.Command("mv", filepath.Join(dir, "data/docker"), dir))
	run(t, exec.Command("rm", "-r", filepath.Join(dir, "meta"), filepath.Join(dir, "data")))
	addr, server := serveOpen(t, dir)
	mustPull(t, addr+"/app:v1", dgst)
	run(t, exec.Command(dcsBin, "gc", "--storage.directory", dir)) // used in 2020, it was said
	mustPull(t, addr+"/app:v1", dgst)
	server.stop(t)
}

// emptyVarCache puts an empty directory in front of /var/cache for one test, in which the default
// storage.directory may be made.
func emptyVarCache(t *testing.T) {
	t.Helper()
	if err := syscall.Mount("tmpfs", "/var/cache", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount("/var/cache", syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
