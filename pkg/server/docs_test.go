package server_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const repository = "../.." // of this package

// programs are the Go programs of a page, as written.
func programs(t *testing.T, page string) (programs []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, page))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(data), "\n```go\n")[1:] {
		program, _, ok := strings.Cut(block, "\n```\n")
		if !ok || !strings.HasPrefix(program, "package main\n") {
			t.Errorf("%s has a block that is no program:\n%.200s", page, block)
			continue
		}
		programs = append(programs, program+"\n")
	}
	if len(programs) == 0 {
		t.Fatalf("%s has no program", page)
	}
	return programs
}

// module writes a program into a module of its own, which requires what this repository requires.
func module(t *testing.T, program string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	const path = "github.com/jc-lab/docker-cache-server"
	theirs := strings.Replace(string(mod), "module "+path, "module example.com/program", 1) +
		fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %s => %s\n", path, path, root)
	for name, content := range map[string]string{"go.mod": theirs, "go.sum": string(sum), "main.go": program} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// goTool runs the go command in a module, without a network.
func goTool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestTheProgramsOfTheDocumentationCompile as a user's do, in a module that requires this one.
func TestTheProgramsOfTheDocumentationCompile(t *testing.T) {
	for _, page := range []string{"README.md", "README.ko.md", "docs/embedding.md"} {
		for i, program := range programs(t, page) {
			t.Run(fmt.Sprintf("%s %d", filepath.Base(page), i+1), func(t *testing.T) {
				goTool(t, module(t, program), "vet", ".")
			})
		}
	}
}

// running is a program of the documentation that somebody else could have started.
type running struct {
	*exec.Cmd
	url string

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

// Write implements io.Writer.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *running) said(words string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(r.out.String(), words)
}

// run builds a program and starts it, changed in nothing but where it keeps its data and listens.
func run(t *testing.T, program string) *running {
	t.Helper()
	port, free := occupied(t)
	free()
	const before = "\tsrv, err := server.New("
	if strings.Count(program, before) != 1 {
		t.Fatalf("the program makes no server, or more than one:\n%s", program)
	}
	dir := module(t, strings.Replace(program, before, fmt.Sprintf(
		"\tcfg.Storage.Directory, cfg.Server.Address, cfg.Server.Port = %q, \"127.0.0.1\", %d\n%s",
		t.TempDir(), port, before), 1))
	goTool(t, dir, "build", "-o", "program", ".")
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Cmd: exec.CommandContext(ctx, filepath.Join(dir, "program")),
		url: fmt.Sprintf("http://127.0.0.1:%d", port)}
	r.Stdout, r.Stderr = r, r
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = r.Wait() // unless the test did
		if t.Failed() {
			t.Logf("the program said\n%s", &r.out)
		}
	})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	await(t, "the program listens", func() bool {
		resp, err := client.Get(r.url + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return r
}

// TestTheReadmesProgramRuns: it lets the custom user in, tells each access, and, since it does nothing
// about signals and the library does not either, SIGTERM kills it.
func TestTheReadmesProgramRuns(t *testing.T) {
	r := run(t, programs(t, "README.md")[0])
	client := newClient(t)
	for login, want := range map[[2]string]int{{"custom", "pass"}: 200, {"custom", "wrong"}: 401, {}: 401} {
		if got := status(t, client, "GET", r.url+"/v2/", login[0], login[1]); got != want {
			t.Errorf("login %v: %d; want %d", login, got, want)
		}
	}
	img := newImage(t, 1)
	custom := remote.WithAuth(&authn.Basic{Username: "custom", Password: "pass"})
	push(t, client, r.url, "app:v1", img, custom)
	pull(t, client, r.url, "app:v1", custom)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	size, err := img.Size()
	if err != nil {
		t.Fatal(err)
	}
	words := fmt.Sprintf("blob accessed: %s (%d bytes)", digest, size)
	await(t, "the program says: "+words, func() bool { return r.said(words) })
	if err := r.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = r.Wait()
	if ws, ok := r.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGTERM {
		t.Errorf("SIGTERM: %v; want it to kill, since the program does not take it", r.ProcessState)
	}
}

// TestTheSmallestProgramEndsBySignal, which it takes itself.
func TestTheSmallestProgramEndsBySignal(t *testing.T) {
	r := run(t, programs(t, "docs/embedding.md")[0])
	client := newClient(t)
	push(t, client, r.url, "app:v1", newImage(t, 1), remote.WithAuth(&authn.Basic{Username: "ci", Password: "s3cret"}))
	if err := r.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the program ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the program does not end")
	}
}
