package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// file is content beside its place: written and synced.
type file struct {
	staged string
	place  layout.Path
}

func (s *Store) native(f file) string { return s.dir.File(f.place) }

// put brings a link or a manifest to its place. look says what is missing of what it refers to; it runs
// under the write lock, where nobody can remove any of it. A blob that comes along has its place before,
// for good: no power loss leaves a name without its content.
func (s *Store) put(ctx context.Context, c index.Claim, blob *file, link file, look func() error) (err error) {
	dirs := []string{filepath.Dir(s.native(link))}
	if c.Blob {
		dirs = append(dirs, filepath.Dir(s.dir.File(layout.BlobKey(c.Key.Digest).Path())))
	}
	for _, dir := range dirs {
		if err := s.tree.MkdirAll(dir); err != nil {
			return err
		}
	}
	if err := s.meet(ctx, c.Key); err != nil {
		return err
	}
	now := s.index.Now()
	err = s.index.Claim(ctx, c)
	if err == nil && blob != nil {
		err = s.putBlob(ctx, c, *blob)
	}
	if err == nil {
		err = s.index.Place(ctx, c, func() error {
			if err := look(); err != nil {
				return err
			}
			return s.tree.Rename(link.staged, s.native(link))
		})
	}
	if err != nil {
		// A refused manifest pins nothing; the claim of other content just runs out.
		if uerr := s.index.Unclaim(context.WithoutCancel(ctx), c.Key); uerr != nil {
			s.log.WithError(uerr).WithField("object", c.Key.String()).Error("cannot take a claim back")
		}
		for _, dir := range dirs { // what was made for it
			s.prune(dir)
		}
		return err
	}
	s.leases.remember(c.Key, now, state{placed: true, size: c.Size})
	return s.tree.Sync(s.native(link))
}

func (s *Store) putBlob(ctx context.Context, c index.Claim, blob file) error {
	err := s.index.Place(ctx, index.Claim{Key: layout.BlobKey(c.Key.Digest), Size: c.Size}, func() error {
		return s.tree.Rename(blob.staged, s.native(blob))
	})
	if err != nil {
		return err
	}
	return s.tree.Sync(s.native(blob))
}

// stage writes content beside its place. The caller removes the file: it is gone when it was placed.
func (s *Store) stage(content []byte, place layout.Path) (f file, remove func(), err error) {
	staged, err := s.tree.Stage(content)
	return file{staged, place}, func() { _ = os.Remove(staged) }, err
}

// isWhole says whether a blob is in its place as it was just brought. One of another size, which a power
// loss cut short, would stay for ever if it were trusted.
func (s *Store) isWhole(d digest.Digest, size int64) (bool, error) {
	got, there, err := s.stat(d, size)
	if err == nil && !there && got > 0 {
		s.log.WithField("digest", d).Error("a blob on disk has another size than the same content that was just pushed; it is replaced")
	}
	return there, err
}

// stat measures a blob without reading it: one of another size is not whole.
func (s *Store) stat(d digest.Digest, said int64) (size int64, whole bool, err error) {
	path := s.dir.File(layout.BlobKey(d).Path())
	fi, err := os.Stat(path)
	if tree.Missing(err) {
		return 0, false, nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "read blob", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		return 0, false, err
	}
	size = fi.Size()
	return size, size == said || said < 0 && (size > 0 || tree.IsEmpty(d)), nil
}

// errGone says that a blob went which was there a moment before.
var errGone = errors.New("the blob was there, and went")

// putLayer makes a blob a layer of a repository: the synced file of an upload, or the blob that is there.
func (s *Store) putLayer(ctx context.Context, u *upload, d digest.Digest, synced bool) error {
	k := layout.LayerKey(u.repo, d)
	link, remove, err := s.stage([]byte(d), k.Path())
	if err != nil {
		return err
	}
	defer remove()
	var blob *file
	if synced {
		blob = &file{u.path(layout.UploadData), layout.BlobKey(d).Path()}
	} else if err := s.tree.Sync(s.dir.File(layout.BlobKey(d).Path())); err != nil { // somebody may have placed it just now
		return err
	}
	return s.put(ctx, index.Claim{Key: k, Size: u.size, Blob: true, UploadStarted: u.began}, blob, link, func() error {
		whole, err := s.isWhole(d, u.size)
		if err == nil && !whole {
			err = errGone
		}
		return err
	})
}

// Mount makes a layer of one repository a layer of another, and returns its size. content.ErrUnknown, *content.LeaseError.
func (s *Store) Mount(ctx context.Context, repo, from string, d digest.Digest) (int64, error) {
	size, err := s.Blob(ctx, from, d, content.Promise)
	if err != nil {
		return 0, err
	}
	k := layout.LayerKey(repo, d)
	link, remove, err := s.stage([]byte(d), k.Path())
	if err != nil {
		return 0, err
	}
	defer remove()
	if err := s.tree.Sync(s.dir.File(layout.BlobKey(d).Path())); err != nil { // somebody may have placed it just now
		return 0, err
	}
	err = s.put(ctx, index.Claim{Key: k, Size: size}, nil, link, func() error {
		_, there, err := s.stat(d, size)
		if err == nil && !there {
			err = content.ErrUnknown
		}
		return err
	})
	return size, err
}

// holders is how many repositories are asked for a blob that somebody mounts from anywhere.
const holders = 10

// MountFromAny mounts a layer from whichever repository has it. content.ErrUnknown, *content.LeaseError.
func (s *Store) MountFromAny(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	var rows []index.Row
	err := s.index.View(ctx, func(r index.Reader) (err error) {
		rows, err = r.Holders(d, holders)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, r := range rows {
		if r.Key.Kind != layout.Layer {
			continue
		}
		if size, err := s.Mount(ctx, repo, r.Key.Repository, d); !errors.Is(err, content.ErrUnknown) {
			return size, err
		}
	}
	return 0, content.ErrUnknown
}

// PutManifest makes a manifest part of a repository. Everything that it needs must be there as what it names
// it, both before the claim and under the write lock. *content.MissingError, *content.SizeError.
func (s *Store) PutManifest(ctx context.Context, repo string, m content.Manifest) error {
	if err := s.readParts(ctx, repo, m.Manifest); err != nil {
		return err
	}
	k, size := layout.ManifestKey(repo, m.Digest), int64(len(m.Data))
	blob, remove, err := s.stage(m.Data, layout.BlobKey(m.Digest).Path())
	if err != nil {
		return err
	}
	defer remove()
	link, remove, err := s.stage([]byte(m.Digest), k.Path())
	if err != nil {
		return err
	}
	defer remove()
	// Its bytes are in hand, and replace what may be damaged.
	return s.put(ctx, index.Claim{Key: k, Size: size, Blob: true, Content: m.Manifest}, &blob, link, func() error {
		if whole, err := s.isWhole(m.Digest, size); err != nil || !whole {
			return errors.Join(err, errGone)
		}
		return s.lookForParts(repo, m.Manifest, s.stat)
	})
}

// PutTag points a tag at a manifest of its repository. The tag's row, its current link and its index
// entry switch as one; entries of what it pointed to before go. content.ErrUnknown.
func (s *Store) PutTag(ctx context.Context, repo, tag string, to digest.Digest) error {
	k := layout.TagKey(repo, tag)
	current, remove, err := s.stage([]byte(to), k.Path())
	if err != nil {
		return err
	}
	defer remove()
	entry, remove, err := s.stage([]byte(to), layout.Path{Kind: layout.TagIndexLink, Repository: repo, Tag: tag, Digest: to})
	if err != nil {
		return err
	}
	defer remove()
	files := []file{current, entry} // in this order: a kill between the two leaves a tag, not a trace of none that nobody would remove
	for _, f := range files {
		if err := s.tree.MkdirAll(filepath.Dir(s.native(f))); err != nil {
			return err
		}
	}
	if err := s.meet(ctx, k); err != nil {
		return err
	}
	now := s.index.Now()
	err = s.index.MoveTag(ctx, repo, tag, to, func() error {
		if there, err := s.hasManifest(repo, to); err != nil {
			return err
		} else if !there {
			return content.ErrUnknown
		}
		for _, f := range files {
			if err := s.tree.Rename(f.staged, s.native(f)); err != nil {
				return err
			}
		}
		s.dropOtherEntries(entry.place)
		return nil
	})
	if err != nil {
		for _, f := range files {
			s.prune(filepath.Dir(s.native(f)))
		}
		return err
	}
	s.leases.remember(k, now, state{placed: true})
	for _, f := range files {
		if err := s.tree.Sync(s.native(f)); err != nil {
			return err
		}
	}
	return nil
}

// dropOtherEntries removes a tag's index entries but one. Stock registries keep one a push, for ever.
func (s *Store) dropOtherEntries(keep layout.Path) {
	dir := s.dir.File(layout.Path{Kind: layout.TagIndexDir, Repository: keep.Repository, Tag: keep.Tag})
	for _, entry := range entries(dir) {
		if entry != keep.Digest {
			failpoint.Step()
			_ = os.RemoveAll(path.Join(dir, entry.Algorithm().String(), entry.Encoded())) // nothing depends on them; the next move tries again
		}
	}
}

// entries are the digests that have a directory in a tag's index.
func entries(dir string) (all []digest.Digest) {
	algorithms, _ := os.ReadDir(dir)
	for _, alg := range algorithms {
		sums, _ := os.ReadDir(path.Join(dir, alg.Name()))
		for _, sum := range sums {
			all = append(all, digest.NewDigestFromEncoded(digest.Algorithm(alg.Name()), sum.Name()))
		}
	}
	return all
}
