package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/internal/ui"
	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// newConfigCommand makes dcs config. It opens no store: it only reads the configuration and prints it.
func newConfigCommand(env *environment) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration, and the source of each value",
		Long: `Print the effective configuration, and the source of each value: a flag, the
environment, the file or the default. The first of these that has a value wins.
Passwords are masked. dcs warns about a variable that begins with DCS_ and is
not a setting.

JSON is one object. It has an entry for each key: value, from (the source) and
name (of the flag, the variable or the file).

EXIT STATUS
  0  the configuration is valid
  1  failed
  2  bad command line or configuration`,
		Example: `  dcs config --config /etc/dcs.yaml
  DCS_CACHE_TTL=14d dcs config --cache.grace 2h
  dcs config --format json | jq -r '."cache.ttl".value'`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "table", "json"); err != nil {
				return err
			}
			cfg, origins, err := loadConfig(env, cmd)
			if err != nil {
				return err
			}
			for _, unknown := range config.UnknownEnv(env.environ) {
				fmt.Fprintf(env.stderr, "dcs: warning: %s is not a dcs setting and is ignored\n", unknown)
			}
			// The default is empty; people look for the path that it stands for.
			cfg.Auth.Htpasswd = users.Path(cfg.Auth.Htpasswd, tree.Dir(cfg.Storage.Directory))
			if format == "json" {
				return json.NewEncoder(env.stdout).Encode(settings(cmd, cfg, origins))
			}
			return printConfig(env, cfg, origins)
		},
	}
	addConfigFlags(cmd, "server.*", "storage.*", "auth.*", "cache.*", "limits.*", "debug.*", "log.*")
	cmd.Flags().StringVar(&format, "format", "table", "output format: `table|json`")
	cmd.AddCommand(newConfigCheckCommand(env))
	return cmd
}

// mask replaces every password, so that not even its length is shown.
const mask = "********"

// printConfig prints a line for each key, and one for each rule, which is never cut. Of users it shows the names only.
func printConfig(env *environment, cfg *config.Config, origins config.Origins) error {
	t := ui.Table{Columns: []ui.Column{{Title: "KEY"}, {Title: "VALUE", Flexible: true},
		{Title: "FROM", Flexible: true}}}
	for _, key := range config.Keys() {
		from := origins[key].String()
		switch {
		case key == "auth.users":
			t.Rows = append(t.Rows, ui.Text(key, maskedUsers(cfg), from))
		case key == "cache.rules" && len(cfg.Cache.Rules) > 0:
			for _, r := range cfg.Cache.Rules {
				t.Rows = append(t.Rows, ui.Text(key, r.String(), from))
				t.Columns[1].Min = max(t.Columns[1].Min, len(r.String()))
			}
		default:
			t.Rows = append(t.Rows, ui.Text(key, cfg.Text(key), from))
		}
	}
	return t.Write(env.stdout, ui.Width(env.stdout, env.get), ui.Colour(env.stdout, env.get))
}

// maskedUsers returns the users of auth.users as text, each with a masked password.
func maskedUsers(cfg *config.Config) string {
	var all []string
	for _, u := range cfg.Auth.Users {
		all = append(all, u.Username+":"+mask)
	}
	return strings.Join(all, ", ")
}

// setting is one key in JSON.
type setting struct {
	Value any    `json:"value"`
	From  string `json:"from"` // default, file, env or flag
	Name  string `json:"name"` // the path of the file, or the name of the variable or the flag; else empty
}

// settings returns all keys for JSON, by name.
func settings(cmd *cobra.Command, cfg *config.Config, origins config.Origins) map[string]setting {
	all := map[string]setting{}
	for _, key := range config.Keys() {
		all[key] = setting{value(cmd, cfg, key), origins[key].Kind.String(), origins[key].Name}
	}
	return all
}

// value returns the value of a key for JSON: a duration is text, a size is a number of bytes or a
// share, a list is a list.
func value(cmd *cobra.Command, cfg *config.Config, key string) any {
	switch key {
	case "server.trusted_proxies":
		return append([]string{}, cfg.Server.TrustedProxies...)
	case "auth.users":
		users := []map[string]string{}
		for _, u := range cfg.Auth.Users {
			users = append(users, map[string]string{"username": u.Username, "password": mask})
		}
		return users
	case "cache.rules":
		return jsonRules(cfg.Cache.Rules)
	}
	text := cfg.Text(key)
	switch cmd.Flags().Lookup(key).Value.Type() {
	case "bool", "int":
		return json.RawMessage(text)
	case "size":
		if bytes, err := config.ParseSize(text); err == nil {
			return bytes
		}
		return text // a share of the file system
	}
	return text
}

// jsonRule is a rule in JSON. It has the keys that are set.
type jsonRule struct {
	Repository  string `json:"repository,omitempty"`
	Tag         string `json:"tag,omitempty"`
	Keep        *bool  `json:"keep,omitempty"`
	TTL         string `json:"ttl,omitempty"`
	UntaggedTTL string `json:"untagged_ttl,omitempty"`
	KeepLast    *int   `json:"keep_last,omitempty"`
}

// jsonRules returns rules for JSON: a list, also where there is none.
func jsonRules(rules []config.Rule) []jsonRule {
	duration := func(d *time.Duration) string {
		if d == nil {
			return ""
		}
		return config.FormatDuration(*d)
	}
	all := []jsonRule{}
	for _, r := range rules {
		all = append(all, jsonRule{r.Repository, r.Tag, r.Keep, duration(r.TTL), duration(r.UntaggedTTL), r.KeepLast})
	}
	return all
}
