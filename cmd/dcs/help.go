package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// helpWidth is how wide help gets: every terminal has so many columns, and longer lines read badly.
const helpWidth = 80

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND ...]",
		Short: "Explain a command",
		Long: `Explain a command: dcs help gc is the same as dcs gc --help. Without a command the
commands are listed.

EXIT STATUS
  0  done
  1  failed
  2  there is no such command`,
		Example: `  dcs help gc
  dcs help users add`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			if about, err := descend(cmd.Root(), args); err == nil {
				for _, sub := range newManual(about).Commands {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, err := descend(cmd.Root(), args)
			if err != nil {
				return err
			}
			return about.Help()
		},
	}
}

// descend goes from a command down to one of its verbs, by name.
func descend(cmd *cobra.Command, names []string) (*cobra.Command, error) {
	for _, name := range names {
		next := verb(cmd, name)
		if next == nil {
			return nil, unknownCommand(cmd, name, "help ")
		}
		cmd = next
	}
	return cmd, nil
}

// verb is the command of that name below a command, or nil.
func verb(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}

// printHelp prints the manual of a command for a screen. Whether it could be written is for run to see.
func printHelp(cmd *cobra.Command, _ []string) {
	var b strings.Builder
	newManual(cmd).print(&b)
	fmt.Fprint(cmd.OutOrStdout(), b.String())
}

func (m manual) print(w io.Writer) {
	for _, p := range m.Text {
		if p.Verbatim {
			fmt.Fprintf(w, "  %s\n\n", strings.Join(p.Lines, "\n  "))
			continue
		}
		fmt.Fprintf(w, "%s\n\n", strings.Join(wrap(strings.Join(p.Lines, " "), helpWidth), "\n"))
	}
	fmt.Fprintf(w, "Usage:\n  %s\n", m.Usage)
	var commands [][2]string
	for _, sub := range m.Commands {
		commands = append(commands, [2]string{sub.Name(), sub.Short})
	}
	printPairs(w, "Commands:", commands)
	printPairs(w, "Flags:", pairs(m.Flags))
	printPairs(w, "Configuration:", pairs(m.Config))
	if len(m.Examples) > 0 {
		fmt.Fprintf(w, "\nExamples:\n  %s\n", strings.Join(m.Examples, "\n  "))
	}
	var codes [][2]string
	for _, s := range m.Status {
		codes = append(codes, [2]string{s.Code, s.Meaning})
	}
	printPairs(w, "EXIT STATUS", codes)
	if len(m.Commands) > 0 {
		fmt.Fprintf(w, "\n%s COMMAND --help says more about a command.\n", m.Path)
	}
}

func pairs(flags []flagManual) (all [][2]string) {
	for _, f := range flags {
		all = append(all, [2]string{f.Spelling, f.Meaning})
	}
	return all
}

// printPairs prints two columns, the second one wrapped, or nothing when there are none.
func printPairs(w io.Writer, title string, all [][2]string) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	width := 0
	for _, p := range all {
		width = max(width, len(p[0]))
	}
	for _, p := range all {
		left := p[0]
		for _, line := range wrap(p[1], helpWidth-width-4) {
			fmt.Fprintf(w, "  %-*s  %s\n", width, left, line)
			left = ""
		}
	}
}
