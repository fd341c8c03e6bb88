package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// manual is all there is to say about a command. The help on the screen, docs/cli.md and the man pages are
// three prints of it, so none of them knows more than another.
type manual struct {
	Path, Short string // dcs users add, and what it does in a line
	Text        []paragraph
	Usage       string
	Commands    []*cobra.Command // the verbs below it
	Flags       []flagManual     // its own, --help last
	Config      []flagManual     // --config and the keys it uses, in the order of the documentation
	Examples    []string         // lines
	Status      []exitStatus
}

// paragraph is text to be wrapped, or lines to be left as they are: commands, lists.
type paragraph struct {
	Lines    []string
	Verbatim bool
}

// flagManual is a flag as it is written, and what it means.
type flagManual struct{ Spelling, Meaning string }

// exitStatus is a line of the block EXIT STATUS.
type exitStatus struct{ Code, Meaning string }

// statusHeading is where the text of a command ends and its exit status begins.
const statusHeading = "\n\nEXIT STATUS\n"

// newManual reads what a command says about itself.
func newManual(cmd *cobra.Command) manual {
	cmd.InheritedFlags() // makes cobra add them to those of the command
	text, status, _ := strings.Cut(cmd.Long, statusHeading)
	if text == "" {
		text = cmd.Short
	}
	m := manual{Path: cmd.CommandPath(), Short: cmd.Short, Text: paragraphs(text), Usage: cmd.UseLine(), Status: statuses(status)}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			m.Commands = append(m.Commands, sub)
		}
	}
	if len(m.Commands) > 0 {
		m.Usage = m.Path + " COMMAND [flags]"
	}
	if cmd.HasExample() {
		m.Examples = strings.Split(outdent(strings.Trim(cmd.Example, "\n")), "\n")
	}
	m.addFlags(cmd)
	return m
}

// addFlags takes the keys of the configuration apart: they are the same for many commands.
func (m *manual) addFlags(cmd *cobra.Command) {
	of := func(names ...string) (found []flagManual) {
		for _, name := range names {
			if f := cmd.Flags().Lookup(name); f != nil && !f.Hidden {
				found = append(found, flagManual{spelling(f), meaning(f)})
			}
		}
		return found
	}
	known := append([]string{"config"}, config.Keys()...)
	var own []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !slices.Contains(known, f.Name) {
			own = append(own, f.Name)
		}
	})
	m.Flags, m.Config = of(append(own, "help")...), of(known...)
}

// spelling is how a flag is written: --dry-run, --config FILE, --log.format text|json.
func spelling(f *pflag.Flag) string {
	s := "--" + f.Name
	if f.Shorthand != "" {
		s = "-" + f.Shorthand + ", " + s
	}
	switch {
	case !isSwitch(f):
		return s + " " + valueName(f)
	case f.DefValue == "true":
		return s + "[=false]" // on its own it would change nothing
	}
	return s
}

// isSwitch tells whether a flag needs no value.
func isSwitch(f *pflag.Flag) bool { return f.Value.Type() == "bool" }

// valueName is what stands for the value of a flag: what its usage quotes, what it may be, or its type. The
// word "string" says nothing, so the name of the flag is used then.
func valueName(f *pflag.Flag) string {
	quoted, _ := quotedName(f)
	switch {
	case strings.Contains(quoted, "|"):
		return quoted
	case quoted != "":
		return strings.ToUpper(quoted)
	case len(f.Annotations[valuesAnnotation]) > 0:
		return strings.Join(f.Annotations[valuesAnnotation], "|")
	}
	switch t := f.Value.Type(); t {
	case "string":
		return strings.ToUpper(f.Name)
	case "int", "int64", "uint", "uint64":
		return "N"
	default:
		return strings.ToUpper(t)
	}
}

// quotedName is the name that a usage has between back quotes, and the usage without them.
func quotedName(f *pflag.Flag) (name, usage string) {
	if strings.Count(f.Usage, "`") < 2 {
		return "", f.Usage
	}
	return pflag.UnquoteUsage(f)
}

func meaning(f *pflag.Flag) string {
	name, usage := quotedName(f)
	usage = strings.TrimSuffix(usage, ": "+name) // the spelling says it
	if slices.Contains([]string{"", "false", "0", "[]"}, f.DefValue) {
		return usage
	}
	return usage + " (default " + f.DefValue + ")"
}

// paragraphs takes a text apart. What is indented, or begins with a dash, is left as it is.
func paragraphs(text string) (all []paragraph) {
	for _, part := range strings.Split(strings.TrimSpace(text), "\n\n") {
		lines := strings.Split(part, "\n")
		verbatim := slices.ContainsFunc(lines, func(l string) bool {
			return strings.HasPrefix(l, " ") || strings.HasPrefix(l, "\t") || strings.HasPrefix(l, "- ")
		})
		if verbatim {
			lines = strings.Split(outdent(part), "\n")
		}
		all = append(all, paragraph{lines, verbatim})
	}
	return all
}

// outdent removes the blanks that every line begins with.
func outdent(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\t", "  "), "\n")
	least := -1
	for _, l := range lines {
		if indent := len(l) - len(strings.TrimLeft(l, " ")); l != "" && (least < 0 || indent < least) {
			least = indent
		}
	}
	for i, l := range lines {
		lines[i] = l[min(len(l), max(0, least)):]
	}
	return strings.Join(lines, "\n")
}

var statusLine = regexp.MustCompile(`^\s*(\d+)\s+(.*)$`)

// statuses reads the block EXIT STATUS. A line without a number goes on with the one before.
func statuses(block string) (all []exitStatus) {
	for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
		switch m := statusLine.FindStringSubmatch(line); {
		case m != nil:
			all = append(all, exitStatus{m[1], m[2]})
		case len(all) > 0:
			all[len(all)-1].Meaning += " " + strings.TrimSpace(line)
		}
	}
	return all
}

// wrap breaks a text into lines of at most width columns, as far as its words allow.
func wrap(text string, width int) (lines []string) {
	for _, word := range strings.Fields(text) {
		if last := len(lines) - 1; last >= 0 && len(lines[last])+1+len(word) <= width {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}
