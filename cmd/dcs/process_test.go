package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// patience is how long a test waits for what takes a moment on a machine that does nothing else.
const patience = time.Minute

// server is a `dcs serve` in a process of its own.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	host string
	dir  string
	log  *output
	done chan error
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// freePort is one for this test alone. A socket keeps it that is bound and never listens: servers may listen beside it,
// one after another, and the kernel gives the port to nobody who asks for any.
func freePort(t *testing.T) int {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(socket) })
	err = errors.Join(unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return bound.(*unix.SockaddrInet4).Port
}

// startServer runs dcs serve on dir, without login, and waits until it answers.
func startServer(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	s := launchServer(t, dir, args...)
	s.await(func() bool { return s.answers() == nil }, "the server answers")
	return s
}

// launchServer is startServer without the waiting.
func launchServer(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	s := newServer(t, dir, args...)
	s.launch()
	return s
}

// newServer is a server that has not been started.
func newServer(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	port := freePort(t)
	args = append([]string{"serve", "--storage.directory", dir, "--auth.enabled=false", "--server.address", "127.0.0.1",
		"--server.port", strconv.Itoa(port), "--debug.address", "", "--log.access=false"}, args...)
	s := &server{t: t, cmd: command(args...), host: fmt.Sprintf("127.0.0.1:%d", port), dir: dir, log: &output{},
		done: make(chan error, 1)}
	s.cmd.Stderr = s.log
	return s
}

func (s *server) launch() {
	s.t.Helper()
	t := s.t
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			s.signal(syscall.SIGKILL)
			t.Logf("ended: %v", <-s.done)
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.log)
		}
	})
}

func (s *server) answers() error {
	resp, err := http.Get("http://" + s.host + "/v2/")
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// await polls until ok.
func (s *server) await(ok func() bool, what string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-s.done:
			s.done <- err
			s.t.Fatalf("the server ended (%v) before %s\n%s", err, what, s.log)
		default:
		}
		if ok() {
			return
		}
	}
	s.t.Fatalf("not in time: %s\n%s", what, s.log)
}

// awaitNoUploads waits until the directories of ended uploads are gone: the server removes them beside its answers.
func (s *server) awaitNoUploads() {
	s.t.Helper()
	s.await(func() bool {
		found, err := filepath.Glob(filepath.Join(s.dir, "docker/registry/v2/repositories/*/_uploads"))
		return err == nil && len(found) == 0
	}, "the directories of uploads are gone")
}

func (s *server) signal(sig syscall.Signal) {
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Logf("signal %v: %v", sig, err)
	}
}

// stop ends the server by a signal and returns its exit code.
func (s *server) stop(sig syscall.Signal) int {
	s.t.Helper()
	s.signal(sig)
	select {
	case err := <-s.done:
		return exitCodeOf(err)
	case <-time.After(patience):
		s.t.Fatalf("the server does not end after %v\n%s", sig, s.log)
		return -1
	}
}

func exitCodeOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// command is dcs in an environment without its variables.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command("dcs", args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "DCS_") })
	return cmd
}

// dcs runs a command to its end.
func dcs(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return exitCodeOf(err), out.String(), errs.String()
}

// heldStore is the store of a server that has stopped, with an image in it. The test holds its lock, and says so as a
// server does.
func heldStore(t *testing.T, as tree.Holder) (*server, *tree.ServerLock) {
	t.Helper()
	s := startServer(t, t.TempDir())
	s.push("app:v1")
	s.stop(syscall.SIGTERM)
	lock, err := tree.Dir(s.dir).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
	})
	if err := lock.Announce(as); err != nil {
		t.Fatal(err)
	}
	return s, lock
}
