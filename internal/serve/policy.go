package serve

import (
	"time"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// Policy is what a configuration promises.
func Policy(cfg *config.Config) index.Policy {
	return index.Policy{TTL: cfg.Cache.TTL, Grace: cfg.Cache.Grace, Resolution: policy.Resolution(cfg.Cache.Grace)}
}

// NameAge is the age that a configuration gives to names that the index does not know; nil: used now.
func NameAge(cfg *config.Config) adopt.Age {
	if cfg.Cache.AdoptAge == "mtime" {
		return func(modified time.Time) time.Time { return modified }
	}
	return nil
}

// Htpasswd is the file of users that a configuration names.
func Htpasswd(cfg *config.Config) string {
	if cfg.Auth.Htpasswd != "" {
		return cfg.Auth.Htpasswd
	}
	return tree.Dir(cfg.Storage.Directory).Htpasswd()
}
