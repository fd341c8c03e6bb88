package main

import (
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// screen is a terminal on which a process runs.
type screen struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	out    output // everything that was written
	read   sync.WaitGroup
}

// onScreen runs dcs on a terminal of so many columns that can colour, with these variables besides.
func onScreen(t *testing.T, columns uint16, variables []string, args ...string) *screen {
	t.Helper()
	s := onFrozenScreen(t, columns, variables, args...)
	s.thaw()
	return s
}

// onFrozenScreen is a screen that takes as little as a terminal does behind a stuck connection, until thaw.
func onFrozenScreen(t *testing.T, columns uint16, variables []string, args ...string) *screen {
	t.Helper()
	cmd := command(args...)
	cmd.Env = append(append(cmd.Env, "TERM=xterm", "COLUMNS=", "NO_COLOR="), variables...)
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: columns})
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, cmd: cmd, master: master}
	t.Cleanup(func() { master.Close() })
	return s
}

func (s *screen) thaw() {
	s.read.Go(func() { _, _ = io.Copy(&s.out, s.master) }) // ends with an error when the last process has gone
}

// expect waits until text stands on the screen.
func (s *screen) expect(text string) {
	s.t.Helper()
	s.until("on the screen: "+text, func() bool { return strings.Contains(s.out.String(), text) })
}

func (s *screen) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	s.t.Fatalf("not in time: %s\n%q", what, s.out.String())
}

// typed types keys.
func (s *screen) typed(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the process, and returns its exit code.
func (s *screen) end() int {
	s.t.Helper()
	code := exitCodeOf(s.cmd.Wait())
	s.read.Wait()
	return code
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

const (
	ctrlC = "\x03"
)
