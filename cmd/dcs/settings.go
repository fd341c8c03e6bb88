package main

import (
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/jc-lab/docker-cache-server/internal/owner"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/internal/ui"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// addConfigFlags adds --config and the configuration flags of the named keys to a command.
func addConfigFlags(cmd *cobra.Command, keys ...string) {
	cmd.Flags().String("config", "", "read this YAML `file` (DCS_CONFIG)")
	config.AddFlags(cmd.Flags(), keys...)
	if cmd.Flags().Lookup("log.level") != nil {
		completeValues(cmd, "log.level", "trace", "debug", "info", "warn", "error")
	}
}

// hideFlags hides flags that have no effect in a command from its help and its completion. The command accepts them, so
// that one set of flags can be given to every command.
func hideFlags(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.Flags().MarkHidden(name); err != nil {
			panic(err) // there is no such flag
		}
	}
}

// valuesAnnotation is the annotation of a flag that takes one of a few words.
const valuesAnnotation = "dcs_values"

// completeValues says which words a flag takes, for the help and for completion. Flags whose usage has the words in
// back quotes, `table|json`, do not need it.
func completeValues(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.Flags().SetAnnotation(flag, valuesAnnotation, values); err != nil {
		panic(err) // there is no such flag
	}
}

// addAlias adds a short name for a configuration flag. If both are given, their values must be equal.
func addAlias(cmd *cobra.Command, short, key string) {
	own := pflag.NewFlagSet(short, pflag.ContinueOnError)
	config.AddFlags(own, key)
	cmd.Flags().Var(own.Lookup(key).Value, short, "short for --"+key)
	cmd.Flags().Lookup(short).Hidden = own.Lookup(key).Hidden
	cmd.Flags().Lookup(short).DefValue = "" // the help has it at the long name
	cmd.PreRunE = chain(cmd.PreRunE, func(cmd *cobra.Command, _ []string) error {
		given, long := cmd.Flags().Lookup(short), cmd.Flags().Lookup(key)
		if !given.Changed {
			return nil
		}
		if a, b := given.Value.String(), long.Value.String(); long.Changed && a != b {
			return &usageError{fmt.Errorf("--%s %s and --%s %s are two values for one setting", short, a, key, b),
				"give one of them"}
		}
		return cmd.Flags().Set(key, given.Value.String())
	})
}

// chain returns a function that calls both, in this order, until one fails. first may be nil.
func chain(first, second func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if first != nil {
			if err := first(cmd, args); err != nil {
				return err
			}
		}
		return second(cmd, args)
	}
}

// loadConfig reads the configuration: file, environment and flags.
func loadConfig(env *environment, cmd *cobra.Command) (*config.Config, config.Origins, error) {
	return config.Load(config.Sources{File: configFile(env, cmd), Env: env.environ, Flags: cmd.Flags()})
}

// configFile returns the path of the file that a command reads, or "".
func configFile(env *environment, cmd *cobra.Command) string {
	if f := cmd.Flags().Lookup("config"); f.Changed {
		return f.Value.String()
	}
	return env.get("DCS_CONFIG")
}

// becomeOwner lets a process of root work as the owner of the data directory. It is called before anything in the
// directory is opened.
func becomeOwner(cfg *config.Config) error {
	dir, err := tree.At(cfg.Storage.Directory)
	if err != nil {
		return err
	}
	return owner.Become(string(dir))
}

// newOpener returns the opener of the store that a configuration names, with what the operator asked for. A process of
// root becomes the owner of the data directory first.
func newOpener(cfg *config.Config, origins config.Origins, log logrus.FieldLogger) (store.Opener, error) {
	if err := becomeOwner(cfg); err != nil {
		return store.Opener{}, err
	}
	dir, err := tree.At(cfg.Storage.Directory)
	return store.Opener{Dir: dir, Log: log, Asked: store.Asked(cfg, origins), NameAge: store.NameAge(cfg)}, err
}

// get returns the value of a variable, or "".
func (env *environment) get(name string) string {
	for _, kv := range env.environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// logTime is RFC 3339 with a fixed number of digits, down to microseconds.
const logTime = "2006-01-02T15:04:05.000000Z07:00"

// newLogger returns the logger that a configuration asks for. It writes to standard error.
func newLogger(env *environment, cfg *config.Config) (*logrus.Logger, error) {
	level, err := logrus.ParseLevel(cfg.Log.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	log := logrus.New()
	log.SetOutput(env.stderr)
	log.SetLevel(level)
	log.AddHook(hintHook{})
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: logTime,
		DisableColors: !ui.Colour(env.stderr, env.get)})
	if cfg.Log.Format == "json" {
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: logTime})
	}
	return log, nil
}
