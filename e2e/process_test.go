//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that a test started. It ends with the test, which shows its output when it fails.
type process struct {
	cmd    *exec.Cmd
	output buffer
	done   chan struct{} // closed when the program has ended
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %v: %v", cmd, err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the exit code is in cmd.ProcessState
	}()
	t.Cleanup(func() {
		p.end(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("output of %v:\n%s", cmd, p.output.String())
		}
	})
	return p
}

// startServer starts a registry and waits until it answers at addr.
func startServer(t *testing.T, addr string, within time.Duration, cmd *exec.Cmd) *process {
	t.Helper()
	p := start(t, cmd)
	eventually(t, within, "an answer from "+addr, func() error {
		select {
		case <-p.done:
			t.Fatalf("%v ended before it served: %v\n%s", cmd, cmd.ProcessState, p.output.String())
		default:
		}
		return answer(addr)
	})
	return p
}

// answer is nil when a registry answers at addr.
func answer(addr string) error {
	resp, err := http.Get("http://" + addr + "/v2/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("GET /v2/: %s", resp.Status)
	}
	return nil
}

// end sends the signal, waits, and returns the exit code (-1 after a signal that killed it).
func (p *process) end(sig syscall.Signal) int {
	_ = p.cmd.Process.Signal(sig) // it may have ended already
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends a server as an init system does.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d after SIGTERM, want 0: %v", code, p.cmd)
	}
}

// run runs a command to its end and returns its standard output. Anything but exit code 0 fails the test.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, errs, code := try(t, cmd)
	if code != 0 {
		t.Fatalf("%v: exit code %d\n%s%s", cmd, code, out, errs)
	}
	return out
}

// try runs a command to its end, whatever that is.
func try(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("start %v: %v", cmd, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// eventually asks again and again until the answer is nil, and fails the test when it is not within time.
func eventually(t *testing.T, within time.Duration, what string, ask func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no %s within %v: %v", what, within, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// freePort returns a port of 127.0.0.1 that nobody listens on. Only the test itself could take it.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// tempDir is t.TempDir for what other users must reach, and for sockets, whose paths must be short.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// buffer is a bytes.Buffer that may be read while a process still writes to it.
type buffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
