package gc

import (
	"errors"
	"fmt"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// An unfinished upload is removed once nothing was written to it for the grace. Before that, it keeps the layer links
// of its repository that may be part of the same push: the client pushes the manifest, which refers to them, last.

// uploads finds those to which nothing was written for the grace.
func (x *planner) uploads() (err error) {
	x.plan.Uploads, err = x.unfinished.Abandoned(x.ctx, x.plan.uploadCutoff)
	return err
}

// findUploads looks once at what is being uploaded into a repository. An upload that begins after the plan cannot be
// part of a push whose links are old enough to be removed.
func (x *planner) findUploads(repo string) error {
	if x.asked[repo] {
		return nil
	}
	x.asked[repo] = true
	oldest, err := x.unfinished.Oldest(x.ctx, repo, x.plan.uploadCutoff)
	if !oldest.IsZero() {
		x.plan.uploading[repo] = oldest
	}
	return err
}

// waitsForUpload says whether a layer link may be part of a push under way: an upload into its repository began while
// the link was in lease, and is still being written to.
func (p *Plan) waitsForUpload(r index.Row) bool {
	oldest, ok := p.uploading[r.Key.Repository]
	return ok && !oldest.After(r.AccessedAt.Add(p.lease))
}

func (x *execution) removeUploads() error {
	var errs []error
	for _, u := range x.plan.Uploads {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		removed, err := x.files.RemoveUpload(u, x.plan.uploadCutoff)
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
