package gc

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Report is what a run did, or in a dry run what it would have done, as `dcs gc --format json` prints it.
type Report struct {
	DryRun     bool          `json:"dry_run"`
	StartedAt  stamp.Time    `json:"started_at"`
	DurationMS int64         `json:"duration_ms"`
	Cutoff     stamp.Time    `json:"cutoff"` // of names; null: never
	Removed    Counts        `json:"removed"`
	FreedBytes int64         `json:"freed_bytes"`
	Remaining  index.Totals  `json:"remaining"`
	Images     []ReportImage `json:"images"`
}

// ReportImage is an image in a Report.
type ReportImage struct {
	Repository  string        `json:"repository"`
	Tag         string        `json:"tag"`
	Digest      digest.Digest `json:"digest"`
	LastAccess  stamp.Time    `json:"last_access"`
	Reason      string        `json:"reason"`
	UniqueBytes int64         `json:"unique_bytes"`
}

// Run does one expiry run under a policy; a dry run changes nothing. An error comes with the report of
// what was done before it. index.ErrGateClosed: nothing can go until the index is rebuilt.
func (c *Collector) Run(ctx context.Context, policy index.Policy, dryRun bool) (Report, error) {
	start := time.Now()
	rep := Report{DryRun: dryRun, StartedAt: stamp.Time(c.Index.Now()), Images: []ReportImage{}}
	plan, err := c.NewPlan(ctx, policy)
	if err != nil {
		return rep, err
	}
	rep.Cutoff = stamp.Time(plan.Cutoffs.Names)
	result := plan.Result()
	if !dryRun {
		result, err = c.Execute(ctx, plan)
	}
	rep.Removed, rep.FreedBytes = result.Removed, result.FreedBytes
	for _, i := range result.Images {
		rep.Images = append(rep.Images, ReportImage{i.Repository, i.Tag, i.Digest, stamp.Time(i.LastAccess), i.Reason, i.UniqueBytes})
	}
	verr := c.Index.View(context.WithoutCancel(ctx), func(r index.Reader) (err error) {
		rep.Remaining, err = r.Totals()
		return err
	})
	if dryRun {
		rep.Remaining.Tags -= rep.Removed.Tags
		rep.Remaining.Manifests -= rep.Removed.Manifests
		rep.Remaining.Blobs -= rep.Removed.Blobs
		rep.Remaining.Bytes -= rep.FreedBytes
	}
	rep.DurationMS = time.Since(start).Milliseconds()
	return rep, errors.Join(err, verr)
}

// Sweeper runs a Collector every now and then.
type Sweeper struct {
	*Collector
	Policy   index.Policy
	Interval time.Duration // > 0
	// OnRun is called after each run that was not held up by a rebuild. Nil: nobody wants to know.
	OnRun func(Report, error)
}

// Sweep runs until ctx ends.
func (s *Sweeper) Sweep(ctx context.Context) {
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.once(ctx)
		}
	}
}

func (s *Sweeper) once(ctx context.Context) {
	rep, err := s.Run(ctx, s.Policy, false)
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, index.ErrGateClosed):
		s.Log.Info("expiry waits until the index is rebuilt from disk")
		return
	case err != nil:
		s.Log.WithError(err).Error("expiry run failed; the next one goes on")
	case rep.Removed.Any():
		s.Log.WithFields(logrus.Fields{"tags": rep.Removed.Tags, "manifests": rep.Removed.Manifests, "blobs": rep.Removed.Blobs,
			"uploads": rep.Removed.Uploads, "bytes": rep.FreedBytes, "took": (time.Duration(rep.DurationMS) * time.Millisecond).String()}).Info("expired unused images")
	}
	if s.OnRun != nil {
		s.OnRun(rep, err)
	}
}
