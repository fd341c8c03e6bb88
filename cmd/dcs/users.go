package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/internal/users"
)

func newUsersCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "users",
		Short: "Edit the users in the htpasswd file",
		Args:  exactArgs(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUsersAddCommand(env), newUsersRemoveCommand(env), newUsersListCommand(env))
	return cmd
}

const usersStatus = `

EXIT STATUS
  0    done
  1    failed; the file is unchanged
  2    bad command line or configuration
  130  interrupted`

func newUsersAddCommand(env *environment) *cobra.Command {
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user, or change a user's password",
		Long: `Add a user, or change a user's password. The password is asked for twice, without
echo; with --password-stdin it is read from standard input. A running server follows
at once.` + usersStatus,
		Example: `  dcs users add ci
  printf %s "$CI_PASSWORD" | dcs users add ci --password-stdin`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := usersFile(env, cmd)
			if err != nil {
				return err
			}
			if err := users.CheckName(args[0]); err != nil {
				return &usageError{err, ""}
			}
			password, err := readPassword(cmd.Context(), env, args[0], fromStdin)
			if err != nil {
				return err
			}
			replaced, err := file.Add(args[0], password, 0)
			if errors.Is(err, fs.ErrNotExist) {
				return &missingDirectory{err}
			}
			if err != nil {
				return err
			}
			done := "added user"
			if replaced {
				done = "changed the password of user"
			}
			fmt.Fprintf(env.stderr, "%s %s\n", done, args[0])
			return nil
		},
	}
	addConfigFlags(cmd, "storage.directory", "auth.htpasswd")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

// missingDirectory is a file of users that has nowhere to be.
type missingDirectory struct{ error }

func (missingDirectory) Hint() string {
	return "make the directory first, for the user that runs dcs serve: install -d -o USER DIR"
}

func newUsersRemoveCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a user; a running server follows at once",
		Long:    "Remove a user. A running server follows at once." + usersStatus,
		Example: "  dcs users remove ci",
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := usersFile(env, cmd)
			if err != nil {
				return err
			}
			if err := file.Remove(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(env.stderr, "removed user %s\n", args[0])
			return nil
		},
	}
	addConfigFlags(cmd, "storage.directory", "auth.htpasswd")
	return cmd
}

func newUsersListCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the users of the htpasswd file, one name a line",
		Long:    "List the users of the htpasswd file, one name a line." + usersStatus,
		Example: "  dcs users list --auth.htpasswd /etc/dcs.htpasswd",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := usersFile(env, cmd)
			if err != nil {
				return err
			}
			names, err := file.List()
			for _, name := range names {
				if _, err := fmt.Fprintln(env.stdout, name); err != nil {
					return err
				}
			}
			return err
		},
	}
	addConfigFlags(cmd, "storage.directory", "auth.htpasswd")
	return cmd
}

func usersFile(env *environment, cmd *cobra.Command) (*users.File, error) {
	cfg, _, err := loadConfig(env, cmd)
	if err != nil {
		return nil, err
	}
	return users.Open(serve.Htpasswd(cfg)), nil
}

// readPassword asks twice on a terminal. From standard input one trailing newline is cut.
func readPassword(ctx context.Context, env *environment, name string, fromStdin bool) (string, error) {
	if fromStdin {
		data, err := io.ReadAll(io.LimitReader(env.stdin, 1<<16))
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		return password, checkPassword(password)
	}
	f, ok := env.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", &usageError{errors.New("standard input is no terminal to ask for the password"), "use --password-stdin"}
	}
	var answers [2]string
	for i, question := range []string{"Password for " + name, "Again"} {
		fmt.Fprintf(env.stderr, "%s: ", question)
		answer, err := askPassword(ctx, int(f.Fd()))
		fmt.Fprintln(env.stderr)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		answers[i] = string(answer)
		if err := checkPassword(answers[i]); err != nil {
			return "", err
		}
	}
	if answers[0] != answers[1] {
		return "", errors.New("the two passwords differ")
	}
	return answers[0], nil
}

// askPassword reads a line without echo, until ctx ends: reading a terminal cannot be interrupted.
func askPassword(ctx context.Context, fd int) ([]byte, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	type answer struct {
		line []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() { // ends with the process when nobody answers
		line, err := term.ReadPassword(fd)
		read <- answer{line, err}
	}()
	select {
	case a := <-read:
		return a.line, a.err
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}

func checkPassword(password string) error {
	if err := users.CheckPassword(password); err != nil {
		return &usageError{err, ""}
	}
	return nil
}
