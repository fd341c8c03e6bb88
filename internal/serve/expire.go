package serve

import (
	"context"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// cleaner runs gc: every cache.cleanup_interval, and when the program asks for it.
type cleaner struct {
	collector gc.Collector
	schedules chan gc.Schedule       // holds the newest schedule that the sweeper has not taken yet
	ended     func(gc.Report, error) // is told of each run that was allowed to remove something
}

func newCleaner(c gc.Collector, ended func(gc.Report, error)) *cleaner {
	return &cleaner{collector: c, schedules: make(chan gc.Schedule, 1), ended: ended}
}

// sweep runs gc by a schedule until ctx ends.
func (c *cleaner) sweep(ctx context.Context, first gc.Schedule) {
	sweeper := gc.Sweeper{Collector: &c.collector, OnRun: c.ended}
	sweeper.Sweep(ctx, first, c.schedules)
}

// follow gives the sweeper a new schedule. One Reload at a time calls it.
func (c *cleaner) follow(next gc.Schedule) {
	select {
	case <-c.schedules: // the sweeper has not taken the one before
	default:
	}
	c.schedules <- next
}

func (c *cleaner) run(ctx context.Context, p index.Policy, dryRun bool) (gc.Report, error) {
	rep, err := c.collector.Run(ctx, p, dryRun)
	if !dryRun && ctx.Err() == nil && rep.HeldBy == "" {
		c.ended(rep, err)
	}
	return rep, err
}

func schedule(cfg *config.Config) gc.Schedule {
	return gc.Schedule{Policy: store.PolicyOf(cfg), Interval: cfg.Cache.CleanupInterval}
}

// Expire does one run of gc now. A ttl of 0 is that of the configuration.
func (s *Server) Expire(ctx context.Context, ttl time.Duration, dryRun bool) (gc.Report, error) {
	ctx, leave, err := s.calls.begin(ctx)
	if err != nil {
		return gc.Report{}, err
	}
	defer leave()
	policy := s.policy()
	if ttl != 0 {
		policy.TTL = ttl
	}
	rep, err := s.cleaner.run(ctx, policy, dryRun)
	return rep, cause(ctx, err)
}
