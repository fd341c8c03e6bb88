package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// manyRequests is more than a pipe has room for.
const manyRequests = 300

// TestAServerOutlivesWhoeverReadsItsLog has a line of the log for each request, and readers of all sorts.
func TestAServerOutlivesWhoeverReadsItsLog(t *testing.T) {
	readers := map[string]func(t *testing.T, s *server){
		"who goes away": func(t *testing.T, s *server) {
			r, w := pipe(t)
			s.cmd.Stdout, s.cmd.Stderr = w, w
			s.launch()
			w.Close()
			if line, err := bufio.NewReader(r).ReadString('\n'); err != nil {
				t.Fatalf("the first line is %q, %v", line, err)
			}
			r.Close()
		},
		"who reads nothing": func(t *testing.T, s *server) {
			r, w := pipe(t)
			if _, err := unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
				t.Fatal(err)
			}
			s.cmd.Stderr = w
			s.launch()
			w.Close()
			t.Cleanup(func() { r.Close() })
		},
		"who closed it before": func(t *testing.T, s *server) {
			args := append([]string{"-c", `exec "$@" >&- 2>&-`, "sh"}, s.cmd.Args...)
			cmd := exec.Command("sh", args...)
			cmd.Env = s.cmd.Env
			s.cmd = cmd
			s.launch()
		},
		"a disk that is full": func(t *testing.T, s *server) {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer full.Close()
			s.cmd.Stdout, s.cmd.Stderr = full, full
			s.launch()
		},
	}
	for who, read := range readers {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, t.TempDir(), "--log.access=true")
			read(t, s)
			s.await(func() bool { return s.answers() == nil }, "the server answers")
			client := http.Client{Timeout: patience}
			for i := range manyRequests {
				resp, err := client.Get(fmt.Sprintf("http://%s/v2/?%d", s.host, i))
				if err != nil {
					t.Fatalf("request %d: %v", i, err)
				}
				resp.Body.Close()
			}
			s.push("app:v1")
			if err := s.pull("app:v1"); err != nil {
				t.Error(err)
			}
			if code := s.stop(syscall.SIGTERM); code != 0 {
				t.Errorf("exit %d", code)
			}
			index, err := os.ReadFile(filepath.Join(s.dir, ".metadata/index.db"))
			if err != nil || strings.Contains(string(index), "msg=") {
				t.Errorf("the log is in the index (%v)", err)
			}
		})
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// TestALogSaysHowManyLinesNobodyRead, once somebody does.
func TestALogSaysHowManyLinesNobodyRead(t *testing.T) {
	t.Parallel()
	r, w := pipe(t)
	defer r.Close()
	if _, err := unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, t.TempDir(), "--log.access=true")
	s.cmd.Stderr = w
	s.launch()
	w.Close()
	s.await(func() bool { return s.answers() == nil }, "the server answers")
	for range patientLines + manyRequests {
		if err := s.answers(); err != nil {
			t.Fatal(err)
		}
	}
	read := make(chan string)
	go func() {
		text, err := io.ReadAll(r)
		read <- fmt.Sprint(string(text), err)
	}()
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
	if text := <-read; !strings.Contains(text, "lines are missing") || !strings.Contains(text, "stopped") {
		t.Errorf("the log says nothing of what was lost, or has no end: %d bytes, %q", len(text),
			text[max(0, len(text)-300):])
	}
}

// TestACommandWhoseReaderLeavesEndsQuietly, as every command in a pipe does.
func TestACommandWhoseReaderLeavesEndsQuietly(t *testing.T) {
	t.Parallel()
	dir, flags := staleStore(t)
	for _, args := range [][]string{append([]string{"gc", "--dry-run"}, flags...),
		{"inspect", "--storage.directory", dir}, {"help"}} {
		r, w := pipe(t)
		r.Close()
		cmd := command(args...)
		var errs strings.Builder
		cmd.Stdout, cmd.Stderr = w, &errs
		err := cmd.Run()
		w.Close()
		state, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !state.Signaled() || state.Signal() != syscall.SIGPIPE || errs.Len() > 0 {
			t.Errorf("dcs %v: %v, %q; want it to end by SIGPIPE without a word", args, err, errs.String())
		}
	}
}

// write writes a configuration file.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hangUp sends SIGHUP and waits for one more line of the log that has all the words.
func (s *server) hangUp(words ...string) {
	s.t.Helper()
	count := func() (n int) {
		for _, line := range strings.Split(s.log.String(), "\n") {
			all := strings.Contains(line, "reload")
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				n++
			}
		}
		return n
	}
	before := count()
	s.signal(syscall.SIGHUP)
	s.await(func() bool { return count() == before+1 }, fmt.Sprintf("the log has one line with %q", words))
}

func TestAHangUpReadsTheSettingsAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "dcs.yaml")
	write(t, file, "cache: {ttl: 1h, grace: 5s, cleanup_interval: 1h}\nlog: {level: error}\n") // a push takes less
	s := startServer(t, t.TempDir(), "--config", file)
	s.push("first:v1")
	gone := func(repo string) bool {
		_, err := os.Stat(filepath.Join(s.dir, "docker/registry/v2/repositories", repo)) // asking for it would be use
		return os.IsNotExist(err)
	}

	write(t, file, "cache: {ttl: 1s, grace: 2h, cleanup_interval: 100ms}\nlimits: {stall_timeout: 1m}\n")
	s.hangUp("level=info", `taken="cache.ttl, cache.cleanup_interval, log.level"`,
		`need_restart="cache.grace, limits.stall_timeout"`)
	s.await(func() bool { return gone("first") }, "the image expires by the new ttl")
	s.await(func() bool { return strings.Contains(s.log.String(), "removed image") }, "the log tells more than errors")
	if code, stdout, stderr := dcs(t, "gc", "--storage.directory", s.dir, "--format", "json"); code != 0 ||
		strings.Contains(stdout, `"cutoff":null`) {
		t.Errorf("a gc by the policy of the server: exit %d, %s%s", code, stdout, stderr)
	}

	for _, bad := range []string{"cache: {ttl: soon}\n", "cache: {ttl: 1s\n", "cache: {tll: 1s}\n"} {
		write(t, file, bad)
		s.hangUp("level=error", "old one stays", file)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.hangUp("level=error", "old one stays", file)
	s.push("second:v1")
	s.await(func() bool { return gone("second") }, "the image expires by the ttl before the mistakes")
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestAHangUpReadsUsersAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "dcs.yaml")
	users := "auth: {users: [{username: ci, password: %s}]}\n"
	write(t, file, fmt.Sprintf(users, "first"))
	s := startServer(t, t.TempDir(), "--config", file, "--auth.enabled=true")
	login := func(password string) int {
		req, err := http.NewRequest("GET", "http://"+s.host+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ci", password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if login("first") != 200 || login("second") != 401 {
		t.Error("the users of the start are not those of the file")
	}
	write(t, file, fmt.Sprintf(users, "second"))
	s.hangUp("level=info", "taken=auth.users")
	if login("first") != 401 || login("second") != 200 {
		t.Error("the users are those of the start")
	}
	write(t, file, "cache: {ttl: 1h}\n")
	s.hangUp("level=error", "no user who could log in")
	if login("second") != 200 {
		t.Error("a mistake locked the users out")
	}
}

func TestAHangUpWithoutAFileReadsUsersAndCertificates(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	s.hangUp("level=info", "users and certificates", "no configuration file")
	s.push("app:v1")
}

// TestAConfigurationThroughAPipeIsReadOnce, as that of a shell's <(command) is: to read it again would find it empty.
func TestAConfigurationThroughAPipeIsReadOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t, t.TempDir(), "--config", "/dev/stdin")
	s.cmd.Stdin = strings.NewReader("cache: {ttl: 1h}\nlog: {level: debug}\n")
	s.launch()
	s.await(func() bool { return s.answers() == nil }, "the server answers")
	s.await(func() bool { return strings.Contains(s.log.String(), "ttl=1h") }, "the configuration counts")
	s.hangUp("level=error", "old one stays", "/dev/stdin", "pipe")
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
}
