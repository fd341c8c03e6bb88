package serve

import (
	"context"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/room"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// budget is how many bytes the store may take on disk; 0: any number. A share is one of the file system as large as it
// is now.
func (s *Server) budget(cfg *config.Config) int64 {
	_, size, err := s.store.Dir.Space()
	if err != nil {
		s.log.WithError(err).Warn("cannot tell how large the disk is; a budget that is a share of it does not count")
	}
	return cfg.Cache.Budget().MaxSize.Of(size)
}

// resize follows a file system that was made larger or smaller, of which the budget may be a share.
func (s *Server) resize() {
	if _, size, err := s.store.Dir.Space(); err == nil {
		s.room.SetBudget(s.Config().Cache.Budget().MaxSize.Of(size))
	}
}

// patience is how long an upload waits for room: less than the time after which its client would count as one that
// sends nothing.
func patience(cfg *config.Config) time.Duration {
	if stall := cfg.Limits.StallTimeout; stall > 0 {
		return min(room.Patience, stall/2)
	}
	return room.Patience
}

// used counts the bytes that the store takes on disk, as du does.
func (s *Server) used(ctx context.Context) (int64, error) { return s.usage.Used(ctx) }
