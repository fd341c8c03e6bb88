package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// screen is a terminal of 100 columns on which a process runs.
type screen struct {
	t      *testing.T
	master *os.File
	out    output // everything that was written
	read   sync.WaitGroup
}

// onScreen starts a process whose terminal the screen is.
func onScreen(t *testing.T, cmd *exec.Cmd) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skip(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 100}); err != nil {
		t.Skip(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, master: master}
	s.read.Go(func() { _, _ = io.Copy(&s.out, master) }) // ends with an error when the last process has gone
	t.Cleanup(func() { master.Close() })
	return s
}

// press types a key.
func (s *screen) press(key byte) {
	s.t.Helper()
	if _, err := s.master.Write([]byte{key}); err != nil {
		s.t.Fatal(err)
	}
}

// lines is what stands on the screen once the process has ended.
func (s *screen) lines() []string {
	s.t.Helper()
	s.read.Wait()
	text := regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(s.out.String(), "")
	var lines []string
	var line []rune
	column := 0
	for text := []rune(text); len(text) > 0; text = text[1:] {
		switch {
		case text[0] == '\n':
			lines, line, column = append(lines, string(line)), nil, 0
		case text[0] == '\r':
			column = 0
		case strings.HasPrefix(string(text[:min(3, len(text))]), "\x1b[K"):
			line, text = line[:column], text[2:]
		default:
			line = append(line[:column], append([]rune{text[0]}, line[min(column+1, len(line)):]...)...)
			column++
		}
	}
	return append(lines, string(line))
}

const ctrlC = 0x03

// TestABarOnATerminal runs gc beside a server, to which it leaves a turn after every step: so it takes long
// enough to be watched, and to be stopped by Ctrl-C.
func TestABarOnATerminal(t *testing.T) {
	t.Parallel()
	dir, _ := staleStore(t)
	server := startServer(t, dir, "--cache.cleanup_interval", "0", "--cache.grace", "1s", "--cache.ttl", "24h", "--cache.adopt_age", "mtime")
	for _, tt := range []struct {
		name, variable string
		colour         bool
	}{{"in colour", "TERM=xterm", true}, {"without colour", "NO_COLOR=1", false}} {
		cmd := command("gc", "--storage.directory", dir, "--log.level", "debug", "--log.format", "json")
		cmd.Env = append(cmd.Env, "TERM=xterm", "COLUMNS=", tt.variable)
		s := onScreen(t, cmd)
		server.await(func() bool {
			return regexp.MustCompile(`removing  \[.*\] +\d+%  [\d,]+ of `).MatchString(s.out.String())
		}, "a bar: "+tt.name)
		s.press(ctrlC)
		if code := exitCodeOf(cmd.Wait()); code != 130 {
			t.Errorf("%s: exit %d", tt.name, code)
		}
		lines := s.lines()
		if n := len(lines); n < 3 || lines[n-1] != "" || lines[n-2] != "dcs: interrupted" || !strings.HasPrefix(lines[n-3], "interrupted: removed ") {
			t.Errorf("%s: the screen is left as\n%s", tt.name, strings.Join(lines, "\n"))
		}
		for _, line := range lines {
			if strings.Contains(line, "removed image") && !json.Valid([]byte(line)) {
				t.Errorf("%s: the bar tore %q", tt.name, line)
			}
			if strings.Contains(line, "[#") || strings.Contains(line, "[-") {
				t.Errorf("%s: a bar is left in %q", tt.name, line)
			}
		}
		if strings.Contains(s.out.String(), "\x1b[32m") != tt.colour {
			t.Errorf("%s: %.300q", tt.name, s.out.String())
		}
	}
	if rep := gcJSON(t, "--storage.directory", dir); rep.Remaining.Tags != 1 || rep.Remaining.Blobs != 3 {
		t.Errorf("the last run left %+v", rep.Remaining)
	}
}
