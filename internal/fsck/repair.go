package fsck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Outcome is one problem of the store, and what a repair did about it.
type Outcome struct {
	Problem Flaw   `json:"problem"`
	Object  string `json:"object"`
	Detail  string `json:"detail"`
	Action  string `json:"action"`
	Mended  bool   `json:"mended"`
}

// What a repair does.
const (
	quarantined  = "moved to .metadata/quarantine"
	imageRemoved = "removed the image, which cannot be pulled"
	partMissing  = "left alone: a part of it can be pulled, and a push brings the rest back"
	linkRemoved  = "removed the link"
	linkWritten  = "wrote the link again"
	tagRemoved   = "removed the tag"
	rowUpdated   = "brought the index in line"
	leftAlone    = "left alone: look at it yourself"
	healed       = "it was removed or mended in the meantime"
)

// errNoLongerBroken says that an object was removed, or mended, since the check.
var errNoLongerBroken = errors.New(healed)

// maxRounds bounds how often a store is checked: for wrong bytes, for the images that need them, for the links that
// nothing needs any more, and to see that nothing is left. The others are for manifests that name each other.
const maxRounds = 8

// stages is the order in which a round mends: what refers to an object comes before it.
var stages = []Flaw{WrongDigest, Stale, Orphan, Missing, Unparsable, Nowhere, Dangling}

// RepairOptions say how to repair.
type RepairOptions struct {
	// DryRun has the outcomes that a first round would have, and changes nothing.
	DryRun bool
	// OnSeen is called, often, with the number of objects looked at and of bytes read. Nil: nothing is called.
	OnSeen func(objects, bytes int64)
}

// Repair checks the store, reading every blob, and mends what it can: blobs with wrong bytes are moved to the
// quarantine, images that cannot be pulled, tags and links to nothing are removed, and the index is brought in line.
// Removing one object may leave another one broken, so it checks again until nothing is left to mend. An error comes
// with the outcomes before it.
func Repair(ctx context.Context, st *store.Store, o RepairOptions) ([]Outcome, error) {
	r := repairer{ctx: ctx, dir: st.Dir, tree: st.Tree, index: st.Index, files: lookAt(ctx, st.Dir)}
	var done []Outcome
	reported := map[Outcome]bool{} // those that an earlier round left alone
	for round := range maxRounds {
		problems, _, err := Check(ctx, st, CheckOptions{Deep: round == 0, OnSeen: o.OnSeen})
		if err != nil {
			return done, err
		}
		slices.SortStableFunc(problems, func(a, b Problem) int {
			return cmp.Compare(slices.Index(stages, a.Flaw), slices.Index(stages, b.Flaw))
		})
		mended := false
		for _, p := range problems {
			outcome, err := r.mend(p, o.DryRun)
			if err != nil {
				return done, fmt.Errorf("repair %s %s: %w", p.Flaw, p.Object(), err)
			}
			mended = mended || outcome.Mended
			if outcome.Mended || !reported[outcome] {
				done = append(done, outcome)
			}
			reported[outcome] = !outcome.Mended
		}
		if !mended || o.DryRun {
			break
		}
	}
	return done, nil
}

// repairer mends one store.
type repairer struct {
	ctx   context.Context
	dir   tree.Dir
	tree  *tree.Tree
	index index.Store
	files files
}

// mend does what can be done about one problem.
func (r *repairer) mend(p Problem, dryRun bool) (Outcome, error) {
	action, do := r.cure(p)
	o := Outcome{Problem: p.Flaw, Object: p.Object(), Detail: p.Detail, Action: action, Mended: do != nil}
	if do == nil || dryRun {
		return o, nil
	}
	err := do(p.Key)
	var referenced *index.ReferencedError
	var pinned *index.PinnedError
	switch {
	case errors.Is(err, errNoLongerBroken):
		o.Action, err = healed, nil
	case errors.As(err, &referenced), errors.As(err, &pinned), tree.OfOnePath(err): // the next may be mended
		o.Action, o.Mended, err = "left alone: "+err.Error(), false, nil
	}
	return o, err
}

// cure says what can be done about a problem, and what does it. Nil: nothing can.
func (r *repairer) cure(p Problem) (action string, do func(layout.Key) error) {
	switch p.Flaw {
	case WrongDigest:
		return quarantined, r.quarantine
	case Missing, Unparsable:
		return imageRemoved, r.removeImage
	case Nowhere:
		return tagRemoved, r.removeTag
	case Dangling:
		return r.cureLink(p.Key)
	case Stale, Orphan:
		return rowUpdated, r.updateRow
	case Partial:
		return partMissing, nil
	}
	return leftAlone, nil
}

// cureLink writes a link again that holds another digest than its name, since the name says what it has to hold. A link
// without its blob is removed, with what it makes part of its repository.
func (r *repairer) cureLink(k layout.Key) (action string, do func(layout.Key) error) {
	exists, err := r.dir.Has(layout.BlobKey(k.Digest))
	switch {
	case exists || err != nil:
		return linkWritten, r.writeLink
	case k.Kind == layout.Manifest:
		return imageRemoved, r.removeImage
	}
	return linkRemoved, r.removeLink
}

// stillBroken looks again at an object, inside of the transaction that removes it. errNoLongerBroken: it stays.
func (r *repairer) stillBroken(k layout.Key) error {
	broken, err := r.files.broken(k)
	if err == nil && !broken {
		return errNoLongerBroken
	}
	return err
}

// updateRow brings one row in line with the disk.
func (r *repairer) updateRow(k layout.Key) error {
	look := adopt.Look(r.dir, k, adopt.Now)
	if k.Kind == layout.Blob {
		row, err := r.row(k)
		if err == nil && row != nil {
			look, err = r.files.blobs.LookAtBlob(r.ctx, k.Digest, row.Size, adopt.Now)
		}
		if err != nil {
			return err
		}
	}
	return r.index.Adopt(r.ctx, look)
}

func (r *repairer) row(k layout.Key) (row *index.Row, err error) {
	err = r.index.View(r.ctx, func(ix index.Reader) (err error) {
		row, err = ix.Row(k)
		return err
	})
	return row, err
}
