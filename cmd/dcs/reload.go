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

// reloader reads the configuration of a running server again, from the same sources.
type reloader struct {
	env *environment
	cmd *cobra.Command
}

// follow reloads at each signal. The function that it returns ends that, and waits until a running reload is done.
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

// reload applies the new configuration as far as a running server can, or, after a mistake, nothing of it. One line of
// the log says which.
func (r reloader) reload(ctx context.Context, srv *serve.Server, log *logrus.Logger) {
	const refused = "cannot reload the configuration; the old one stays in effect"
	file := configFile(r.env, r.cmd)
	if isStream(file) { // it would be empty now, or wait for a writer
		log.WithField("file", file).Error(refused +
			": it came through a pipe, which can be read once; restart the server")
		return
	}
	var cfg *config.Config
	err := owner.AsRoot(func() (err error) { // only root may be allowed to read the file
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
		log.Info("reloaded users and certificates; " +
			"there is no configuration file, and flags and environment do not change")
		return
	}
	taken, left := strings.Join(done.Taken, ", "), strings.Join(done.Restart, ", ")
	log.WithFields(logrus.Fields{"file": file, "taken": taken, "need_restart": left}).
		Info("reloaded configuration, users and certificates")
}

// isStream says whether a path leads to a pipe or the like, which can be read only once.
func isStream(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && !fi.Mode().IsRegular() && !fi.IsDir()
}

// inColour keeps the colours of a log whose writer is not the terminal itself.
func inColour(log *logrus.Logger) {
	if f, ok := log.Formatter.(*logrus.TextFormatter); ok {
		f.ForceColors = !f.DisableColors
	}
}
