package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// docWidth is how wide the lines of documents are.
const docWidth = 120

var update = flag.Bool("update", false, "write docs/cli.md and docs/man")

// The documents say what the program says. They hold no date and no version, so that they change only with it.
func TestDocsAreCurrent(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	want := map[string]string{"cli.md": commandLine(t)}
	for _, cmd := range allCommands() {
		want[filepath.Join("man", page(cmd)+".1")] = manPage(t, cmd)
	}
	pages, err := filepath.Glob(filepath.Join(docs, "man", "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if name := filepath.Join("man", filepath.Base(p)); want[name] == "" {
			t.Errorf("docs/%s is the page of no command: remove it", name)
		}
	}
	for name, text := range want {
		path := filepath.Join(docs, name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("docs/%s is not what the program says (%v): run make docs", name, err)
		}
	}
}

// allCommands returns every command: dcs first, then each before its verbs.
func allCommands() (all []*cobra.Command) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		all = append(all, cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand(&environment{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}))
	return all
}

// page is the name of a command's man page.
func page(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// textAndStatus takes the text of a command apart.
func textAndStatus(cmd *cobra.Command) (text, status string) {
	text, status, _ = strings.Cut(cmd.Long, statusHeading)
	return text, status
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, `<`, `\<`, `*`, `\*`, "`", "\\`")

// markdown makes Markdown of plain text, in which what is indented stays as it is.
func markdown(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "  ") {
			lines[i] = "  " + line
		} else {
			lines[i] = markdownEscapes.Replace(line)
		}
	}
	return strings.Join(lines, "\n")
}

// documented returns a copy of a command, with other flags, for cobra to print: its text as Markdown, and no date.
func documented(cmd *cobra.Command, text string, sets ...*pflag.FlagSet) *cobra.Command {
	shown := *cmd
	shown.Long, shown.DisableAutoGenTag = text, true
	shown.ResetFlags()
	shown.Flags().SortFlags = false
	for _, set := range sets {
		shown.Flags().AddFlagSet(set)
	}
	return &shown
}

// commandLine is docs/cli.md. What all commands know of the configuration stands there once.
func commandLine(t *testing.T) string {
	var b bytes.Buffer
	b.WriteString("# dcs on the command line\n\n" +
		"`make docs` writes this page from the program's own help. There are man pages too, in [man](man):\n" +
		"`man -l docs/man/dcs-gc.1`.\n\n")
	all, keys := allCommands(), new(pflag.FlagSet)
	keys.SortFlags = false
	for _, cmd := range all {
		fmt.Fprintf(&b, "- [%s](%s): %s\n", cmd.CommandPath(), anchor(page(cmd)), cmd.Short)
	}
	for _, cmd := range all {
		b.WriteString("\n" + section(t, cmd, keys))
	}
	fmt.Fprintf(&b, "\n## Configuration flags\n\n"+
		"Every key is a flag, a variable and a line of the file: see [configuration](configuration.md).\n\n"+
		"```\n%s```\n", strings.TrimPrefix(list(keys), "\n"))
	return b.String()
}

// anchor is where the page has a command, whose file cobra would call dcs_users_add.md.
func anchor(file string) string {
	return "#" + strings.ReplaceAll(strings.TrimSuffix(file, ".md"), "_", "-")
}

// section is the part of a command, without the flags of the configuration. These are added to keys.
func section(t *testing.T, cmd *cobra.Command, keys *pflag.FlagSet) string {
	own, configuration := flagsOf(cmd)
	keys.AddFlagSet(configuration)
	text, status := textAndStatus(cmd)
	rest := "### Exit status\n\n```\n" + status + "\n```\n\n### SEE ALSO\n\n"
	if configuration.HasFlags() {
		rest = "[Configuration flags](#configuration-flags):\n" + names(configuration) + "\n\n" + rest
	}
	var b bytes.Buffer
	if err := doc.GenMarkdownCustom(documented(cmd, markdown(text), own), &b, anchor); err != nil {
		t.Fatal(err)
	}
	wrapped := strings.NewReplacer(own.FlagUsages(), own.FlagUsagesWrapped(docWidth), "### SEE ALSO\n\n", rest)
	return strings.TrimSuffix(wrapped.Replace(b.String()), "\n")
}

// names are those of flags, four a line.
func names(flags *pflag.FlagSet) string {
	var all []string
	flags.VisitAll(func(f *pflag.Flag) {
		before := " "
		if len(all)%4 == 0 {
			before = "\n"
		}
		all = append(all, before+"`--"+f.Name+"`")
	})
	return strings.TrimPrefix(strings.Join(all, ","), "\n")
}

// manPage is the man page of a command. cobra would write flags without an indent, so they are part of the text.
func manPage(t *testing.T, cmd *cobra.Command) string {
	own, configuration := flagsOf(cmd)
	text, status := textAndStatus(cmd)
	text = markdown(text) + "\n"
	for i, sub := range cmd.Commands() {
		if i == 0 {
			text += "\n# COMMANDS\n\n"
		}
		text += definition(sub.Name(), sub.Short)
	}
	text += "\n# OPTIONS\n\n" + definitions(own)
	if configuration.HasFlags() {
		text += "\n# CONFIGURATION\n\n" + definitions(configuration)
	}
	text += "\n# EXIT STATUS\n\n" + statusLine.ReplaceAllString(status, definition("$1", "$2"))
	help := pflag.NewFlagSet("", pflag.ContinueOnError)
	help.Bool("help", false, "")
	help.Lookup("help").Hidden = true
	shown := documented(cmd, text, help)
	shown.Use += " [flags]"
	header := doc.GenManHeader{Section: "1", Date: new(time.Time), Source: "dcs", Manual: "dcs manual"}
	var b bytes.Buffer
	if err := doc.GenMan(shown, &header, &b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.Replace(b.String(), `"Jan 0001"`, `""`, 1), "\n") // a page without a date
	for i, line := range lines {
		if !strings.HasPrefix(line, ".") {
			lines[i] = ascii.Replace(line)
		}
	}
	lines[0] += "\n.ad l" // adjusted lines of commands and flags read badly
	return strings.Join(lines, "\n")
}

var statusLine = regexp.MustCompile(`(?m)^ +(\d+) +(.*)$`)

// ascii keeps characters that are copied to a shell from becoming typographic ones.
var ascii = strings.NewReplacer("-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// definitions lists flags and what they mean, in the Markdown of man pages.
func definitions(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		spelling, usage := "--"+f.Name, markdownEscapes.Replace(f.Usage)
		if name := f.Value.Type(); name != "" {
			spelling += " " + name
		} else if f.NoOptDefVal != "" {
			spelling += "[=" + f.NoOptDefVal + "]"
		}
		if !slices.Contains([]string{"", "false", "0"}, f.DefValue) {
			usage += " (default " + f.DefValue + ")"
		}
		b.WriteString(definition(spelling, usage))
	})
	return b.String()
}

func definition(term, meaning string) string { return "**" + term + "**\n:   " + meaning + "\n\n" }
