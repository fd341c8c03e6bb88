package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/cli.md and docs/man")

// The documents say what the program says. They hold no date and no version, so that they change only with it.
func TestDocsAreCurrent(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	want := map[string]string{"cli.md": markdown(manuals())}
	for _, m := range manuals() {
		want[filepath.Join("man", page(m.Path)+".1")] = m.roff()
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

// manuals are those of all commands: dcs first, then every command before its verbs.
func manuals() (all []manual) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		m := newManual(cmd)
		all = append(all, m)
		for _, sub := range m.Commands {
			walk(sub)
		}
	}
	walk(newRootCommand(&environment{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}))
	return all
}

// page is the name of a command's man page.
func page(path string) string { return strings.ReplaceAll(path, " ", "-") }

var markdownEscapes = strings.NewReplacer(`\`, `\\`, `<`, `\<`, `*`, `\*`, `|`, `\|`, "`", "\\`")

// markdown is docs/cli.md. What all commands know of the configuration stands there once.
func markdown(all []manual) string {
	var b strings.Builder
	b.WriteString("# dcs on the command line\n\n" +
		"`make docs` writes this page from the program's own help. There are man pages too, in [man](man): `man -l docs/man/dcs-gc.1`.\n\n" +
		"| command | |\n|---|---|\n")
	for _, m := range all {
		fmt.Fprintf(&b, "| [%s](#%s) | %s |\n", m.Path, page(m.Path), markdownEscapes.Replace(m.Short))
	}
	for _, m := range all {
		m.markdown(&b)
	}
	b.WriteString("\n## Configuration flags\n\nEvery key is a flag, a variable and a line of the file: see [configuration](configuration.md).\n\n")
	b.WriteString("| flag | meaning |\n|---|---|\n")
	seen := map[string]bool{}
	for _, m := range all {
		for _, f := range m.Config {
			if !seen[f.Spelling] {
				f.markdown(&b)
			}
			seen[f.Spelling] = true
		}
	}
	return b.String()
}

func (m manual) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n```\n%s\n```\n", m.Path, m.Usage)
	for _, p := range m.Text {
		if p.Verbatim {
			fmt.Fprintf(b, "\n```\n%s\n```\n", strings.Join(p.Lines, "\n"))
			continue
		}
		fmt.Fprintf(b, "\n%s\n", strings.Join(wrap(markdownEscapes.Replace(strings.Join(p.Lines, " ")), 120), "\n"))
	}
	b.WriteString("\n| flag | meaning |\n|---|---|\n")
	for _, f := range m.Flags {
		f.markdown(b)
	}
	if len(m.Config) > 0 {
		var names []string
		for _, f := range m.Config {
			name, _, _ := strings.Cut(f.Spelling, " ")
			name, _, _ = strings.Cut(name, "[")
			names = append(names, "`"+name+"`")
		}
		fmt.Fprintf(b, "\n%s\n", strings.Join(wrap("[Configuration](#configuration-flags): "+strings.Join(names, ", "), 120), "\n"))
	}
	fmt.Fprintf(b, "\n```sh\n%s\n```\n\n| exit status | |\n|---|---|\n", strings.Join(m.Examples, "\n"))
	for _, s := range m.Status {
		fmt.Fprintf(b, "| %s | %s |\n", s.Code, markdownEscapes.Replace(s.Meaning))
	}
}

func (f flagManual) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "| `%s` | %s |\n", strings.ReplaceAll(f.Spelling, "|", `\|`), markdownEscapes.Replace(f.Meaning))
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, `"`, `\(dq`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// roffText escapes what roff reads as more than text; a line must not begin with a dot either.
func roffText(text string) string {
	text = roffEscapes.Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

// roff is the man page of a command.
func (m manual) roff() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %q 1 \"\" dcs \"dcs manual\"\n.ad l\n", strings.ToUpper(page(m.Path)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n.SH DESCRIPTION\n", roffText(page(m.Path)), roffText(m.Short), roffText(m.Usage))
	for i, p := range m.Text {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if p.Verbatim {
			roffLines(&b, p.Lines)
			continue
		}
		for _, line := range wrap(strings.Join(p.Lines, " "), 80) {
			fmt.Fprintln(&b, roffText(line))
		}
	}
	var commands []flagManual
	for _, sub := range m.Commands {
		commands = append(commands, flagManual{sub.Name(), sub.Short})
	}
	roffPairs(&b, "COMMANDS", commands)
	roffPairs(&b, "OPTIONS", m.Flags)
	roffPairs(&b, "CONFIGURATION", m.Config)
	var codes []flagManual
	for _, s := range m.Status {
		codes = append(codes, flagManual{s.Code, s.Meaning})
	}
	roffPairs(&b, "EXIT STATUS", codes)
	b.WriteString(".SH EXAMPLES\n")
	roffLines(&b, m.Examples)
	m.roffSeeAlso(&b)
	return b.String()
}

func roffPairs(b *strings.Builder, title string, all []flagManual) {
	if len(all) > 0 {
		fmt.Fprintf(b, ".SH %s\n", title)
	}
	for _, f := range all {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roffText(f.Spelling), roffText(f.Meaning))
	}
}

// roffLines are lines that stay as they are.
func roffLines(b *strings.Builder, lines []string) {
	b.WriteString(".nf\n.RS\n")
	for _, line := range lines {
		fmt.Fprintln(b, roffText(line))
	}
	b.WriteString(".RE\n.fi\n")
}

// roffSeeAlso points to the command above, and to those below.
func (m manual) roffSeeAlso(b *strings.Builder) {
	var pages []string
	if i := strings.LastIndex(m.Path, " "); i > 0 {
		pages = append(pages, page(m.Path[:i]))
	}
	for _, sub := range m.Commands {
		pages = append(pages, page(sub.CommandPath()))
	}
	b.WriteString(".SH SEE ALSO\n")
	for i, p := range pages {
		comma := ","
		if i == len(pages)-1 {
			comma = ""
		}
		fmt.Fprintf(b, ".BR %s (1)%s\n", roffText(p), comma)
	}
}
