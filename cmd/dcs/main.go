// Command dcs is a Docker registry that forgets: it removes images that are not used any more.
//
// There is one file for each verb. A verb turns its flags into an options struct, makes one call that does the work,
// and prints the result. Results are written to standard output, everything else to standard error. Only this package
// knows cobra, exit codes, signals and hints.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/internal/ui"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// Exit codes. Scripts depend on them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitProblems    = 3
	exitLocked      = 4
	exitInterrupted = 130
)

// environment is what a command sees of its process.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
}

// main runs the command line of the process. The first SIGINT or SIGTERM ends its context.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	env := &environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	os.Exit(run(ctx, env, os.Args[1:]))
}

// run runs a command line, explains its error, and returns the exit code.
func run(ctx context.Context, env *environment, args []string) int {
	root := newRootCommand(env)
	root.SetArgs(args)
	root.SetIn(env.stdin)
	printed := &remembering{to: env.stdout}
	root.SetOut(printed)
	root.SetErr(env.stderr)
	err := firstOf(root.ExecuteContext(ctx), printed.err)
	if err == nil {
		return exitDone
	}
	code := exitCode(err)
	if code == exitInterrupted {
		fmt.Fprintln(env.stderr, "dcs: interrupted")
		return code
	}
	explain(env.stderr, err)
	return code
}

// mostMistakes is how many mistakes of a configuration are printed. A file with more is not a configuration of dcs.
const mostMistakes = 20

// explain prints an error and its hint. It prints the mistakes of a configuration one by one, so that they are mended
// in one go: all of a file that is checked, else as many as fit a screen.
func explain(stderr io.Writer, err error) {
	all := []error{err}
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		all = mistakes.Unwrap()
	}
	most := mostMistakes
	if _, every := errors.AsType[*fileError](err); every {
		most = len(all)
	}
	tell(stderr, "error", all[:min(len(all), most)])
	if more := len(all) - most; more > 0 {
		fmt.Fprintf(stderr, "dcs: error: and %s\n", ui.Count(int64(more), "more mistake"))
	}
}

// tell prints errors or warnings with their hints.
func tell(stderr io.Writer, kind string, all []error) {
	for i, err := range all {
		fmt.Fprintf(stderr, "dcs: %s: %v\n", kind, err)
		h := hint(err)
		if h != "" && (i == len(all)-1 || hint(all[i+1]) != h) { // a hint for several errors follows the last
			fmt.Fprintf(stderr, "dcs: hint: %s\n", h)
		}
	}
}

// remembering is a writer that keeps its first error, since cobra ignores errors when it prints help.
type remembering struct {
	to  io.Writer
	err error
}

// Write implements io.Writer.
func (r *remembering) Write(p []byte) (int, error) {
	n, err := r.to.Write(p)
	r.err = firstOf(r.err, err)
	return n, err
}

// exitCode returns the exit code for an error. An interrupted command has its own, whatever else failed.
func exitCode(err error) int {
	var (
		usage  *usageError
		conf   *config.Error
		grace  *store.GraceError
		policy *store.PolicyError
		locked *tree.LockedError
		wrong  *store.WrongIndexError
		noUser *serve.NoUsersError
		cert   *serve.CertificateError
		flaws  *problemsError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &conf), errors.As(err, &grace), errors.As(err, &policy),
		errors.As(err, &noUser), errors.As(err, &cert):
		return exitUsage
	case errors.As(err, &flaws):
		return exitProblems
	case errors.As(err, &locked), errors.As(err, &wrong):
		return exitLocked
	}
	return exitFailed
}

// usageError is an error in the command line. Its exit code is 2.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// problemsError says that a check or a repair found problems. Its exit code is 3.
type problemsError struct {
	err  error
	hint string
}

func (e *problemsError) Error() string { return e.err.Error() }

// newRootCommand makes dcs with all its commands. A new one has no state of an earlier command line, so tests run many.
func newRootCommand(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "dcs COMMAND",
		Short: "A Docker registry that forgets",
		Long: `dcs is a Docker/OCI registry that forgets: it removes images that are not used
any more, and never breaks an image that is in use.

EXIT STATUS
  0    done; dcs serve: stopped by a signal, all transfers finished
  1    failed
  2    bad command line or configuration
  3    dcs inspect --check, dcs gc --repair: problems found
  4    the data directory is in use by another dcs serve
  130  interrupted`,
		Example: `  dcs serve --auth.enabled=false --server.address 127.0.0.1
  dcs inspect --images
  dcs gc --ttl 30d --dry-run`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	help := newHelpCommand()
	root.SetHelpCommand(help)
	root.SetUsageFunc(printUsage)
	root.SetFlagErrorFunc(flagError)
	root.InitDefaultHelpFlag() // before a command line is read: dcs --help gc explains gc
	root.AddCommand(newServeCommand(env), newGCCommand(env), newInspectCommand(env), newPinCommand(env),
		newUnpinCommand(env), newUsersCommand(env), newConfigCommand(env), newVersionCommand(env),
		newCompletionCommand(), help)
	finish(root)
	return root
}

// finish gives a command and all its verbs what every command has.
func finish(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		asGroup(cmd)
	}
	completeFlags(cmd)
	for _, sub := range cmd.Commands() {
		finish(sub)
	}
}
