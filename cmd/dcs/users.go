package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/jc-lab/docker-cache-server/internal/credential"
	"github.com/jc-lab/docker-cache-server/internal/nearest"
	"github.com/jc-lab/docker-cache-server/internal/owner"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// newUsersCommand makes dcs users. Its verbs edit the htpasswd file; none of them needs a running server.
func newUsersCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "users COMMAND",
		Short: "Edit the users in the htpasswd file",
		Long: `Edit the users in the htpasswd file, which is .metadata/htpasswd of the data
directory unless auth.htpasswd names another. Apache's htpasswd and stock
registries read the same file. Comments and the order of the lines are kept. Two
edits at the same time are both applied. A running server reads a changed file
within a second.` + usersStatus,
		Example: `  dcs users add ci
  dcs users list`,
	}
	cmd.AddCommand(newUsersAddCommand(env), newUsersRemoveCommand(env), newUsersListCommand(env))
	return cmd
}

// usersStatus ends the help of dcs users and of each verb.
const usersStatus = `

EXIT STATUS
  0    done
  1    failed; the file is unchanged
  2    bad command line or configuration
  130  interrupted`

// newUsersAddCommand makes dcs users add. It refuses a user of auth.users: the server would ignore the new password.
func newUsersAddCommand(env *environment) *cobra.Command {
	var fromStdin bool
	var cost int
	cmd := &cobra.Command{
		Use:        "add NAME",
		SuggestFor: []string{"create", "new", "passwd", "set"},
		Short:      "Add a user, or change a user's password",
		Long: `Add a user, or change a user's password. dcs prompts for the password twice,
without echo. With --password-stdin it reads the password from standard input,
without one newline at its end. A running server follows at once.

A name has no colon. A password has at most 72 bytes, since bcrypt ignores the
rest. --cost is the work for one try of a password. Each step doubles it for an
attacker, and for the server, which checks a login once in five minutes. 10
takes about 60 ms of CPU.` + usersStatus,
		Example: `  dcs users add ci
  printf %s "$CI_PASSWORD" | dcs users add ci --password-stdin`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, cfg, err := usersFile(env, cmd)
			if err != nil {
				return err
			}
			if err := credential.CheckName(args[0]); err != nil {
				return &usageError{fmt.Errorf("user name %w", err),
					"choose a name of letters and digits: docker login asks for it"}
			}
			if slices.Contains(configured(cfg), args[0]) {
				return &usageError{
					fmt.Errorf("user %s is in auth.users of the configuration, which wins over the file", args[0]),
					"change the password there; or remove the user from auth.users, reload the server (SIGHUP), " +
						"and add it here"}
			}
			if cost < minCost || cost > maxCost {
				return &usageError{fmt.Errorf("--cost %d is not between %d and %d", cost, minCost, maxCost),
					"leave it out for a cost of 10"}
			}
			password, err := readPassword(cmd.Context(), env, args[0], fromStdin)
			if err != nil {
				return err
			}
			replaced, err := file.Add(args[0], password, cost)
			if errors.Is(err, fs.ErrNotExist) {
				return missingDirectory(err)
			}
			if err != nil {
				return err
			}
			done := "added user"
			if replaced {
				done = "changed the password of user"
			}
			fmt.Fprintf(env.stderr, "%s %s\n", done, args[0])
			if !cfg.Auth.Enabled {
				fmt.Fprintln(env.stderr,
					"dcs: warning: auth.enabled is false in the configuration: the server asks for no login")
			}
			return nil
		},
	}
	addConfigFlags(cmd, "storage.directory", "auth.htpasswd")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	cmd.Flags().IntVar(&cost, "cost", minCost, "bcrypt `cost` of the password, 10 to 16")
	return cmd
}

// The bcrypt costs that are allowed. Below bcrypt's default passwords are too quick to try; at 16 a server needs four
// seconds for a login.
const minCost, maxCost = 10, 16

// missingDirectory is the error for a users file whose directory does not exist.
func missingDirectory(err error) error {
	return &hintedError{err, "name the directory of the server (--storage.directory), " +
		"or make it for the user that runs dcs serve: install -d -o USER DIR"}
}

// newUsersRemoveCommand makes dcs users remove. It warns if auth.users has the user too, who can then still log in.
func newUsersRemoveCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "remove NAME",
		SuggestFor: []string{"rm", "delete", "del"},
		Short:      "Remove a user; a running server follows at once",
		Long:       "Remove a user. A running server follows at once." + usersStatus,
		Example:    "  dcs users remove ci",
		Args:       exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, cfg, err := usersFile(env, cmd)
			if err != nil {
				return err
			}
			if err := checkFile(file); err != nil {
				return err
			}
			err = file.Remove(args[0])
			if errors.Is(err, users.ErrNotFound) {
				return &hintedError{err, hintForUser(args[0], file, configured(cfg))}
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(env.stderr, "removed user %s\n", args[0])
			if slices.Contains(configured(cfg), args[0]) {
				fmt.Fprintf(env.stderr,
					"dcs: warning: user %s is also in auth.users of the configuration, and can still log in\n", args[0])
			}
			return nil
		},
	}
	addConfigFlags(cmd, "storage.directory", "auth.htpasswd")
	return cmd
}

// hintForUser says where to look for a user that is not in the file.
func hintForUser(name string, file *users.File, configured []string) string {
	if slices.Contains(configured, name) {
		return "the user is in auth.users of the configuration: remove it there, and reload the server (SIGHUP)"
	}
	if names, err := file.List(); err == nil {
		if meant := nearest.Name(name, names); meant != "" {
			return "did you mean " + meant + "?"
		}
	}
	return "dcs users list lists the users of the file"
}

// newUsersListCommand makes dcs users list.
func newUsersListCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "list",
		SuggestFor: []string{"ls", "show"},
		Short:      "List the users, one name a line",
		Long: `List the users of the htpasswd file, one name a line. If a configuration is
given, the users of auth.users follow, and standard error names them.` + usersStatus,
		Example: "  dcs users list --auth.htpasswd /etc/dcs.htpasswd",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, cfg, err := usersFile(env, cmd)
			if err != nil {
				return err
			}
			if err := checkFile(file); err != nil {
				return err
			}
			return listUsers(env, file, configured(cfg))
		},
	}
	addConfigFlags(cmd, "storage.directory", "auth.htpasswd")
	return cmd
}

// listUsers prints each name once, the names of the file first.
func listUsers(env *environment, file *users.File, configured []string) error {
	names, err := file.List()
	if err != nil {
		return err
	}
	for _, name := range configured {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if _, err := fmt.Fprintln(env.stdout, name); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		fmt.Fprintf(env.stderr, "dcs: no users in %s; dcs users add NAME adds one\n", file.Path())
	}
	if len(configured) > 0 {
		fmt.Fprintf(env.stderr, "dcs: in auth.users of the configuration, which wins over the file: %s\n",
			strings.Join(configured, ", "))
	}
	return nil
}

// checkFile returns an error if there cannot be a users file at its path.
func checkFile(file *users.File) error {
	err := file.Check()
	if errors.Is(err, fs.ErrNotExist) {
		return missingDirectory(err)
	}
	return err
}

// configured returns the names of the users of the configuration.
func configured(cfg *config.Config) (names []string) {
	for _, u := range cfg.Auth.Users {
		names = append(names, u.Username)
	}
	return names
}

// usersFile opens the users file of a configuration, as the owner of the data directory if it is in there. The file
// need not exist.
func usersFile(env *environment, cmd *cobra.Command) (*users.File, *config.Config, error) {
	cfg, _, err := loadConfig(env, cmd)
	if err != nil {
		return nil, nil, err
	}
	file := users.Open(users.Path(cfg.Auth.Htpasswd, tree.Dir(cfg.Storage.Directory)))
	return file, cfg, owner.Become(file.Home())
}

// readPassword prompts twice on a terminal, or reads standard input and cuts one newline at its end.
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
		return "", &usageError{errors.New("cannot prompt for a password: stdin is not a terminal"),
			"use --password-stdin"}
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
		return "", errors.New("the two passwords differ; nothing was changed")
	}
	return answers[0], nil
}

// askPassword reads a line without echo, until ctx ends. A read of a terminal cannot be interrupted, so a goroutine
// does it.
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
	go func() { // ends with the process if no line is typed
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

// checkPassword refuses a password that bcrypt would cut, or none.
func checkPassword(password string) error {
	if err := credential.CheckPassword(password); err != nil {
		return &usageError{fmt.Errorf("password %w", err),
			"choose one of 1 to 72 bytes; a character outside ASCII takes two to four bytes"}
	}
	return nil
}
