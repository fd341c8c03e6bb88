package main

import (
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/expiry"
	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/internal/ui"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// addConfigFlags gives a command --config and the configuration flags that it uses.
func addConfigFlags(cmd *cobra.Command, keys ...string) {
	cmd.Flags().String("config", "", "read this YAML `file` (DCS_CONFIG)")
	config.AddFlags(cmd.Flags(), keys...)
	if cmd.Flags().Lookup("log.level") != nil {
		completeValues(cmd, "log.level", "trace", "debug", "info", "warn", "error")
	}
}

// valuesAnnotation marks a flag that takes one of a few words.
const valuesAnnotation = "dcs_values"

// completeValues says which words a flag takes, for the help and for shells. Flags whose usage has them in back
// quotes, `table|json`, need no call.
func completeValues(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.Flags().SetAnnotation(flag, valuesAnnotation, values); err != nil {
		panic(err) // there is no such flag
	}
}

// addAlias gives a configuration flag a short name. Its default is said where the long one is.
func addAlias(cmd *cobra.Command, short, key string) {
	cmd.Flags().Var(cmd.Flags().Lookup(key).Value, short, "short for --"+key)
	cmd.Flags().Lookup(short).DefValue = ""
	cmd.PreRun = chain(cmd.PreRun, func(cmd *cobra.Command, _ []string) {
		if cmd.Flags().Changed(short) {
			cmd.Flags().Lookup(key).Changed = true
		}
	})
}

func chain(first, second func(*cobra.Command, []string)) func(*cobra.Command, []string) {
	return func(cmd *cobra.Command, args []string) {
		if first != nil {
			first(cmd, args)
		}
		second(cmd, args)
	}
}

// loadConfig reads file, environment and flags.
func loadConfig(env *environment, cmd *cobra.Command) (*config.Config, config.Origins, error) {
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, nil, err
	}
	if !cmd.Flags().Changed("config") {
		file = env.get("DCS_CONFIG")
	}
	return config.Load(config.Sources{File: file, Env: env.environ, Flags: cmd.Flags()})
}

// asked is the policy that was configured on purpose. The rest is left to what the server promised.
func asked(cfg *config.Config, origins config.Origins) expiry.Request {
	r := expiry.Request{Default: serve.Policy(cfg)}
	if origins.Explicit("cache.ttl") {
		r.TTL = &cfg.Cache.TTL
	}
	if origins.Explicit("cache.grace") {
		r.Grace = &cfg.Cache.Grace
	}
	return r
}

func (env *environment) get(name string) string {
	for _, kv := range env.environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// newLogger makes the logger that a configuration asks for. Logs are not results: standard error.
func newLogger(env *environment, cfg *config.Config) (*logrus.Logger, error) {
	level, err := logrus.ParseLevel(cfg.Log.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	log := logrus.New()
	log.SetOutput(env.stderr)
	log.SetLevel(level)
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: !ui.Colour(env.stderr, env.get)})
	if cfg.Log.Format == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	return log, nil
}
