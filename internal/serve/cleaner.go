package serve

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// cleaner runs gc: every cache.cleanup_interval, and when the program asks for it.
type cleaner struct {
	collector gc.Collector
	room      gc.Room
	schedules chan gc.Schedule // holds the newest schedule that the scheduler has not taken yet
	events    event.Stream
}

func newCleaner(c gc.Collector, room gc.Room, events event.Stream) *cleaner {
	c.OnDelete = func(d digest.Digest) { events.Publish(event.Event{Kind: event.Removal, Digest: d}) }
	return &cleaner{collector: c, room: room, schedules: make(chan gc.Schedule, 1), events: events}
}

// clean runs gc by a schedule until ctx ends.
func (c *cleaner) clean(ctx context.Context, first gc.Schedule) {
	collector := c.collector
	scheduler := gc.Scheduler{Collector: &collector, Room: c.room, OnRun: c.ended, OnOver: c.over}
	scheduler.Schedule(ctx, first, c.schedules)
}

// over publishes the time for which more was used than the budget allows.
func (c *cleaner) over(d time.Duration) {
	c.events.Publish(event.Event{Kind: event.OverBudget, Result: event.Result{Took: d}})
}

// follow gives the scheduler a new schedule. One Reload at a time calls it.
func (c *cleaner) follow(next gc.Schedule) {
	select {
	case <-c.schedules: // the scheduler has not taken the one before
	default:
	}
	c.schedules <- next
}

// run runs gc once.
func (c *cleaner) run(ctx context.Context, policy index.Policy, dryRun bool) (gc.Report, error) {
	collector := c.collector
	rep, err := collector.Run(ctx, policy, dryRun)
	if !dryRun && ctx.Err() == nil && rep.HeldBy == "" {
		c.ended(rep, err)
	}
	return rep, err
}

// ended publishes a run that was allowed to remove something, and what is gone with it.
func (c *cleaner) ended(rep gc.Report, err error) {
	n := rep.Removed
	for _, i := range rep.Images {
		c.events.Publish(event.Event{Kind: event.Gone, Repository: i.Repository, Tag: i.Tag, Digest: i.Digest,
			Why: event.Why{Reason: i.Reason, Age: time.Time(rep.StartedAt).Sub(time.Time(i.LastAccess))}})
	}
	c.events.Publish(event.Event{Kind: event.Run, Result: event.Result{
		Failed: err != nil, Tags: n.Tags, Manifests: n.Manifests, Blobs: n.Blobs, Uploads: n.Uploads,
		Skipped: rep.Skipped, Freed: rep.FreedBytes, Took: time.Duration(rep.DurationMS) * time.Millisecond,
	}})
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
	if err := s.content.Flush(ctx); err != nil { // a run sees what has its name
		return gc.Report{}, cause(ctx, err)
	}
	rep, err := s.cleaner.run(ctx, policy, dryRun)
	return rep, cause(ctx, err)
}
