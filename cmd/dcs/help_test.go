package main

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Whoever adds a command tells how it ends and shows how it is used.
func TestEveryCommandExplainsItself(t *testing.T) {
	for _, m := range manuals() {
		t.Run(m.Path, func(t *testing.T) {
			if len(m.Examples) == 0 {
				t.Error("no example")
			}
			if len(m.Status) < 2 {
				t.Errorf("EXIT STATUS has %d codes", len(m.Status))
			}
			if m.Short == "" || strings.HasSuffix(m.Short, ".") {
				t.Errorf("the short text is %q", m.Short)
			}
			for _, f := range append(m.Flags, m.Config...) {
				if f.Meaning == "" {
					t.Errorf("%s has no usage", f.Spelling)
				}
			}
		})
	}
}

func TestHelpFitsEveryTerminal(t *testing.T) {
	for _, m := range manuals() {
		m.Examples = nil // those are to be copied, and may be longer
		var b strings.Builder
		m.print(&b)
		for _, line := range strings.Split(b.String(), "\n") {
			if len(line) > helpWidth || strings.HasSuffix(line, " ") {
				t.Errorf("%s: %d columns: %q", m.Path, len(line), line)
			}
		}
	}
}

// dcsCall is where a line of an example calls dcs, up to the next command of the shell.
var dcsCall = regexp.MustCompile(`(?:^|[\s(/])dcs( [^|>;&)]*)?`)

// Examples are copied: each must be a command line that dcs takes, down to the values of its flags.
func TestExamplesParse(t *testing.T) {
	for _, m := range manuals() {
		calls := 0
		for _, line := range m.Examples {
			for _, call := range dcsCall.FindAllStringSubmatch(line, -1) {
				calls++
				if err := parse(strings.Fields(call[1])); err != nil {
					t.Errorf("%s: %s: %v", m.Path, line, err)
				}
			}
		}
		if calls == 0 {
			t.Errorf("%s: no example calls dcs: %q", m.Path, m.Examples)
		}
	}
	for _, wrong := range []string{"serv", "gc --ttl 3", "gc --tll 3d", "gc now", "users add", "serve --auth.enabled false", "help serv"} {
		if parse(strings.Fields(wrong)) == nil {
			t.Errorf("dcs %s: no error", wrong)
		}
	}
}

// parse reads a command line and runs nothing.
func parse(words []string) error {
	for i, word := range words {
		words[i] = strings.Trim(word, `'"`)
	}
	root := newRootCommand(&environment{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard})
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if cmd.Name() == "help" {
		_, err := descend(root, cmd.Flags().Args())
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

func TestManualsAreReadFromPlainText(t *testing.T) {
	m := newManual(&cobra.Command{Use: "x", Short: "Do x", Example: "\n    x --a\n      b\n", Long: `First
paragraph.

  kept    as it is
    deeper

- a list

EXIT STATUS
  0    done
  130  interrupted; everything
       is consistent`})
	var b strings.Builder
	m.print(&b)
	want := `First paragraph.

  kept    as it is
    deeper

  - a list

Usage:
  x

Examples:
  x --a
    b

EXIT STATUS
  0    done
  130  interrupted; everything is consistent
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
