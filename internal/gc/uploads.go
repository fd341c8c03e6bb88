package gc

import (
	"errors"
	"fmt"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// An unfinished upload is removed once nothing was written to it for the grace. Before that, it keeps the layer links
// of its repository that may be part of the same push: the client pushes the manifest, which refers to them, last.

// pushes says which layer links may be part of a push under way.
type pushes struct {
	cutoff time.Time            // an upload last written before is abandoned; by the wall clock, as files are dated
	lease  time.Duration        // after a use
	oldest map[string]time.Time // repository -> when its oldest upload under way began
}

func newPushes(p index.Policy) pushes {
	return pushes{cutoff: time.Now().Add(-p.Grace), lease: p.Grace + p.Resolution, oldest: map[string]time.Time{}}
}

// waitsForUpload says whether a layer link may be part of a push under way: an upload into its repository began while
// the link was in lease, and is still being written to.
func (p pushes) waitsForUpload(r index.Row) bool {
	oldest, ok := p.oldest[r.Key.Repository]
	return ok && !oldest.After(r.AccessedAt.Add(p.lease))
}

// planUploads finds the uploads to which nothing was written for the grace.
func (x *planner) planUploads() (err error) {
	x.plan.Uploads, err = x.unfinished.Abandoned(x.ctx, x.plan.pushes.cutoff)
	return err
}

// findUploads looks once at what is being uploaded into a repository. An upload that begins after the plan cannot be
// part of a push whose links are old enough to be removed.
func (x *planner) findUploads(repo string) error {
	if x.asked[repo] {
		return nil
	}
	x.asked[repo] = true
	oldest, err := x.unfinished.Oldest(x.ctx, repo, x.plan.pushes.cutoff)
	if !oldest.IsZero() {
		x.plan.pushes.oldest[repo] = oldest
	}
	return err
}

func (x *execution) removeUploads() error {
	var errs []error
	for _, u := range x.plan.Uploads {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		removed, err := x.files.RemoveUpload(u, x.plan.pushes.cutoff)
		if err != nil {
			errs = append(errs, fmt.Errorf("remove upload %s of %s: %w", u.ID, u.Repository, err))
		}
		if removed {
			x.result.Removed.Uploads++
		}
		x.step()
	}
	return errors.Join(append(errs, x.files.Empty())...)
}
