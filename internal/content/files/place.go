package files

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// place claims a layer or a manifest, and gives its staged link a name. look says whether what the link refers to
// exists; it runs under the index's write lock, where no process can remove any of it. A staged blob is placed before
// that, durably: no power loss leaves a link without its blob. A nil blob is in its place already.
func (s *Store) place(ctx context.Context, c index.Claim, blob, link *tree.Staged, look func() error) error {
	if err := s.meet(ctx, c.Key); err != nil {
		return err
	}
	change := s.tree.Begin()
	paths := []layout.Path{c.Key.Path()}
	if blob != nil {
		paths = append(paths, layout.BlobKey(c.Key.Digest).Path())
	}
	if err := change.Prepare(paths...); err != nil {
		change.Abandon()
		return err
	}
	now := s.index.Now()
	if err := s.claimAndPlace(ctx, change, c, blob, link, look); err != nil {
		change.Abandon()
		// A refused manifest holds nothing any more; the claim of a layer would run out by itself.
		if uerr := s.index.Unclaim(context.WithoutCancel(ctx), c.Key); uerr != nil {
			s.log.WithError(uerr).WithField("object", c.Key.String()).Error("cannot take a claim back")
		}
		return err
	}
	s.leases.remember(c.Key, now, state{placed: true, size: c.Size})
	return change.Commit()
}

func (s *Store) claimAndPlace(ctx context.Context, change *tree.Change, c index.Claim, blob, link *tree.Staged,
	look func() error) error {
	if err := s.index.Claim(ctx, c); err != nil {
		return err
	}
	if blob != nil {
		if err := s.placeBlob(ctx, change, c, blob); err != nil {
			return err
		}
	}
	return s.index.Place(ctx, index.Placing{Claim: c, Rename: func() error {
		if err := look(); err != nil {
			return err
		}
		return change.Place(link, c.Key)
	}})[0]
}

// placeBlob gives the blob of a link its name, and makes that durable.
func (s *Store) placeBlob(ctx context.Context, change *tree.Change, of index.Claim, blob *tree.Staged) error {
	c := index.Claim{Key: layout.BlobKey(of.Key.Digest), Size: of.Size}
	placing := index.Placing{Claim: c, Rename: func() error { return change.Place(blob, c.Key) }}
	if err := s.index.Place(ctx, placing)[0]; err != nil {
		return err
	}
	return change.Sync()
}

// hasSize says whether the file of a blob is as long as the same blob that a client just sent. A file that a power loss
// cut short would stay for ever if it were trusted.
func (s *Store) hasSize(d digest.Digest, size int64) (bool, error) {
	got, has, err := s.measure(d, size)
	if err == nil && !has && got > 0 {
		s.log.WithField("digest", d).
			Error("a blob on disk has another size than the same content that was just pushed; it is replaced")
	}
	return has, err
}

// errGone says that a blob was removed while a link to it was made.
var errGone = errors.New("the blob was removed meanwhile")

// pushed is a layer whose bytes a client has sent.
type pushed struct {
	repo   string
	digest digest.Digest
	size   int64
	began  time.Time // when its upload began
}

// linkPushed makes a layer of a blob that is in its place. errGone: it is not any more.
func (s *Store) linkPushed(ctx context.Context, l pushed) error {
	if err := s.tree.Settle(layout.BlobKey(l.digest)); err != nil {
		return err
	}
	return s.placePushed(ctx, l, nil)
}

// placePushed makes a layer of the staged bytes of an upload, or with a nil blob of the blob that is in its place.
func (s *Store) placePushed(ctx context.Context, l pushed, blob *tree.Staged) error {
	link, err := s.tree.Stage([]byte(l.digest))
	if err != nil {
		return err
	}
	defer link.Discard()
	c := index.Claim{Key: layout.LayerKey(l.repo, l.digest), Size: l.size, WithBlob: true, UploadStarted: l.began}
	return s.place(ctx, c, blob, link, func() error {
		whole, err := s.hasSize(l.digest, l.size)
		if err == nil && !whole {
			err = errGone
		}
		return err
	})
}

// Mount makes a layer of one repository a layer of another, and returns its size. content.ErrUnknown,
// *content.LeaseError.
func (s *Store) Mount(ctx context.Context, repo, from string, d digest.Digest) (int64, error) {
	size, err := s.Blob(ctx, from, d, content.Promise)
	if err != nil {
		return 0, err
	}
	return size, failed("mount", layout.LayerKey(repo, d), s.linkMounted(ctx, repo, d, size))
}

// linkMounted makes a layer of a blob that was just promised.
func (s *Store) linkMounted(ctx context.Context, repo string, d digest.Digest, size int64) error {
	if err := s.tree.Settle(layout.BlobKey(d)); err != nil {
		return err
	}
	link, err := s.tree.Stage([]byte(d))
	if err != nil {
		return err
	}
	defer link.Discard()
	c := index.Claim{Key: layout.LayerKey(repo, d), Size: size}
	return s.place(ctx, c, nil, link, func() error {
		_, there, err := s.measure(d, size)
		if err == nil && !there {
			err = content.ErrUnknown
		}
		return err
	})
}

// maxOwners is how many repositories are asked for a blob that a client mounts without naming one.
const maxOwners = 10

// MountFromAny mounts a layer from any repository that has it. content.ErrUnknown, *content.LeaseError.
func (s *Store) MountFromAny(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	var rows []index.Row
	err := s.index.View(ctx, func(r index.Reader) (err error) {
		rows, err = r.Owners(d, maxOwners)
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

// PutManifest makes a manifest part of a repository. Everything that it needs must exist as what it calls it, both
// before the claim and under the write lock. *content.MissingError, *content.SizeError.
func (s *Store) PutManifest(ctx context.Context, repo string, m content.Manifest) error {
	return failed("store", layout.ManifestKey(repo, m.Digest), s.putManifest(ctx, repo, m))
}

func (s *Store) putManifest(ctx context.Context, repo string, m content.Manifest) error {
	if err := s.readParts(ctx, repo, m.Manifest); err != nil {
		return err
	}
	blob, err := s.tree.Stage(m.Data) // even if the blob exists: it may be damaged
	if err != nil {
		return err
	}
	defer blob.Discard()
	link, err := s.tree.Stage([]byte(m.Digest))
	if err != nil {
		return err
	}
	defer link.Discard()
	c := index.Claim{Key: layout.ManifestKey(repo, m.Digest), Size: int64(len(m.Data)), Manifest: m.Manifest,
		WithBlob: true}
	return s.place(ctx, c, blob, link, func() error {
		if whole, err := s.hasSize(m.Digest, c.Size); err != nil || !whole {
			return errors.Join(err, errGone)
		}
		return s.lookForParts(repo, m.Manifest, s.measure)
	})
}

// PutTag points a tag at a manifest of its repository. The tag's row, its link and its history change as one.
// content.ErrUnknown.
func (s *Store) PutTag(ctx context.Context, repo, tag string, to digest.Digest) error {
	k := layout.TagKey(repo, tag)
	return failed("store", k, s.putTag(ctx, k, to))
}

func (s *Store) putTag(ctx context.Context, k layout.Key, to digest.Digest) error {
	link, err := s.tree.Stage([]byte(to))
	if err != nil {
		return err
	}
	defer link.Discard()
	entry, err := s.tree.Stage([]byte(to))
	if err != nil {
		return err
	}
	defer entry.Discard()
	change := s.tree.Begin()
	if err := change.Prepare(k.Path(), tree.TagEntry(k, to)); err != nil {
		change.Abandon()
		return err
	}
	if err := s.meet(ctx, k); err != nil {
		change.Abandon()
		return err
	}
	now := s.index.Now()
	err = s.index.Place(ctx, index.Placing{Claim: index.Claim{Key: k}, To: to, Rename: func() error {
		if there, err := s.hasManifest(k.Repository, to); err != nil {
			return err
		} else if !there {
			return content.ErrUnknown
		}
		return change.PlaceTag(link, entry, k, to)
	}})[0]
	if err != nil {
		change.Abandon()
		return err
	}
	s.leases.remember(k, now, state{placed: true})
	return change.Commit()
}
