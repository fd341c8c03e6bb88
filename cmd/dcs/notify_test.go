package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager is what a service manager hears of its service.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

// newManager listens as systemd does; the commands of the test are its services.
func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "dcs") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram(addr.Net, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", addr.Name)
	return &manager{t, conn}
}

// hear returns the lines of the next message.
func (m *manager) hear() []string {
	m.t.Helper()
	lines, err := m.listen(patience)
	if err != nil {
		m.t.Fatalf("no message of the service: %v", err)
	}
	return lines
}

func (m *manager) listen(timeout time.Duration) ([]string, error) {
	if err := m.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	return strings.Split(string(buf[:n]), "\n"), err
}

// quiet fails when something was said that nobody heard as yet.
func (m *manager) quiet() {
	m.t.Helper()
	if lines, err := m.listen(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Errorf("the service said %q (%v); want nothing more", lines, err)
	}
}

func TestAServiceManagerHearsWhenTheServerAcceptsAndWhenItStops(t *testing.T) {
	m := newManager(t)
	dir := t.TempDir()
	s := launchServer(t, dir, "--server.drain_timeout", "2m")
	if got, want := m.hear(), []string{"STATUS=opening " + dir}; !slices.Equal(got, want) {
		t.Errorf("first %q; want %q", got, want)
	}
	ready := m.hear()
	if err := s.answers(); err != nil {
		t.Errorf("said to be ready, and does not answer: %v", err)
	}
	if len(ready) != 2 || ready[0] != "READY=1" || !strings.HasPrefix(ready[1], "STATUS=serving") {
		t.Errorf("then %q; want READY=1 with a status", ready)
	}
	for heard := ready; !slices.Contains(heard, "STATUS=serving"); {
		heard = m.hear() // the index is being compared with the disk
	}
	m.quiet()

	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	// The drain timeout, and half a minute to close.
	want := []string{"STOPPING=1", "STATUS=shutting down: waiting up to 2m for running transfers",
		"EXTEND_TIMEOUT_USEC=150000000"}
	if got := m.hear(); !slices.Equal(got, want) {
		t.Errorf("at SIGTERM %q; want %q", got, want)
	}
	m.quiet()
}

func TestAServerThatCannotListenIsNeverReady(t *testing.T) {
	first := startServer(t, t.TempDir()) // has no service manager, and does not mind
	if log := first.log.String(); strings.Contains(log, "service manager") {
		t.Errorf("there is none, but the log says:\n%s", log)
	}
	_, port, _ := net.SplitHostPort(first.host)
	m := newManager(t)
	second := launchServer(t, t.TempDir(), "--server.port", port)
	if code := exitCodeOf(<-second.done); code != exitFailed {
		t.Errorf("exit code %d; want %d", code, exitFailed)
	}
	for {
		lines, err := m.listen(time.Millisecond)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if slices.Contains(lines, "READY=1") {
			t.Errorf("said %q, on the port of another server", lines)
		}
	}
}

func TestAServiceManagerThatIsGoneStopsNobody(t *testing.T) {
	m := newManager(t)
	m.conn.Close()
	s := startServer(t, t.TempDir())
	s.await(func() bool { return strings.Contains(s.log.String(), "cannot tell the service manager") }, "a warning")
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}
