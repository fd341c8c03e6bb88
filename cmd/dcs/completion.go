package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/jc-lab/docker-cache-server/internal/nearest"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

// newCompletionCommand is one command with the shell as its argument, where cobra would add a command for each shell:
// its own prints help and exits with 0 when the shell is missing or misspelt.
func newCompletionCommand() *cobra.Command {
	var bare bool
	cmd := &cobra.Command{
		Use:   "completion " + strings.Join(shells, "|"),
		Short: "Print a shell completion script",
		Long: `Print a script that lets a shell complete commands, flags and their values. Put
it into this file, so that every new shell reads it:

  bash        /etc/bash_completion.d/dcs (needs the package bash-completion)
  zsh         "${fpath[1]}/_dcs" (after autoload -U compinit; compinit)
  fish        ~/.config/fish/completions/dcs.fish
  powershell  at the end of the file $PROFILE

EXIT STATUS
  0  done
  1  failed
  2  bad command line`,
		Example: `  source <(dcs completion bash)
  dcs completion bash | sudo tee /etc/bash_completion.d/dcs >/dev/null
  dcs completion fish >~/.config/fish/completions/dcs.fish`,
		ValidArgs: shells,
		Args:      exactArgs("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, !bare)
			case "zsh":
				if bare {
					return root.GenZshCompletionNoDesc(out)
				}
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, !bare)
			case "powershell":
				if bare {
					return root.GenPowerShellCompletion(out)
				}
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return unknownShell(args[0])
		},
	}
	cmd.Flags().BoolVar(&bare, "no-descriptions", false, "complete without descriptions")
	return cmd
}

// unknownShell returns the error for a shell that cobra has no script for, and suggests one that it has.
func unknownShell(name string) error {
	err := fmt.Errorf("unknown shell %q", name)
	if meant := nearest.Name(name, shells); meant != "" {
		return &usageError{err, "did you mean dcs completion " + meant + "?"}
	}
	return &usageError{err, "use " + sentence(shells)}
}

// completeFlags lets a shell complete the values of flags by what their spelling says: one of a few words, a file, a
// directory. For other flags the root command offers nothing, where a shell by itself would offer files.
func completeFlags(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		var values []string
		directive := cobra.ShellCompDirectiveNoFileComp
		switch name := valueName(f); {
		case isSwitch(f):
			values = []string{"true", "false"}
		case f.Annotations[valuesAnnotation] != nil:
			values = f.Annotations[valuesAnnotation]
		case strings.Contains(name, "|"):
			values = strings.Split(name, "|")
		case name == "FILE":
			directive = cobra.ShellCompDirectiveDefault
		case name == "DIRECTORY":
			directive = cobra.ShellCompDirectiveFilterDirs
		}
		if err := cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values, directive)); err != nil {
			panic(err) // the flag exists, and has no completion yet
		}
	})
}
