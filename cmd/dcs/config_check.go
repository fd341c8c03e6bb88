package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// newConfigCheckCommand makes dcs config check.
func newConfigCheckCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:        "check FILE",
		SuggestFor: []string{"test", "validate", "verify", "lint", "explain"},
		Short:      "Check a configuration file, and explain its rules",
		Long: `Check a configuration file, and explain its rules. dcs names every mistake with
its line and says how to correct it. It warns about a setting that has no
effect, such as one that an earlier rule always decides. Variables, flags and
the file of DCS_CONFIG do not count.

Of a valid file dcs says for each of cache.rules which images it is for, and
what it does.

EXIT STATUS
  0  the file is valid
  1  failed
  2  the file has mistakes, or bad command line`,
		Example: `  dcs config check /etc/dcs.yaml
  dcs config check dcs.yaml && sudo install -m 644 dcs.yaml /etc/dcs.yaml`,
		Args:              exactArgs("FILE"),
		ValidArgsFunction: completeOneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			checked, err := config.Check(args[0])
			if err != nil {
				return &fileError{err}
			}
			tell(env.stderr, "warning", checked.Warnings.Unwrap())
			if _, err := fmt.Fprintf(env.stdout, "%s is valid\n", args[0]); err != nil {
				return err
			}
			for _, rule := range checked.Rules {
				if _, err := fmt.Fprintln(env.stdout, rule); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// fileError has the mistakes of a file that the operator asked about, of which none is left out.
type fileError struct{ mistakes error }

func (e *fileError) Error() string { return e.mistakes.Error() }
func (e *fileError) Unwrap() error { return e.mistakes }

// completeOneFile offers files for the first argument, and nothing after it.
func completeOneFile(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault
}
