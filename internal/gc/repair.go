package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Repair is one problem of the store, and what was done about it.
type Repair struct {
	Problem reconcile.Flaw `json:"problem"`
	Object  string         `json:"object"`
	Detail  string         `json:"detail"`
	Action  string         `json:"action"`
	Mended  bool           `json:"mended"`
}

// What a repair does.
const (
	quarantines = "moved to .metadata/quarantine"
	drops       = "dropped the image, which cannot be pulled"
	keeps       = "left alone: a part of it can be pulled, and a push brings the rest back"
	unlinks     = "removed the link"
	rewrites    = "wrote the link again"
	untags      = "removed the tag"
	indexes     = "brought the index in line"
	leaves      = "left alone: look at it yourself"
	heals       = "gone or well again meanwhile"
)

// rounds bounds how often a store is checked: wrong bytes, then the images that need them, then the
// links that nothing needs any more, and one to see that nothing is left. More are for circles and luck.
const rounds = 8

// stages is the order in which a round mends: what needs a thing goes before it.
var stages = []reconcile.Flaw{reconcile.WrongDigest, reconcile.Stale, reconcile.Orphan, reconcile.Missing, reconcile.Unparsable, reconcile.Nowhere, reconcile.Dangling}

// errWell says that what was to be removed is gone, or no longer broken.
var errWell = errors.New(heals)

// Unmended counts the problems that a repair left.
func (r Report) Unmended() (n int) {
	for _, repair := range r.Repairs {
		if !repair.Mended {
			n++
		}
	}
	return n
}

// Repair mends what can be mended: blobs with wrong bytes go to quarantine, images that cannot be pulled
// and links to nothing go, and the index is brought in line. Every removal looks again inside its
// transaction, so what a client repaired by pushing it again stays. A dry run says what the first round
// would do.
func (c *Collector) Repair(ctx context.Context, dryRun bool) (done []Repair, err error) {
	left := map[Repair]bool{} // reported already
	for n := range rounds {
		problems, _, err := reconcile.Check(ctx, reconcile.CheckOptions{Dir: c.Dir, Index: c.Index, Deep: n == 0,
			OnSeen: func(things, bytes int64) { c.tell(Progress{Phase: Checking, Done: things, Bytes: bytes}) }})
		if err != nil {
			return done, err
		}
		slices.SortStableFunc(problems, func(a, b reconcile.Problem) int {
			return cmp.Compare(slices.Index(stages, a.Flaw), slices.Index(stages, b.Flaw))
		})
		mended := false
		for _, p := range problems {
			r, err := c.mend(ctx, p, dryRun)
			if err != nil {
				return done, fmt.Errorf("repair %s %s: %w", p.Flaw, p.Object(), err)
			}
			mended = mended || r.Mended
			if r.Mended || !left[r] {
				done = append(done, r)
			}
			left[r] = !r.Mended
		}
		if !mended || dryRun {
			return done, nil
		}
	}
	return done, nil
}

// mend does what there is to do about one problem.
func (c *Collector) mend(ctx context.Context, p reconcile.Problem, dryRun bool) (Repair, error) {
	r := Repair{Problem: p.Flaw, Object: p.Object(), Detail: p.Detail, Mended: true}
	var do func(context.Context, layout.Key) error
	switch p.Flaw {
	case reconcile.WrongDigest:
		r.Action, do = quarantines, c.quarantine
	case reconcile.Missing, reconcile.Unparsable:
		r.Action, do = drops, c.dropImage
	case reconcile.Nowhere:
		r.Action, do = untags, c.dropTag
	case reconcile.Dangling:
		r.Action, do = c.danglingRepair(p.Key)
	case reconcile.Stale, reconcile.Orphan:
		r.Action, do = indexes, c.index
	case reconcile.Partial:
		r.Action, r.Mended = keeps, false
	default:
		r.Action, r.Mended = leaves, false
	}
	if do == nil || dryRun {
		return r, nil
	}
	err := do(ctx, p.Key)
	var held *index.ReferencedError
	switch {
	case errors.Is(err, errWell):
		r.Action, err = heals, nil
	case errors.As(err, &held), tree.OfOnePath(err): // the next problem may be mended all the same
		r.Action, r.Mended, err = "left alone: "+err.Error(), false, nil
	}
	return r, err
}

// danglingRepair removes a link without its blob. One that says something else than its name is written
// again: its name says what it has to say.
func (c *Collector) danglingRepair(k layout.Key) (string, func(context.Context, layout.Key) error) {
	if there, err := tree.Exists(c.Dir, layout.Path{Kind: layout.BlobData, Digest: k.Digest}); there || err != nil {
		return rewrites, c.rewrite
	}
	if k.Kind == layout.Manifest {
		return drops, c.dropImage
	}
	return unlinks, c.dropLink
}

// quarantine moves a blob out of the tree whose bytes are wrong. It is read once more, and only the
// very file that was read is moved.
func (c *Collector) quarantine(ctx context.Context, k layout.Key) error {
	right, read, err := tree.Verify(ctx, c.Dir, k.Digest, func(int) {})
	if right || tree.Missing(err) {
		return errWell
	}
	if err != nil {
		return err
	}
	if err := c.Tree.MkdirAll(c.Dir.Quarantine()); err != nil {
		return err
	}
	file := c.Dir.File(k.Path())
	to := filepath.Join(c.Dir.Quarantine(), strings.ReplaceAll(k.Digest.String(), ":", "-"))
	err = c.Index.Adopt(ctx, func() (index.Adoption, bool, error) {
		gone := index.Adoption{Claim: index.Claim{Key: k}}
		if now, err := disk.VersionOf(file); err != nil || now != read {
			return gone, false, errWell
		}
		return gone, false, c.Tree.Rename(file, to)
	})
	return errors.Join(err, c.settle(filepath.Dir(file)), disk.SyncDir(c.Dir.Quarantine()))
}

// settle makes a removal from dir durable, and removes what it left empty.
func (c *Collector) settle(dir string) error {
	err := disk.SyncDir(dir)
	c.Tree.Prune(dir, string(c.Dir))
	return err
}

// dropImage removes a manifest that cannot be pulled, with its tags, and before it the indexes that name it and
// nothing else that could be pulled. From those with another part that can be it goes as a part that is not there.
func (c *Collector) dropImage(ctx context.Context, k layout.Key) error {
	return c.dropBecause(ctx, k, k, map[digest.Digest]bool{})
}

func (c *Collector) dropBecause(ctx context.Context, k, cause layout.Key, tried map[digest.Digest]bool) error {
	tried[k.Digest] = true
	for {
		err := c.deleteBroken(ctx, k, cause)
		var held *index.ReferencedError
		if !errors.As(err, &held) || tried[held.By] {
			return err
		}
		usable, err := reconcile.Usable(c.Dir, layout.ManifestKey(k.Repository, held.By))
		if err != nil {
			return err
		}
		if usable {
			return c.unlinkPart(ctx, k, cause)
		}
		if err := c.dropBecause(ctx, layout.ManifestKey(k.Repository, held.By), cause, tried); err != nil {
			return err
		}
	}
}

func (c *Collector) deleteBroken(ctx context.Context, k, cause layout.Key) error {
	link := c.Dir.File(k.Path())
	err := c.Index.DeleteManifest(ctx, k.Repository, k.Digest, func(tags []string) error {
		if err := c.stillBroken(cause); err != nil {
			return err
		}
		if usable, err := reconcile.Usable(c.Dir, k); k != cause && (err != nil || usable) {
			return cmp.Or(err, errWell)
		}
		for _, tag := range tags {
			if _, err := c.Tree.Trash(c.Dir.File(layout.Path{Kind: layout.TagDir, Repository: k.Repository, Tag: tag})); err != nil {
				return err
			}
		}
		return removeIfThere(link)
	})
	return errors.Join(err, c.settle(filepath.Dir(link)))
}

// unlinkPart removes the link of a manifest that an index still names. Its row is a claim then, and is taken back, so
// that it holds nothing any more; its tags lead nowhere.
func (c *Collector) unlinkPart(ctx context.Context, k, cause layout.Key) error {
	link := c.Dir.File(k.Path())
	err := c.Index.Adopt(ctx, func() (index.Adoption, bool, error) {
		gone := index.Adoption{Claim: index.Claim{Key: k}}
		if err := c.stillBroken(cause); err != nil {
			return gone, false, err
		}
		return gone, false, removeIfThere(link)
	})
	if err == nil {
		err = c.Index.Unclaim(ctx, k)
	}
	return errors.Join(err, c.settle(filepath.Dir(link)))
}

func (c *Collector) stillBroken(k layout.Key) error {
	broken, err := reconcile.Broken(c.Dir, k)
	if err == nil && !broken {
		return errWell
	}
	return err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !tree.Missing(err) {
		return err
	}
	return nil
}

func (c *Collector) dropTag(ctx context.Context, k layout.Key) error {
	dir := c.Dir.File(layout.Path{Kind: layout.TagDir, Repository: k.Repository, Tag: k.Tag})
	err := c.Index.DeleteTag(ctx, k.Repository, k.Tag, func() error {
		if err := c.stillBroken(k); err != nil {
			return err
		}
		_, err := c.Tree.Trash(dir)
		return err
	})
	return errors.Join(err, c.settle(filepath.Dir(dir)))
}

func (c *Collector) dropLink(ctx context.Context, k layout.Key) error {
	link := c.Dir.File(k.Path())
	err := c.Index.DeleteLayer(ctx, k.Repository, k.Digest, func() error {
		if err := c.stillBroken(k); err != nil {
			return err
		}
		return removeIfThere(link)
	})
	return errors.Join(err, c.settle(filepath.Dir(link)))
}

// rewrite puts a link back that says what its name says, and records it.
func (c *Collector) rewrite(ctx context.Context, k layout.Key) error {
	staged, err := c.Tree.Stage([]byte(k.Digest))
	if err != nil {
		return err
	}
	defer os.Remove(staged) // gone when it was placed
	link := c.Dir.File(k.Path())
	err = c.Index.Adopt(ctx, func() (index.Adoption, bool, error) {
		if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
			return index.Adoption{Claim: index.Claim{Key: k}}, false, errWell
		}
		if err := c.Tree.Rename(staged, link); err != nil {
			return index.Adoption{Claim: index.Claim{Key: k}}, false, err
		}
		return tree.Look(c.Dir, k, tree.Now)()
	})
	return errors.Join(err, disk.SyncDir(filepath.Dir(link)))
}

// index brings one row in line with the disk.
func (c *Collector) index(ctx context.Context, k layout.Key) error {
	look := tree.Look(c.Dir, k, tree.Now)
	if k.Kind == layout.Blob {
		var row *index.Row
		err := c.Index.View(ctx, func(r index.Reader) (err error) {
			row, err = r.Row(k)
			return err
		})
		if err == nil && row != nil {
			look, err = tree.On(c.Dir).LookAtBlob(ctx, k.Digest, row.Size, tree.Now)
		}
		if err != nil {
			return err
		}
	}
	return c.Index.Adopt(ctx, look)
}
