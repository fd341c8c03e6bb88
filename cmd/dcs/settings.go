package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// addConfigFlags gives a command --config and the configuration flags that it uses.
func addConfigFlags(cmd *cobra.Command, keys ...string) {
	cmd.Flags().String("config", "", "read this YAML file (DCS_CONFIG)")
	config.AddFlags(cmd.Flags(), keys...)
}

// addAlias gives a configuration flag a short name.
func addAlias(cmd *cobra.Command, short, key string) {
	cmd.Flags().Var(cmd.Flags().Lookup(key).Value, short, "short for --"+key)
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
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: !isTerminal(env.stderr) || env.get("NO_COLOR") != ""})
	if cfg.Log.Format == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	return log, nil
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}
