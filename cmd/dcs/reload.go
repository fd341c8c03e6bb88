package main

import (
	"context"
	"os"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/owner"
	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// reloader reads the configuration of a running server again, from where it came.
type reloader struct {
	env *environment
	cmd *cobra.Command
}

// follow reads again at each signal, until the function that it returns was called.
func (r reloader) follow(signals <-chan os.Signal, srv *serve.Server, log *logrus.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				r.reload(ctx, srv, log)
			}
		}
	})
	return func() {
		cancel()
		following.Wait()
	}
}

// reload takes all of what was read, as far as a running server can, or nothing. One line says which.
func (r reloader) reload(ctx context.Context, srv *serve.Server, log *logrus.Logger) {
	const refused = "the settings could not be read again; the old ones stay"
	file := configFile(r.env, r.cmd)
	if isStream(file) { // it would be empty now, or wait for somebody
		log.WithField("file", file).Error(refused + ": the configuration came through a pipe; restart the server with it")
		return
	}
	var cfg *config.Config
	err := owner.AsRoot(func() (err error) { // the file may be root's own
		cfg, _, err = loadConfig(r.env, r.cmd)
		return err
	})
	if err != nil {
		log.WithError(err).Error(refused)
		return
	}
	read, err := newLogger(r.env, cfg)
	if err != nil {
		log.WithError(err).Error(refused)
		return
	}
	done, err := srv.Reload(ctx, cfg)
	if err != nil {
		log.WithError(err).Error(refused)
		return
	}
	log.SetLevel(read.Level)
	inColour(read)
	log.SetFormatter(read.Formatter)
	if file == "" {
		log.Info("users and certificates were read again; there is no configuration file to read, flags and environment stay")
		return
	}
	taken, left := strings.Join(done.Taken, ", "), strings.Join(done.Restart, ", ")
	log.WithFields(logrus.Fields{"file": file, "taken": taken, "need_restart": left}).Info("settings, users and certificates were read again")
}

// isStream says whether a path leads to something that can be read once.
func isStream(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && !fi.Mode().IsRegular() && !fi.IsDir()
}

// inColour keeps the colours of a log that is not written to the terminal itself.
func inColour(log *logrus.Logger) {
	if f, ok := log.Formatter.(*logrus.TextFormatter); ok {
		f.ForceColors = !f.DisableColors
	}
}
