package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is how wide help becomes: every terminal has so many columns, and longer lines are hard to read.
const helpWidth = 80

// statusHeading is where the text of a command ends and its exit status begins.
const statusHeading = "\n\nEXIT STATUS\n"

// newHelpCommand takes the place of cobra's own, which exits with 0 for a command that does not exist.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND ...]",
		Short: "Explain a command",
		Long: `Explain a command: dcs help gc is the same as dcs gc --help. Without a command
the commands are listed.

EXIT STATUS
  0  done
  1  failed
  2  there is no such command`,
		Example: `  dcs help gc
  dcs help users add`,
		ValidArgsFunction: completeVerbs,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, err := descend(cmd.Root(), args)
			if err != nil {
				return err
			}
			return about.Help()
		},
	}
}

// completeVerbs offers the commands below those that are typed already.
func completeVerbs(cmd *cobra.Command, typed []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if about, err := descend(cmd.Root(), typed); err == nil {
		for _, sub := range about.Commands() {
			names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// descend follows the names of verbs from a command down to the one that they name.
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

// verb returns the command of that name directly below a command, or nil.
func verb(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}

// printUsage prints what cobra's help puts below the text of a command. It differs from cobra's own in the flags: those
// of the configuration, which many commands have, stand apart, and each names its value.
func printUsage(cmd *cobra.Command) error {
	own, configuration := flagsOf(cmd)
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n", cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range cmd.Commands() {
			fmt.Fprintf(&b, "  %-*s  %s\n", sub.NamePadding(), sub.Name(), sub.Short)
		}
	}
	fmt.Fprintf(&b, "\nFlags:%s", list(own))
	if configuration.HasFlags() {
		fmt.Fprintf(&b, "\nConfiguration:%s", list(configuration))
	}
	fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n%s COMMAND --help says more about a command.\n", cmd.CommandPath())
	}
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}

// list returns what pflag prints of flags without a letter, less the four columns that it keeps for one.
func list(flags *pflag.FlagSet) string {
	const column = 4
	return strings.ReplaceAll("\n"+flags.FlagUsagesWrapped(helpWidth+column), "\n"+strings.Repeat(" ", column), "\n")
}
