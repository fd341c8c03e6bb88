package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/jc-lab/docker-cache-server/internal/nearest"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// elsewhere says how dcs does what other programs have a command for, by the names of that command.
var elsewhere = []struct{ words, how string }{
	{"rm rmi delete del remove", "dcs gc removes unused images; " +
		"to delete one image, a client sends DELETE /v2/NAME/manifests/DIGEST"},
	{"status health ps info", "dcs inspect shows what is stored; " +
		"http://127.0.0.1:5001/readyz (debug.address) says whether a server is ready"},
	{"stop down kill shutdown", "SIGTERM stops a server: systemctl stop dcs, docker stop, or Ctrl-C"},
	{"stats metrics top du", "dcs inspect sums up what is stored; " +
		"a server has metrics at http://127.0.0.1:5001/metrics (debug.address)"},
}

// asGroup makes a command that has verbs print its help without one, and suggest one for an unknown verb.
func asGroup(cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(cmd, args[0], "")
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// unknownCommand returns the error for a verb that cmd does not have. help is "help " for the command help.
func unknownCommand(cmd *cobra.Command, name, help string) error {
	err := fmt.Errorf("unknown command %q", strings.TrimPrefix(cmd.CommandPath()+" "+name, "dcs "))
	for _, e := range elsewhere {
		if !cmd.HasParent() && slices.Contains(strings.Fields(e.words), name) {
			return &usageError{err, e.how}
		}
	}
	if meant := nearestVerb(cmd, name); meant != "" {
		path := strings.TrimPrefix(cmd.CommandPath()+" "+meant, "dcs ")
		return &usageError{err, "did you mean dcs " + help + path + "?"}
	}
	if !cmd.HasAvailableSubCommands() {
		return &usageError{err, cmd.CommandPath() + " has no subcommands"}
	}
	return &usageError{err, cmd.CommandPath() + " --help lists the commands"}
}

// nearestVerb returns the command that was probably meant, or "". SuggestFor has the words of other tools. cobra's own
// search among the names would take two edits for a mistake even in a word of two letters: rm would mean gc.
func nearestVerb(cmd *cobra.Command, name string) string {
	var names []string
	for _, sub := range cmd.Commands() {
		if slices.Contains(sub.SuggestFor, name) {
			return sub.Name()
		}
		names = append(names, sub.Name())
	}
	return nearest.Name(name, names)
}

// flagError says in our words what is wrong with a flag, and suggests a right one.
func flagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return unknownFlag(cmd, unknown)
	}
	lists := cmd.CommandPath() + " --help lists the flags"
	if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		f := missing.GetFlag()
		return &usageError{fmt.Errorf("--%s needs a value", f.Name), "write --" + f.Name + " " + valueName(f)}
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return &usageError{invalidValue(invalid), lists}
	}
	return &usageError{err, lists}
}

// invalidValue says what is wrong with a value. Errors of the configuration are in our words already; those of pflag
// are Go's.
func invalidValue(invalid *pflag.InvalidValueError) error {
	f := invalid.GetFlag()
	cause := invalid.Unwrap()
	if _, ours := errors.AsType[*config.Error](cause); !ours {
		switch f.Value.Type() {
		case "bool":
			cause = errors.New("is neither true nor false")
		case "int":
			cause = errors.New("is not a whole number")
		}
	}
	return fmt.Errorf("--%s: %.80q %w", f.Name, invalid.GetValue(), cause)
}

// unknownFlag returns the error for a flag that cmd does not have: the flag of another command, or a misspelt one.
func unknownFlag(cmd *cobra.Command, unknown *pflag.NotExistError) error {
	if args := cmd.Flags().Args(); len(args) > 0 && cmd.HasAvailableSubCommands() {
		return unknownCommand(cmd, args[0], "") // the flag belongs to the unknown command
	}
	name, written := unknown.GetSpecifiedName(), "--"+unknown.GetSpecifiedName()
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		name, _, _ = strings.Cut(short, "=")
		written = "-" + name
	}
	err := fmt.Errorf("unknown flag %s", written)
	if f := cmd.Flags().Lookup(name); f != nil { // -storage.directory
		return &usageError{err, "did you mean --" + name + "?"}
	}
	if cmd.HasAvailableSubCommands() {
		if verb(cmd, name) != nil {
			return &usageError{err, fmt.Sprintf("did you mean %s %s?", cmd.CommandPath(), name)}
		}
		if of := having(cmd, name); of != nil {
			hint := "name the command first: " + of[0] + " --" + name
			if len(of) > 1 {
				hint += " (or " + sentence(of[1:]) + ")"
			}
			return &usageError{fmt.Errorf("flag %s without a command", written), hint}
		}
	}
	if meant := nearest.Name(name, flagNames(cmd)); meant != "" {
		return &usageError{err, "did you mean --" + meant + "?"}
	}
	if of := having(cmd.Root(), name); of != nil {
		return &usageError{err, fmt.Sprintf("--%s is a flag of %s", name, sentence(of))}
	}
	return &usageError{err, cmd.CommandPath() + " --help lists the flags"}
}

// flagNames returns the names of the flags of a command and its verbs that are not hidden. Keys of the configuration
// are in the order of the documentation: server.address is before debug.address.
func flagNames(cmd *cobra.Command) (names []string) {
	for _, key := range config.Keys() {
		if cmd.Flags().Lookup(key) != nil {
			names = append(names, key)
		}
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	})
	for _, sub := range cmd.Commands() {
		names = append(names, flagNames(sub)...)
	}
	return names
}

// having returns the paths of the verbs of cmd that have a flag, or have a verb that has it.
func having(cmd *cobra.Command, flag string) (paths []string) {
	for _, sub := range cmd.Commands() {
		if slices.Contains(flagNames(sub), flag) {
			paths = append(paths, sub.CommandPath())
		}
	}
	return paths
}

// sentence joins alternatives: "a, b or c".
func sentence(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// exactArgs requires exactly these arguments.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > len(names):
			return unexpectedArgument(cmd, args[len(names)])
		case len(args) < len(names):
			return &usageError{fmt.Errorf("%s is missing", names[len(args)]), "write " + cmd.UseLine()}
		}
		return nil
	}
}

// unexpectedArgument returns the error for an argument that a command does not take. A true or false was probably meant
// as the value of a switch before it, which takes one only after an equals sign.
func unexpectedArgument(cmd *cobra.Command, arg string) error {
	err := fmt.Errorf("unexpected argument %q", arg)
	if arg == "true" || arg == "false" {
		var meant []string
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if isSwitch(f) {
				meant = append(meant, "--"+f.Name+"="+arg)
			}
		})
		if len(meant) > 0 {
			return &usageError{err, "write it with an equals sign: " + sentence(meant)}
		}
	}
	if cmd.Flags().Lookup(arg) != nil {
		return &usageError{err, "did you mean --" + arg + "?"}
	}
	if meant := nearestVerb(cmd, arg); meant != "" {
		return &usageError{err, "did you mean " + cmd.CommandPath() + " " + meant + "?"}
	}
	return &usageError{err, cmd.CommandPath() + " --help shows the usage"}
}
