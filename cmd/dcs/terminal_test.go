package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"
)

// hashOf is the hash of a user in the htpasswd file of a directory.
func hashOf(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, ".metadata", "htpasswd"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if hash, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return hash
		}
	}
	return ""
}

func TestAPasswordIsAskedForTwice(t *testing.T) {
	t.Parallel()
	const secret = "correct horse battery staple"
	for _, tt := range []struct {
		name    string
		answers []string // to the question, and to the second
		code    int
		says    string
		added   bool
	}{
		{"the same twice", []string{secret + "\r", secret + "\r"}, 0, "added user ci", true},
		{"two that differ", []string{secret + "\r", secret + "!\r"}, 1, "the two passwords differ", false},
		{"none", []string{"\r"}, 2, "password is empty", false},
		{"too long", []string{strings.Repeat("0", 73) + "\r"}, 2, "longer than 72 bytes", false},
		{"Ctrl-C at the first question", []string{ctrlC}, 130, "dcs: interrupted", false},
		{"Ctrl-C at the second", []string{secret + "\r", secret + ctrlC}, 130, "dcs: interrupted", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := onScreen(t, 80, nil, "users", "add", "ci", "--storage.directory", dir)
			for i, answer := range tt.answers {
				s.expect([]string{"Password for ci: ", "Again: "}[i])
				s.until("the terminal keeps what is typed to itself", func() bool { return !s.echoes() })
				s.typed(answer)
			}
			if code := s.end(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			screen := s.out.String()
			if !strings.Contains(screen, tt.says) {
				t.Errorf("no %q on the screen:\n%s", tt.says, screen)
			}
			if strings.Contains(screen, secret) || strings.Contains(screen, "000") {
				t.Errorf("the password is on the screen:\n%s", screen)
			}
			if !s.echoes() {
				t.Error("the terminal is left without an echo")
			}
			hash := hashOf(t, dir, "ci")
			if (hash != "") != tt.added || tt.added && bcrypt.CompareHashAndPassword([]byte(hash),
				[]byte(secret)) != nil {
				t.Errorf("the file has %q", hash)
			}
		})
	}
}

// echoes says whether the terminal shows what is typed.
func (s *screen) echoes() bool {
	s.t.Helper()
	state, err := unix.IoctlGetTermios(int(s.master.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// TestWhatATerminalShows runs the same commands on terminals and through a pipe.
func TestWhatATerminalShows(t *testing.T) {
	t.Parallel()
	server := startServer(t, t.TempDir(), "--cache.cleanup_interval", "0", "--cache.ttl", "2h", "--cache.grace", "1h")
	server.push(
		"team/a-repository-with-a-name-that-is-longer-than-some/and-goes-on" +
			":a-tag-that-is-as-long-as-that-of-a-nightly-build")
	server.push("app:v1")
	for _, tt := range []struct {
		name      string
		columns   uint16
		variables []string
		colour    bool
	}{
		{"80 columns", 80, nil, true},
		{"200 columns", 200, nil, true},
		{"COLUMNS counts", 200, []string{"COLUMNS=90"}, true},
		{"NO_COLOR", 80, []string{"NO_COLOR=1"}, false},
		{"TERM=dumb", 80, []string{"TERM=dumb"}, false},
	} {
		for _, list := range [][]string{{"--images"}, {"--tags"}, {}, {"--histogram"}, {"app:v1"}} {
			s := onScreen(t, tt.columns, tt.variables, append([]string{"inspect", "--storage.directory", server.dir},
				list...)...)
			if code := s.end(); code != 0 {
				t.Fatalf("%s: %v: exit code %d\n%s", tt.name, list, code, s.out.String())
			}
			if got := strings.Contains(s.out.String(), "\x1b["); got != tt.colour {
				t.Errorf("%s: %v: colour %t, want %t:\n%q", tt.name, list, got, tt.colour, s.out.String())
			}
			width := int(tt.columns)
			if len(tt.variables) > 0 && tt.variables[0] == "COLUMNS=90" {
				width = 90
			}
			for _, line := range s.lines() {
				if n := len([]rune(strings.TrimRight(line, "\r"))); n > width {
					t.Errorf("%s: %v: %d columns:\n%s", tt.name, list, n, line)
				}
			}
		}
	}
	_, out, _ := dcs(t, "inspect", "--images", "--storage.directory", server.dir)
	if strings.Contains(out, "\x1b") || !strings.Contains(out, "a-tag-that-is-as-long-as-that-of-a-nightly-build") {
		t.Errorf("through a pipe:\n%s", out)
	}
}
