package gc

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/fsck"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Report is what a run did, or in a dry run what it would have done, as `dcs gc --format json` prints it.
type Report struct {
	DryRun     bool           `json:"dry_run"`
	StartedAt  stamp.Time     `json:"started_at"`
	DurationMS int64          `json:"duration_ms"`
	Cutoff     stamp.Time     `json:"cutoff"` // of names; null: never
	Removed    Counts         `json:"removed"`
	FreedBytes int64          `json:"freed_bytes"`
	Remaining  index.Totals   `json:"remaining"`
	Images     []ReportImage  `json:"images"`
	Repairs    []fsck.Outcome `json:"repairs,omitzero"` // nil: none was asked for
	// Compared is why a run without a server compared the index with the disk first. Empty: it did not.
	Compared string `json:"compared,omitempty"`

	// HeldBy is why nothing may be removed yet, one of the Held constants; empty: it may. NothingBefore is when
	// that ends, where it is known.
	HeldBy        string     `json:"held_by,omitempty"`
	NothingBefore stamp.Time `json:"nothing_before,omitzero"`
	// WaitingBytes are used by no image any more, and kept until WaitingUntil at most since their grace is not over.
	WaitingBytes int64      `json:"waiting_bytes,omitempty"`
	WaitingUntil stamp.Time `json:"waiting_until,omitzero"`
	// Resumes is when a run began that never came to its end. Images without a tag may be the rest of it: it had
	// removed their tags.
	Resumes stamp.Time `json:"resumes,omitzero"`

	// Skipped is how many tags, manifests, links and blobs of the plan stayed: a client used them, or something that
	// refers to them, after the plan was made.
	Skipped int64 `json:"-"`
	// Planned is how many images the plan listed, and PlannedBytes what they would have freed. A run that ends
	// early did less.
	Planned      int   `json:"-"`
	PlannedBytes int64 `json:"-"`
	// Policy is the one of the run, and Eviction what it does for the budget.
	Policy   index.Policy `json:"-"`
	Eviction Eviction     `json:"-"`
}

// Why a run may remove nothing but unfinished uploads.
const (
	HeldByScan      = "scan"       // the index is not known to be whole
	HeldByFileDates = "file_dates" // images were adopted with their file dates
)

// Unmended counts the problems that a repair left.
func (r Report) Unmended() (n int) {
	for _, o := range r.Repairs {
		if !o.Mended {
			n++
		}
	}
	return n
}

// ReportImage is an image in a Report.
type ReportImage struct {
	Repository  string        `json:"repository"`
	Tag         string        `json:"tag"`
	Digest      digest.Digest `json:"digest"`
	LastAccess  stamp.Time    `json:"last_access"`
	Reason      string        `json:"reason"`
	Rule        int           `json:"rule,omitempty"` // the number of the rule that decided, from 1; 0: none did
	UniqueBytes int64         `json:"unique_bytes"`
}

// Run does one run under a policy; a dry run changes nothing. An error comes with the report of
// what was done before it. index.ErrGateClosed, *index.HeldError: nothing may be removed yet, and the report says why.
func (c *Collector) Run(ctx context.Context, policy index.Policy, dryRun bool) (Report, error) {
	start, began := time.Now(), c.Began
	if began.IsZero() {
		began = c.Index.Now()
	}
	h := c.history(policy, dryRun, began)
	rep, elsewhere, err := c.collect(ctx, policy, dryRun, h)
	rep.StartedAt = stamp.Time(began)
	rep.noteWhyNot(err)
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
	h.end(ctx, rep, err)
	return rep, errors.Join(err, verr)
}

// noteWhyNot says why nothing may be removed, if that is what an error says.
func (r *Report) noteWhyNot(err error) {
	var held *index.HeldError
	switch {
	case errors.As(err, &held):
		r.HeldBy, r.NothingBefore = HeldByFileDates, stamp.Time(held.Until)
	case errors.Is(err, index.ErrGateClosed):
		r.HeldBy = HeldByScan
	}
}

// isNotYet says whether an error is only that nothing may be removed yet: the gate is closed, or a hold is on.
func isNotYet(err error) bool {
	var held *index.HeldError
	return errors.Is(err, index.ErrGateClosed) || errors.As(err, &held)
}

// collect makes a plan and, unless this is a dry run, executes it. elsewhere are the bytes of blobs whose removal would
// free nothing; 0 unless this is a dry run.
func (c *Collector) collect(ctx context.Context, p index.Policy, dryRun bool, h *history) (rep Report,
	elsewhere int64, err error) {
	rep = Report{DryRun: dryRun, Images: []ReportImage{}, Policy: p}
	c.tell(Progress{Phase: Planning})
	plan, err := c.NewPlan(ctx, p)
	if err != nil {
		return rep, 0, err
	}
	rep.Eviction = plan.Eviction
	rep.Cutoff, rep.Planned = stamp.Time(plan.Cutoffs.Names), len(plan.Images)
	rep.PlannedBytes = plan.Result().FreedBytes
	if slices.ContainsFunc(plan.Images, func(i Image) bool { return i.Tag == "" }) {
		resumes, err := c.Index.UnfinishedRun(ctx)
		if err != nil {
			return rep, 0, err
		}
		rep.Resumes = stamp.Time(resumes)
	}
	held := c.whyNotYet(ctx)
	if held != nil {
		plan = plan.onlyUploads()
	}
	rep.WaitingBytes, rep.WaitingUntil = plan.WaitingBytes, stamp.Time(plan.WaitingUntil)
	result := plan.Result()
	if !dryRun {
		if plan.steps() > 0 {
			h.begin(ctx)
		}
		c.logEviction(plan)
		result, err = c.Execute(ctx, plan)
	}
	rep.Removed, rep.FreedBytes, rep.Skipped = result.Removed, result.FreedBytes, result.skipped
	for _, i := range result.Images {
		rep.Images = append(rep.Images, ReportImage{i.Repository, i.Tag, i.Digest, stamp.Time(i.LastAccess), i.Reason,
			i.Rule + 1, i.UniqueBytes})
	}
	return rep, result.elsewhere, errors.Join(err, plan.failed, held)
}

// whyNotYet says why nothing may be retired now. Nil: it may, until RetireAll says otherwise.
func (c *Collector) whyNotYet(ctx context.Context) error {
	open, err := c.Index.GateOpen(ctx)
	switch {
	case err != nil:
		return err
	case !open:
		return index.ErrGateClosed
	}
	held, err := c.Index.Held(ctx)
	if err == nil && !held.IsZero() {
		err = &index.HeldError{Until: held}
	}
	return err
}

// onlyUploads is a plan that removes unfinished uploads only, for which no index is needed.
func (p *Plan) onlyUploads() *Plan {
	return &Plan{Cutoffs: p.Cutoffs, Uploads: p.Uploads, pushes: p.pushes, failed: p.failed}
}
