package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

func newGCCommand(env *environment) *cobra.Command {
	var dryRun bool
	var format string
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what nobody used for the ttl, now",
		Long: `Remove the images that nobody used for the ttl, and the bytes only they used.

Safe at any time: beside a running server, beside another gc, from cron. Without
--ttl and --grace the policy of the last server of the directory holds.

EXIT STATUS
  0    done
  1    failed; the next run goes on
  2    bad command line or configuration, or a grace shorter than a server promised
  4    the directory's server uses another index
  130  interrupted; everything is consistent`,
		Example: `  dcs gc --storage.directory /var/cache/docker-cache-server --ttl 30d --dry-run
  dcs gc --config /etc/dcs.yaml --format json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "table", "json"); err != nil {
				return err
			}
			cfg, origins, err := loadConfig(env, cmd)
			if err != nil {
				return err
			}
			once, err := newOnce(env, cfg, origins)
			if err != nil {
				return err
			}
			once.DryRun = dryRun
			rep, err := once.Run(cmd.Context())
			if err != nil && !rep.Removed.Any() {
				return err
			}
			if format == "json" {
				return firstOf(err, json.NewEncoder(env.stdout).Encode(rep))
			}
			return firstOf(err, printReport(env, rep))
		},
	}
	addConfigFlags(cmd, "storage.*", "cache.*", "log.*")
	addAlias(cmd, "ttl", "cache.ttl")
	addAlias(cmd, "grace", "cache.grace")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be removed and change nothing")
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}

func newOnce(env *environment, cfg *config.Config, origins config.Origins) (*gc.Once, error) {
	log, err := newLogger(env, cfg)
	if err != nil {
		return nil, err
	}
	dir, err := layout.At(cfg.Storage.Directory)
	return &gc.Once{Dir: dir, Log: log, Asked: asked(cfg, origins), NameAge: serve.NameAge(cfg)}, err
}

func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return &usageError{fmt.Errorf("--%s %q is not known", flag, value), fmt.Sprintf("it may be one of %v", allowed)}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
