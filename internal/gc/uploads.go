package gc

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// An unfinished upload is removed once nothing was written to it for the grace. Before that, it keeps the layer links of
// its repository that may be part of the same push: the manifest, which refers to them, comes last.

// uploads finds those to which nothing was written for the grace.
func (x *planner) uploads() error {
	err := x.walk.Repositories(x.ctx, func(repo string) error {
		return x.walk.Uploads(x.ctx, repo, func(u layout.Upload) error {
			over, err := x.gc.Dir.Abandoned(u, x.plan.uploadCutoff)
			if err != nil {
				return x.walk.Pass(repo, err)
			}
			if over {
				x.plan.Uploads = append(x.plan.Uploads, u)
			}
			return nil
		})
	})
	if tree.OfOnePath(err) {
		return nil // it is among those of the walk
	}
	return err
}

// hidden says whether not all uploads of a repository could be looked at.
func (x *planner) hidden(repo string) bool {
	return slices.ContainsFunc(x.walk.Unread(), func(u tree.Unread) bool { return index.Unseen{u.Repositories}.Has(repo) })
}

// findUploads looks once at what is being uploaded into a repository.
func (x *planner) findUploads(repo string) error {
	if x.asked[repo] {
		return nil
	}
	x.asked[repo] = true
	oldest, ok, err := x.oldestUpload(repo)
	if ok {
		x.plan.uploading[repo] = oldest
	}
	return err
}

// oldestUpload is when the first of the uploads under way in a repository began; ok is false if there is none. One that
// begins after the plan cannot be part of a push whose links are old enough to be removed.
func (x *planner) oldestUpload(repo string) (oldest time.Time, ok bool, err error) {
	err = x.walk.Uploads(x.ctx, repo, func(u layout.Upload) error {
		last, err := x.gc.Dir.LastWrite(u)
		if err != nil {
			return x.walk.Pass(repo, err)
		}
		if last.Before(x.plan.uploadCutoff) {
			return nil
		}
		// One that does not say when it began cannot be finished, and is part of no push.
		if began, says, err := x.gc.Dir.UploadBegan(u); err == nil && says && (!ok || began.Before(oldest)) {
			oldest, ok = began, true
		}
		return nil
	})
	return oldest, ok, err
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
		moved, err := x.Tree.RemoveAbandoned(u, x.plan.uploadCutoff)
		if err != nil {
			errs = append(errs, fmt.Errorf("remove upload %s of %s: %w", u.ID, u.Repository, err))
		}
		if moved {
			x.result.Removed.Uploads++
		}
		x.step()
	}
	return errors.Join(append(errs, x.Tree.EmptyTrash())...)
}
