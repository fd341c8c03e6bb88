package main

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpOf is the help of a command.
func helpOf(t *testing.T, cmd *cobra.Command) string {
	t.Helper()
	var b strings.Builder
	cmd.SetOut(&b)
	if err := cmd.Help(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Every command tells how it ends and shows how it is used.
func TestEveryCommandExplainsItself(t *testing.T) {
	for _, cmd := range allCommands() {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			text, status := textAndStatus(cmd)
			if text == "" || strings.TrimSpace(cmd.Example) == "" {
				t.Errorf("text %q, example %q", text, cmd.Example)
			}
			codes := regexp.MustCompile(`(?m)^  \d+  +\S`).FindAllString(status, -1)
			if len(codes) < 2 || len(codes) != len(strings.Split(status, "\n")) {
				t.Errorf("EXIT STATUS is %q: it has a line for each code", status)
			}
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("the short text is %q", cmd.Short)
			}
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" {
					t.Errorf("--%s has no usage", f.Name)
				}
			})
		})
	}
}

func TestHelpFitsEveryTerminal(t *testing.T) {
	for _, cmd := range allCommands() {
		text := strings.Replace(helpOf(t, cmd), cmd.Example, "", 1) // examples are to be copied, and may be longer
		for _, line := range strings.Split(text, "\n") {
			if len(line) > helpWidth || strings.HasSuffix(line, " ") {
				t.Errorf("%s: %d columns: %q", cmd.CommandPath(), len(line), line)
			}
		}
	}
}

// plain returns the words of a text without the marks of Markdown and roff, and without line breaks.
func plain(text string) string {
	text = regexp.MustCompile(`(?m)^\.\w+( |$)`).ReplaceAllString(text, "")
	text = strings.NewReplacer(`\fB`, "", `\fP`, "", `\&`, "", `\(aq`, "'", `\(ti`, "~", `\(ga`, "", "`", "", `\`, "").
		Replace(text)
	return strings.Join(strings.Fields(text), " ")
}

// What a command says about itself is on the screen, in docs/cli.md and in its man page: none has less than another.
func TestEveryPrintOfTheHelpIsWhole(t *testing.T) {
	_, keys, _ := strings.Cut(commandLine(t), "## Configuration flags")
	man := map[string]string{}
	for _, cmd := range allCommands() {
		man[page(cmd)] = manPage(t, cmd)
	}
	for _, cmd := range allCommands() {
		prints := map[string]string{"help": helpOf(t, cmd), "docs/cli.md": section(t, cmd, new(pflag.FlagSet)) + keys,
			"the man page": man[page(cmd)]}
		text, status := textAndStatus(cmd)
		wanted := strings.Split(strings.Join([]string{cmd.UseLine(), text, status, cmd.Example}, "\n"), "\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() { // cobra lists help nowhere but on the screen
				wanted = append(wanted, sub.Name(), sub.Short)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				written := asWritten(f)
				wanted = append(wanted, "--"+f.Name, written.Value.Type(), written.Usage)
			}
		})
		for where, print := range prints {
			print = plain(print)
			for _, want := range wanted {
				if !strings.Contains(print, plain(want)) {
					t.Errorf("%s: %s has no %q", cmd.CommandPath(), where, want)
				}
			}
		}
	}
}

// dcsCall is where a line of an example calls dcs, up to the next command of the shell.
var dcsCall = regexp.MustCompile(`(?:^|[\s(/])dcs( [^|>;&)]*)?`)

// Examples are copied: each must be a command line that dcs takes, down to the values of its flags.
func TestExamplesParse(t *testing.T) {
	for _, cmd := range allCommands() {
		calls := 0
		for _, line := range strings.Split(cmd.Example, "\n") {
			for _, call := range dcsCall.FindAllStringSubmatch(line, -1) {
				calls++
				if err := parse(strings.Fields(call[1])); err != nil {
					t.Errorf("%s: %s: %v", cmd.CommandPath(), line, err)
				}
			}
		}
		if calls == 0 {
			t.Errorf("%s: no example calls dcs: %q", cmd.CommandPath(), cmd.Example)
		}
	}
	for _, wrong := range []string{"serv", "gc --ttl 3", "gc --tll 3d", "gc now", "users add",
		"serve --auth.enabled false", "help serv"} {
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
