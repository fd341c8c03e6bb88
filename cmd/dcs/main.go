// Command dcs is a Docker registry that forgets: what nobody uses any more disappears by itself.
//
// One file per verb: flags become an options struct, one call does the work, the result is printed.
// Results go to standard output, everything else to standard error.
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

// environment is the world outside of a command.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once what does not end by itself
	env := &environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	os.Exit(run(ctx, env, os.Args[1:]))
}

// run runs a command line and tells people what went wrong.
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

// mostMistakes is how many mistakes of a configuration are told: more is a file of something else.
const mostMistakes = 20

// explain says what went wrong, and after it what people can do. Of a configuration it says all that is wrong.
func explain(stderr io.Writer, err error) {
	all := []error{err}
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		all = mistakes.Unwrap()
	}
	told := all[:min(len(all), mostMistakes)]
	for i, err := range told {
		fmt.Fprintf(stderr, "dcs: error: %v\n", err)
		h := hint(err)
		if h != "" && (i == len(told)-1 || hint(told[i+1]) != h) { // what several need is said once, after them
			fmt.Fprintf(stderr, "dcs: hint: %s\n", h)
		}
	}
	if more := len(all) - mostMistakes; more > 0 {
		fmt.Fprintf(stderr, "dcs: error: and %s\n", ui.Count(int64(more), "more mistake"))
	}
}

// remembering is a writer that keeps its first error. cobra prints help and has no way to say that it could not.
type remembering struct {
	to  io.Writer
	err error
}

func (r *remembering) Write(p []byte) (int, error) {
	n, err := r.to.Write(p)
	r.err = firstOf(r.err, err)
	return n, err
}

func exitCode(err error) int {
	var (
		usage  *usageError
		conf   *config.Error
		grace  *store.GraceError
		locked *tree.LockedError
		wrong  *store.WrongIndexError
		nobody *serve.NoUsersError
		cert   *serve.CertificateError
		flaws  *problemsError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &conf), errors.As(err, &grace), errors.As(err, &nobody), errors.As(err, &cert):
		return exitUsage
	case errors.As(err, &flaws):
		return exitProblems
	case errors.As(err, &locked), errors.As(err, &wrong):
		return exitLocked
	}
	return exitFailed
}

// usageError is a command line that makes no sense.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// problemsError says that a store was checked and is not as it should be.
type problemsError struct {
	err  error
	hint string
}

func (e *problemsError) Error() string { return e.err.Error() }

func newRootCommand(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "dcs COMMAND",
		Short: "A Docker registry that forgets",
		Long: `dcs is a Docker/OCI registry that forgets: what nobody uses any more disappears
by itself, and what is in use is never broken.

EXIT STATUS
  0    done; dcs serve: stopped by a signal, and drained
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
	root.AddCommand(newServeCommand(env), newGCCommand(env), newInspectCommand(env), newUsersCommand(env), newConfigCommand(env),
		newVersionCommand(env), newCompletionCommand(), help)
	finish(root)
	return root
}

// finish gives a command, and all below it, what every command has.
func finish(cmd *cobra.Command) {
	if cmd.HasSubCommands() {
		asGroup(cmd)
	}
	completeFlags(cmd)
	for _, sub := range cmd.Commands() {
		finish(sub)
	}
}
