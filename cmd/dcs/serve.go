package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// newServeCommand makes dcs serve, which runs a server until a signal stops it.
func newServeCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "serve",
		SuggestFor: []string{"start", "run", "server", "up"},
		Short:      "Run the registry",
		Long: `Run the registry until SIGTERM or SIGINT. It then waits for running transfers,
for server.drain_timeout at most.

SIGHUP reloads users, certificates and a part of the configuration: auth.users,
auth.htpasswd, cache.ttl, cache.cleanup_interval, cache.adopt_age, log.*,
server.drain_timeout and server.tls.*. The log says what was taken and what
needs a restart. After a mistake nothing changes.

Every configuration flag is also a key of the YAML file and an environment
variable: --cache.ttl is ttl below cache: in the file, and DCS_CACHE_TTL. Flags
win over the environment, and the environment over the file. A switch takes its
value after an equals sign: --auth.enabled=false. Write durations like 30d,
1w2d, 12h30m or 0.

EXIT STATUS
  0  stopped by a signal, all transfers finished
  1  failed; for example, the port is in use
  2  bad command line or configuration, or no user can log in
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

// lastLines is how long the end of a server waits for the last lines of its log.
const lastLines = time.Second

// runServer serves until ctx ends, and returns nil then.
func runServer(ctx context.Context, env *environment, cfg *config.Config, log *logrus.Logger, again reloader) error {
	signal.Ignore(syscall.SIGPIPE) // a reader of standard output or standard error may go away
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // before the start: it must not end a starting server
	defer signal.Stop(hangups)
	inColour(log)
	out := newPatient(log)
	defer out.close(lastLines)
	for _, unknown := range config.UnknownEnv(env.environ) {
		log.Warnf("%s is not a dcs setting and is ignored", unknown)
	}
	manager := newServiceManager(log)
	manager.opening(cfg.Storage.Directory)
	srv, err := serve.New(serve.Options{Config: cfg, Log: log, Debug: true, Listen: true,
		OnReady: manager.ready, OnGate: manager.gate})
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		timeout := srv.Config().Server.DrainTimeout
		manager.stopping(timeout)
		log.WithField("timeout", timeout.String()).Info(shuttingDown(timeout))
		stopped <- srv.Shutdown(timeout)
	})
	defer again.follow(hangups, srv, log)()
	if err := srv.Start(); err != nil && !errors.Is(err, serve.ErrClosed) { // a signal came before the start
		_ = srv.Shutdown(0) // the error of the start says what failed
		return err
	}
	if stop() {
		return nil // it ended without a signal
	}
	err = <-stopped
	log.Info("stopped")
	return err
}

// shuttingDown is what the log and the service manager say when a stop begins.
func shuttingDown(timeout time.Duration) string {
	return fmt.Sprintf("shutting down: waiting up to %s for running transfers", config.FormatDuration(timeout))
}
