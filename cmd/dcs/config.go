package main

import (
	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/ui"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

func newConfigCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration, and where each value comes from",
		Long: `Print the effective configuration, and where each value comes from: a flag, the
environment, the file, or the default. Passwords are not shown.

EXIT STATUS
  0  the configuration is good
  2  bad command line or configuration`,
		Example: "  dcs config --config /etc/dcs.yaml",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, origins, err := loadConfig(env, cmd)
			if err != nil {
				return err
			}
			t := ui.Table{Columns: []ui.Column{{Title: "KEY"}, {Title: "VALUE", Flexible: true}, {Title: "FROM", Flexible: true}}}
			for _, key := range config.Keys() {
				t.Rows = append(t.Rows, ui.Text(key, cfg.Text(key), origins[key].String()))
			}
			return t.Write(env.stdout, ui.Width(env.stdout, env.get), ui.Colour(env.stdout, env.get))
		},
	}
	addConfigFlags(cmd, "server.*", "storage.*", "auth.*", "cache.*", "debug.*", "log.*")
	return cmd
}
