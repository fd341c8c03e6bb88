package server_test

import (
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/config"
	"github.com/jc-lab/docker-cache-server/pkg/server"
	"github.com/sirupsen/logrus"
)

// The example of the project's ancestor, as its README has it.
func Example() {
	cfg := config.DefaultConfig()
	cfg.Server.Port = 5000
	cfg.Cache.TTL = 30 * 24 * time.Hour // 30 days

	logger := logrus.New()
	logger.SetLevel(logrus.DebugLevel)

	srv, err := server.New(&server.Options{
		Config: cfg,
		Logger: logger,
		AuthValidator: func(username, password string) bool {
			return username == "custom" && password == "pass"
		},
		OnBlobAccess: func(digest string, size int64) {
			logger.Infof("Blob accessed: %s (size: %d)", digest, size)
		},
	})
	if err != nil {
		logger.Fatal(err)
	}

	if err := srv.Start(); err != nil {
		logger.Fatal(err)
	}
}
