package main

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

func newServeCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the registry",
		Long: `Run the registry until SIGTERM or SIGINT, then let transfers in flight finish.

Every configuration flag can be set in the YAML file and in the environment too:
--cache.ttl is ttl below cache: there, and DCS_CACHE_TTL here. Flags beat the
environment, which beats the file. A switch takes its value behind an equals sign:
--auth.enabled=false. Durations: 30d, 1w2d, 12h30m, 0.

EXIT STATUS
  0  stopped by a signal, and drained
  1  failed, such as: the port is taken
  2  bad command line or configuration, or no user who could log in
  4  the data directory is in use by another dcs serve`,
		Example: `  dcs serve --config /etc/dcs.yaml --cache.ttl 14d
  dcs serve --auth.enabled=false --server.address 127.0.0.1 --storage.directory .`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := loadConfig(env, cmd)
			if err != nil {
				return err
			}
			log, err := newLogger(env, cfg)
			if err != nil {
				return err
			}
			if err := becomeOwner(cfg); err != nil {
				return err
			}
			return runServer(cmd.Context(), env, cfg, log)
		},
	}
	addConfigFlags(cmd, "server.*", "storage.*", "auth.*", "cache.*", "limits.*", "debug.*", "log.*")
	return cmd
}

// runServer serves until ctx ends, which is not a failure.
func runServer(ctx context.Context, env *environment, cfg *config.Config, log *logrus.Logger) error {
	for _, unknown := range config.UnknownEnv(env.environ) {
		log.Warnf("environment variable %s is no setting of dcs", unknown)
	}
	// The few lines that distribution writes by itself belong to this process's log.
	logrus.SetOutput(log.Out)
	logrus.SetFormatter(log.Formatter)
	logrus.SetLevel(log.Level)
	manager := newServiceManager(log)
	manager.opening(cfg.Storage.Directory)
	srv, err := serve.New(serve.Options{Config: cfg, Log: log, Debug: true, Listen: true, OnReady: manager.ready, OnGate: manager.gate})
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		manager.stopping(cfg.Server.DrainTimeout)
		log.WithField("timeout", cfg.Server.DrainTimeout.String()).Info("stopping: transfers in flight may finish")
		stopped <- srv.Shutdown(cfg.Server.DrainTimeout)
	})
	if err := srv.Start(); err != nil && !errors.Is(err, serve.ErrClosed) { // the signal came first
		_ = srv.Shutdown(0) // what failed is told already
		return err
	}
	if stop() {
		return nil // ended without the signal
	}
	err = <-stopped
	log.Info("stopped")
	return err
}
