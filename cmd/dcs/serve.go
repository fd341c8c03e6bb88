package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

func newServeCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "serve",
		SuggestFor: []string{"start", "run", "server", "up"},
		Short:      "Run the registry",
		Long: `Run the registry until SIGTERM or SIGINT, then let transfers in flight finish.
SIGHUP reads again, without a restart: users, certificates, and of the
configuration auth.users, auth.htpasswd, cache.ttl, cache.cleanup_interval,
cache.adopt_age, log.*, server.drain_timeout and server.tls.*. The log says what
was taken and what needs a restart; after a mistake everything stays as it was.

Every configuration flag can be set in the YAML file and in the environment too:
--cache.ttl is ttl below cache: there, and DCS_CACHE_TTL here. Flags beat the
environment, which beats the file. A switch takes its value behind an equals
sign: --auth.enabled=false. Durations: 30d, 1w2d, 12h30m, 0.

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
			return runServer(cmd.Context(), env, cfg, log, reloader{env, cmd})
		},
	}
	addConfigFlags(cmd, "server.*", "storage.*", "auth.*", "cache.*", "limits.*", "debug.*", "log.*")
	return cmd
}

// lastLines is how long an end waits for the log to be written.
const lastLines = time.Second

// runServer serves until ctx ends, which is not a failure.
func runServer(ctx context.Context, env *environment, cfg *config.Config, log *logrus.Logger, again reloader) error {
	signal.Ignore(syscall.SIGPIPE) // of whoever read standard output or standard error
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // at once: it must not end a server that is about to start
	defer signal.Stop(hangups)
	inColour(log)
	out := newPatient(log)
	defer out.close(lastLines)
	for _, unknown := range config.UnknownEnv(env.environ) {
		log.Warnf("environment variable %s is no setting of dcs", unknown)
	}
	manager := newServiceManager(log)
	manager.opening(cfg.Storage.Directory)
	srv, err := serve.New(serve.Options{Config: cfg, Log: log, Debug: true, Listen: true, OnReady: manager.ready, OnGate: manager.gate})
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		timeout := srv.Config().Server.DrainTimeout
		manager.stopping(timeout)
		log.WithField("timeout", timeout.String()).Info("stopping: transfers in flight may finish")
		stopped <- srv.Shutdown(timeout)
	})
	defer again.follow(hangups, srv, log)()
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
