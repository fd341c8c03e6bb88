package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// store is a data directory with the dcs serve on it, which may be killed and started again.
type store struct {
	t    *testing.T
	dir  string
	addr string
	args []string
	// Which program, and what it finds in its environment beside ours.
	binary string
	env    []string

	cmd  *exec.Cmd
	log  logBook
	done chan struct{}
}

// logBook is what all servers of a store said.
type logBook struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// complaints are the lines that an operator should never see without a fault of his own.
func (l *logBook) complaints() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		for _, bad := range []string{"level=error", "panic", "DATA RACE", "goroutine "} {
			if strings.Contains(line, bad) {
				all = append(all, strings.TrimSpace(line))
			}
		}
	}
	return all
}

func newStore(t *testing.T, args ...string) *store {
	t.Helper()
	s := &store{t: t, dir: t.TempDir(), addr: freeAddress(t), args: args, binary: dcsBinary}
	t.Cleanup(func() {
		if s.cmd != nil && s.cmd.ProcessState == nil {
			s.kill()
		}
		if t.Failed() {
			t.Logf("log of the server:\n%.20000s", &s.log.buf)
		}
	})
	return s
}

// freeAddress has a port for this test alone. A socket keeps it that is bound and never listens: servers may listen
// beside it, one after another, and the kernel gives the port to nobody who asks for any.
func freeAddress(t *testing.T) string {
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
	return fmt.Sprint("127.0.0.1:", bound.(*unix.SockaddrInet4).Port)
}

// start starts the server and waits until it answers. It says how long that took.
func (s *store) start() time.Duration {
	s.t.Helper()
	took, ok := s.tryStart()
	if !ok {
		s.t.Fatalf("the server does not start: %v\n%s", s.cmd.ProcessState, &s.log.buf)
	}
	return took
}

// tryStart is start for a server that may end before it answers.
func (s *store) tryStart() (took time.Duration, ok bool) {
	s.t.Helper()
	host, port, _ := strings.Cut(s.addr, ":")
	s.cmd = exec.Command(s.binary, append([]string{"serve", "--storage.directory", s.dir, "--auth.enabled=false",
		"--server.address", host, "--server.port", port, "--debug.address", "", "--log.access=false"}, s.args...)...)
	s.cmd.Stderr, s.cmd.Env = &s.log, append(os.Environ(), s.env...)
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, done := s.cmd, make(chan struct{})
	s.done = done
	go func() {
		_ = cmd.Wait() // in cmd.ProcessState
		close(done)
	}()
	for time.Since(began) < time.Minute {
		resp, err := http.Get("http://" + s.addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return time.Since(began), true
		}
		select {
		case <-done:
			return 0, false
		case <-time.After(5 * time.Millisecond):
		}
	}
	s.t.Fatalf("the server does not answer within a minute\n%s", &s.log.buf)
	return 0, false
}

func (s *store) kill() {
	_ = s.cmd.Process.Kill() // it may have ended already
	<-s.done
}

// stop ends the server as an init system does.
func (s *store) stop() {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(60 * time.Second):
		s.t.Fatal("the server does not stop")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("the server ended with %d after SIGTERM", code)
	}
}

// dcs runs a command on the store; one that ends with the context was killed.
func (s *store) dcs(ctx context.Context, args ...string) (code int, output string, err error) {
	cmd := exec.CommandContext(ctx, s.binary, append(args, "--storage.directory", s.dir)...)
	cmd.Env = append(os.Environ(), s.env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, string(out), err
	}
	return cmd.ProcessState.ExitCode(), string(out), nil
}

// files are those below directories of the store, without the index and what else has to stay, such as links.
func (s *store) files(dirs ...string) (all []string, err error) {
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(s.dir, dir), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !e.IsDir() && e.Type()&fs.ModeSymlink == 0 {
				all = append(all, strings.TrimPrefix(path, s.dir))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// answer is what came back for a request.
type answer struct {
	code     int
	body     []byte
	header   http.Header
	sent     time.Time
	received time.Time
}

// connections are kept, as clients do. Nothing is retried.
var client = &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (s *store) do(method, path string, body []byte, header ...string) (answer, error) {
	a := answer{sent: time.Now()}
	url := path
	if !strings.HasPrefix(path, "http") {
		url = "http://" + s.addr + path
	}
	// A body that cannot be sent again keeps the transport from retrying by itself.
	var reader io.Reader
	if body != nil {
		reader = io.NopCloser(bytes.NewReader(body))
	}
	req, err := http.NewRequest(method, url, reader)
	if err != nil {
		return a, err
	}
	req.ContentLength = int64(len(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.code, a.header = resp.StatusCode, resp.Header
	a.body, err = io.ReadAll(resp.Body)
	a.received = time.Now()
	if err != nil {
		return a, fmt.Errorf("body of %s %s: %w", method, path, err)
	}
	return a, nil
}
