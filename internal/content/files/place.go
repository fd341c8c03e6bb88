package files

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// hasBlob says whether the file of a blob is as long as the same blob that a client just sent. A file that a power loss
// cut short would stay for ever if it were trusted.
func (s *Store) hasBlob(d digest.Digest, size int64) (bool, error) {
	got, has, err := s.measure(d, size)
	if err == nil && !has && got > 0 {
		s.log.WithField("digest", d).
			Error("a blob on disk has another size than the same content that was just pushed; it is replaced")
	}
	return has, err
}

// hold has a layer published that waits already.
func (s *Store) hold(ctx context.Context, h *tree.Held, faults int) error {
	e := &entry{held: h, faults: faults, claim: index.Claim{Key: h.Key(), Size: h.Size, WithBlob: !h.Mounted(),
		UploadStarted: h.Began}}
	err := s.meetSymlinks(ctx, h.Key())
	if err == nil && h.Mounted() {
		e.link = h.File
	} else if err == nil {
		e.link, err = s.tree.Stage([]byte(h.Digest))
	}
	if err != nil {
		s.publisher.discard(e)
		s.waiting.Done(h)
		return err
	}
	if s.publisher.linger == 0 {
		e.done = make(chan error, 1)
	}
	return s.publisher.await(ctx, e)
}

// Mount makes a layer of one repository a layer of another, and returns its size. content.ErrUnknown,
// *content.LeaseError.
func (s *Store) Mount(ctx context.Context, repo, from string, d digest.Digest) (int64, error) {
	faults := s.publisher.failures()
	size, err := s.Blob(ctx, from, d, content.Promise)
	if err != nil {
		return 0, err
	}
	return size, describeFailure("mount", layout.LayerKey(repo, d), s.holdLink(ctx, repo, d, size, faults))
}

// holdLink makes a layer of a blob that was promised when so many syncs had failed.
func (s *Store) holdLink(ctx context.Context, repo string, d digest.Digest, size int64, faults int) error {
	h := &tree.Held{Repository: repo, Digest: d, Size: size}
	if err := s.waiting.HoldLink(h); err != nil {
		return err
	}
	return s.hold(ctx, h, faults)
}

// maxOwners is how many repositories are asked for a blob that a client mounts without naming one.
const maxOwners = 10

// MountFromAny mounts a layer from any repository that has it. content.ErrUnknown, *content.LeaseError.
func (s *Store) MountFromAny(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	if h := s.pending.bytes(d); h != nil {
		if size, err := s.Mount(ctx, repo, h.Repository, d); !errors.Is(err, content.ErrUnknown) {
			return size, err
		}
	}
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

// PutManifest makes a manifest part of a repository, and points tags at it. Everything that it needs must exist as what
// it calls it, both before the claim and under the write lock. It is durable then, with all that. A refused manifest
// moves no tag. *content.MissingError, *content.SizeError, *content.FullError.
func (s *Store) PutManifest(ctx context.Context, repo string, m content.Manifest, tags []string) error {
	return describeFailure("store", layout.ManifestKey(repo, m.Digest), s.putManifest(ctx, repo, m, tags))
}

func (s *Store) putManifest(ctx context.Context, repo string, m content.Manifest, tags []string) error {
	faults := s.publisher.failures() // before it trusts any name
	if err := s.readParts(ctx, repo, m.Manifest); err != nil {
		return err
	}
	claim, size := s.room.Claim(), int64(len(m.Data)+len(tags)*tagBytes)
	defer claim.End()
	if err := s.reserve(ctx, &claim, size); err != nil {
		return err
	}
	e := &entry{done: make(chan error, 1), faults: faults, claim: index.Claim{
		Key: layout.ManifestKey(repo, m.Digest), Size: int64(len(m.Data)), Manifest: m.Manifest, WithBlob: true}}
	for _, tag := range tags {
		e.tags = append(e.tags, tagLinks{key: layout.TagKey(repo, tag)})
	}
	err := s.meetSymlinks(ctx, e.keys()...)
	if err == nil {
		err = s.stage(e, m.Data)
	}
	if err != nil {
		s.publisher.discard(e)
		return err
	}
	claim.Wrote(size)
	return s.publisher.await(ctx, e)
}

// tagBytes is what a tag takes on disk: two links, and the directories in which they are alone.
const tagBytes = 32 << 10

// stage writes the files of a manifest: its bytes, even if the blob exists, which may be damaged, and all links.
func (s *Store) stage(e *entry, data []byte) (err error) {
	link := func(file **tree.Staged, data []byte) {
		if err == nil {
			*file, err = s.tree.Stage(data)
		}
	}
	to := []byte(e.claim.Key.Digest)
	link(&e.blob, data)
	link(&e.link, to)
	for i := range e.tags {
		link(&e.tags[i].link, to)
		link(&e.tags[i].entry, to)
	}
	return err
}
