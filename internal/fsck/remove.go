package fsck

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// quarantine moves a blob with wrong bytes out of the tree. It reads the blob once more, and moves only the file that
// it read.
func (r *repairer) quarantine(k layout.Key) error {
	right, read, err := tree.Verify(r.ctx, r.dir, k.Digest, func(int) {})
	if right || tree.Missing(err) {
		return errNoLongerBroken
	}
	if err != nil {
		return err
	}
	if err := r.tree.MkdirAll(r.dir.Quarantine()); err != nil {
		return err
	}
	file := r.dir.File(k.Path())
	to := filepath.Join(r.dir.Quarantine(), strings.ReplaceAll(k.Digest.String(), ":", "-"))
	err = r.index.Adopt(r.ctx, func() (index.Adoption, bool, error) {
		if now, err := disk.VersionOf(file); err != nil || now != read {
			return missing(k), false, errNoLongerBroken
		}
		return missing(k), false, r.tree.Rename(file, to)
	})
	return errors.Join(err, r.settle(filepath.Dir(file)), disk.SyncDir(r.dir.Quarantine()))
}

// missing is what the index adopts for an object whose file is gone.
func missing(k layout.Key) index.Adoption { return index.Adoption{Claim: index.Claim{Key: k}} }

// settle makes a removal from dir durable, and removes directories that it left empty.
func (r *repairer) settle(dir string) error {
	err := disk.SyncDir(dir)
	r.tree.Prune(dir, string(r.dir))
	return err
}

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
	link := r.dir.File(k.Path())
	err := r.index.DeleteManifest(r.ctx, k.Repository, k.Digest, func(tags []string) error {
		if err := r.stillBroken(broken); err != nil {
			return err
		}
		if usable, err := r.files.usable(k, map[digest.Digest]bool{}); k != broken && (err != nil || usable) {
			return cmp.Or(err, errNoLongerBroken)
		}
		for _, tag := range tags {
			if _, err := r.tree.Trash(r.tagDir(k.Repository, tag)); err != nil {
				return err
			}
		}
		return removeIfExists(link)
	})
	return errors.Join(err, r.settle(filepath.Dir(link)))
}

func (r *repairer) tagDir(repo, tag string) string {
	return r.dir.File(layout.Path{Kind: layout.TagDir, Repository: repo, Tag: tag})
}

// removePart removes the link of a manifest that an image index still names. Its row becomes a claim without a file,
// which is taken back, so that it keeps nothing; its tags lead to nowhere.
func (r *repairer) removePart(k, broken layout.Key) error {
	link := r.dir.File(k.Path())
	err := r.index.Adopt(r.ctx, func() (index.Adoption, bool, error) {
		if err := r.stillBroken(broken); err != nil {
			return missing(k), false, err
		}
		return missing(k), false, removeIfExists(link)
	})
	if err == nil {
		err = r.index.Unclaim(r.ctx, k)
	}
	return errors.Join(err, r.settle(filepath.Dir(link)))
}

func removeIfExists(path string) error {
	if err := os.Remove(path); !tree.Missing(err) {
		return err
	}
	return nil
}

func (r *repairer) removeTag(k layout.Key) error {
	dir := r.tagDir(k.Repository, k.Tag)
	err := r.index.DeleteTag(r.ctx, k.Repository, k.Tag, func() error {
		if err := r.stillBroken(k); err != nil {
			return err
		}
		_, err := r.tree.Trash(dir)
		return err
	})
	return errors.Join(err, r.settle(filepath.Dir(dir)))
}

func (r *repairer) removeLink(k layout.Key) error {
	link := r.dir.File(k.Path())
	err := r.index.DeleteLayer(r.ctx, k.Repository, k.Digest, func() error {
		if err := r.stillBroken(k); err != nil {
			return err
		}
		return removeIfExists(link)
	})
	return errors.Join(err, r.settle(filepath.Dir(link)))
}

// writeLink writes a link again with the digest of its name, and records it.
func (r *repairer) writeLink(k layout.Key) error {
	staged, err := r.tree.Stage([]byte(k.Digest))
	if err != nil {
		return err
	}
	defer os.Remove(staged) // it has moved if it was placed
	link := r.dir.File(k.Path())
	err = r.index.Adopt(r.ctx, func() (index.Adoption, bool, error) {
		if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
			return missing(k), false, errNoLongerBroken
		}
		if err := r.tree.Rename(staged, link); err != nil {
			return missing(k), false, err
		}
		return tree.Look(r.dir, k, tree.Now)()
	})
	return errors.Join(err, disk.SyncDir(filepath.Dir(link)))
}
