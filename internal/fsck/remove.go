package fsck

import (
	"cmp"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// quarantine moves a blob with wrong bytes out of the tree. It reads the blob once more, and moves only the file that
// it read.
func (r *repairer) quarantine(k layout.Key) error {
	right, read, err := r.dir.Verify(r.ctx, k.Digest, func(int) {})
	if right || tree.Missing(err) {
		return errNoLongerBroken
	}
	if err != nil {
		return err
	}
	change := r.tree.Begin()
	err = r.index.Adopt(r.ctx, func() (index.Adoption, bool, error) {
		if now, err := r.dir.Version(k); err != nil || now != read {
			return missing(k), false, errNoLongerBroken
		}
		return missing(k), false, change.Quarantine(k)
	})
	return errors.Join(err, change.Commit())
}

// missing is what the index adopts for an object whose file is gone.
func missing(k layout.Key) index.Adoption { return index.Adoption{Claim: index.Claim{Key: k}} }

// removeImage removes a manifest that cannot be pulled, with its tags, after the image indexes that name it and nothing
// else that can be pulled. An image index with another usable part stays, and misses this part from then on.
func (r *repairer) removeImage(k layout.Key) error {
	return r.removeOwned(k, k, map[digest.Digest]bool{})
}

// removeOwned removes a manifest after its owners, because of a broken one: itself, or one that it names. tried has the
// manifests on the way to it, since two may name each other.
func (r *repairer) removeOwned(k, broken layout.Key, tried map[digest.Digest]bool) error {
	tried[k.Digest] = true
	for {
		err := r.removeManifest(k, broken)
		var referenced *index.ReferencedError
		if !errors.As(err, &referenced) || tried[referenced.By] {
			return err
		}
		owner := layout.ManifestKey(k.Repository, referenced.By)
		usable, err := r.files.usable(owner, map[digest.Digest]bool{})
		if err != nil {
			return err
		}
		if usable {
			return r.removePart(k, broken)
		}
		if err := r.removeOwned(owner, broken, tried); err != nil {
			return err
		}
	}
}

func (r *repairer) removeManifest(k, broken layout.Key) error {
	change := r.tree.Begin()
	err := r.index.DeleteManifest(r.ctx, k.Repository, k.Digest, func(tags []string) error {
		if err := r.stillBroken(broken); err != nil {
			return err
		}
		if usable, err := r.files.usable(k, map[digest.Digest]bool{}); k != broken && (err != nil || usable) {
			return cmp.Or(err, errNoLongerBroken)
		}
		for _, tag := range tags {
			if err := remove(change, layout.TagKey(k.Repository, tag)); err != nil {
				return err
			}
		}
		return remove(change, k)
	})
	return errors.Join(err, change.Commit())
}

// remove removes the file of a key, if there is one.
func remove(change *tree.Change, k layout.Key) error {
	if _, err := change.Remove(k); !tree.Missing(err) {
		return err
	}
	return nil
}

// removePart removes the link of a manifest that an image index still names. Its row becomes a claim without a file,
// which is taken back, so that it keeps nothing; its tags lead to nowhere.
func (r *repairer) removePart(k, broken layout.Key) error {
	change := r.tree.Begin()
	err := r.index.Adopt(r.ctx, func() (index.Adoption, bool, error) {
		if err := r.stillBroken(broken); err != nil {
			return missing(k), false, err
		}
		return missing(k), false, remove(change, k)
	})
	if err == nil {
		err = r.index.Unclaim(r.ctx, k)
	}
	return errors.Join(err, change.Commit())
}

func (r *repairer) removeTag(k layout.Key) error {
	change := r.tree.Begin()
	err := r.index.DeleteTag(r.ctx, k.Repository, k.Tag, func() error {
		if err := r.stillBroken(k); err != nil {
			return err
		}
		return remove(change, k)
	})
	return errors.Join(err, change.Commit())
}

func (r *repairer) removeLink(k layout.Key) error {
	change := r.tree.Begin()
	err := r.index.DeleteLayer(r.ctx, k.Repository, k.Digest, func() error {
		if err := r.stillBroken(k); err != nil {
			return err
		}
		return remove(change, k)
	})
	return errors.Join(err, change.Commit())
}

// writeLink writes a link again with the digest of its name, and records it.
func (r *repairer) writeLink(k layout.Key) error {
	staged, err := r.tree.Stage([]byte(k.Digest))
	if err != nil {
		return err
	}
	defer staged.Discard()
	if err := tree.Sync(staged); err != nil {
		return err
	}
	change := r.tree.Begin()
	err = r.index.Adopt(r.ctx, func() (index.Adoption, bool, error) {
		if exists, err := r.dir.Has(k); err == nil && !exists {
			return missing(k), false, errNoLongerBroken
		}
		if err := change.Place(staged, k); err != nil {
			return missing(k), false, err
		}
		return adopt.Look(r.dir, k, adopt.Now)()
	})
	return errors.Join(err, change.Commit())
}
