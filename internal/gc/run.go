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
	Repairs    []Repair      `json:"repairs,omitzero"` // nil: none was asked for

	// Planned is how many images the plan listed. A run that ends early removed fewer.
	Planned int `json:"-"`
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
	start, began := time.Now(), c.Began
	if began.IsZero() {
		began = c.Index.Now()
	}
	rep := Report{DryRun: dryRun, StartedAt: stamp.Time(began), Images: []ReportImage{}}
	elsewhere, err := c.collect(ctx, policy, &rep)
	verr := c.Index.View(context.WithoutCancel(ctx), func(r index.Reader) (err error) {
		rep.Remaining, err = r.Totals()
		return err
	})
	if dryRun {
		rep.Remaining.Tags -= rep.Removed.Tags
		rep.Remaining.Manifests -= rep.Removed.Manifests
		rep.Remaining.Blobs -= rep.Removed.Blobs
		rep.Remaining.Bytes -= rep.FreedBytes + elsewhere
	}
	rep.DurationMS = time.Since(start).Milliseconds()
	return rep, errors.Join(err, verr)
}

// collect plans, and unless it is a dry run does what was planned.
func (c *Collector) collect(ctx context.Context, policy index.Policy, rep *Report) (elsewhere int64, err error) {
	c.tell(Progress{Phase: Planning})
	plan, err := c.NewPlan(ctx, policy)
	if err != nil {
		return 0, err
	}
	rep.Cutoff, rep.Planned = stamp.Time(plan.Cutoffs.Names), len(plan.Images)
	do := c.Execute
	if rep.DryRun {
		do = c.rehearse
	}
	result, err := do(ctx, plan)
	rep.Removed, rep.FreedBytes = result.Removed, result.FreedBytes
	for _, i := range result.Images {
		rep.Images = append(rep.Images, ReportImage{i.Repository, i.Tag, i.Digest, stamp.Time(i.LastAccess), i.Reason, i.UniqueBytes})
	}
	return result.elsewhere, errors.Join(err, plan.failed)
}

// rehearse says what Execute would do. While the gate is shut that is nothing, but for uploads.
func (c *Collector) rehearse(ctx context.Context, p *Plan) (Result, error) {
	open, err := c.Index.GateOpen(ctx)
	if err == nil && !open {
		return Result{Removed: Counts{Uploads: int64(len(p.Uploads))}}, index.ErrGateClosed
	}
	return p.Result(), err
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
			"uploads": rep.Removed.Uploads, "bytes": rep.FreedBytes, "duration_ms": rep.DurationMS}).Info("expired unused images")
	}
	if s.OnRun != nil {
		s.OnRun(rep, err)
	}
}
