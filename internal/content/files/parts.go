package files

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// maxReported is how many missing references a refusal names.
const maxReported = 100

// readParts refuses a manifest if the repository lacks anything that it needs. It reads what may be damaged, and has
// the index adopt what it did not know, since the manifest is going to refer to it.
func (s *Store) readParts(ctx context.Context, repo string, c *manifest.Manifest) error {
	blob := func(d digest.Digest, said int64) (int64, bool, error) { return s.disk.Blob(ctx, d, said) }
	err := s.lookForParts(repo, c, parts{s.pending, blob})
	if err == nil {
		err = s.readChildren(repo, c)
	}
	var missing *content.MissingError
	if errors.As(err, &missing) {
		if err := s.noteDamaged(ctx, repo, c, missing.Digests); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	looks, err := s.looksAtParts(ctx, repo, c, map[layout.Key]bool{})
	if err == nil && len(looks) > 0 {
		err = s.index.Adopt(ctx, looks...)
	}
	return err
}

// readChildren refuses a manifest that refers to another one whose bytes are damaged.
func (s *Store) readChildren(repo string, c *manifest.Manifest) error {
	for _, p := range c.Parts {
		if !p.Manifest {
			continue
		}
		if _, err := s.read(p.Digest, content.AnyLength); tree.Missing(err) || errors.Is(err, content.ErrUnreadable) {
			return &content.MissingError{Digests: []digest.Digest{p.Digest}}
		} else if err != nil {
			return err
		}
	}
	return nil
}

// noteDamaged records which of the missing blobs have a file whose bytes do not have their digest: a client that asks
// for one is told to push it.
func (s *Store) noteDamaged(ctx context.Context, repo string, c *manifest.Manifest, missing []digest.Digest) error {
	var looks []index.Look
	for _, p := range c.Parts {
		if !slices.Contains(missing, p.Digest) {
			continue
		}
		size, whole, err := s.measure(p.Digest, p.Size)
		if err != nil {
			return err
		}
		if whole || size == 0 || p.Size <= 0 {
			continue
		}
		look, err := s.disk.LookAtBlob(ctx, p.Digest, p.Size, adopt.Now)
		if err != nil {
			return err
		}
		looks = append(looks, look)
		s.leases.forget(layout.LayerKey(repo, p.Digest))
	}
	if len(looks) == 0 {
		return nil
	}
	return s.index.Adopt(ctx, looks...)
}

// measure says how long the file of a blob is, and whether it is whole: (*Store).measure by its size alone, adopt.Disk
// by reading what has another size than said. A size of 0 or less is not known.
type measure func(d digest.Digest, said int64) (size int64, whole bool, err error)

// parts says where the parts of a manifest are looked for: in the tree, and among what waits for its name, or for nil
// in the tree alone.
type parts struct {
	pending *pending
	blob    measure
}

// waits says whether a layer of a repository waits, and returns what has its bytes. Nil: its blob has its name.
func (p parts) waits(k layout.Key) (layer bool, bytes *tree.Held) {
	if p.pending == nil || p.pending.layer(k) == nil {
		return false, nil
	}
	return true, p.pending.bytes(k.Digest)
}

// lookForParts refuses a manifest if the repository lacks anything that it needs, or does not have it as what the
// manifest calls it. A part that all its descriptors call foreign is not needed.
func (s *Store) lookForParts(repo string, c *manifest.Manifest, in parts) error {
	var missing []digest.Digest
	for _, p := range c.Parts {
		if p.Foreign || len(missing) >= maxReported {
			continue
		}
		size, there, err := s.findPart(repo, p, in)
		if err != nil {
			return err
		}
		switch {
		case !there:
			missing = append(missing, p.Digest)
		case !p.Fits(size):
			return &content.SizeError{Part: p, Size: size}
		}
	}
	if len(missing) > 0 {
		return &content.MissingError{Digests: missing}
	}
	return nil
}

// findPart looks for the links of one part and for its blob. A link without its blob counts for nothing.
func (s *Store) findPart(repo string, p manifest.Part, in parts) (size int64, there bool, err error) {
	layer, waits := in.waits(layout.LayerKey(repo, p.Digest))
	if !layer {
		if layer, err = s.tree.Has(layout.LayerKey(repo, p.Digest)); err != nil {
			return 0, false, err
		}
	}
	manifest := false
	if p.Manifest || !layer {
		if manifest, err = s.tree.Has(layout.ManifestKey(repo, p.Digest)); err != nil {
			return 0, false, err
		}
	}
	if p.Blob && !layer || p.Manifest && !manifest || !layer && !manifest {
		return 0, false, nil
	}
	if waits != nil {
		return waits.Size, true, nil
	}
	if size, there, err = in.blob(p.Digest, p.Size); there || err != nil || !layer {
		return size, there, err
	}
	to, err := s.readLink(layout.LayerKey(repo, p.Digest))
	if err != nil || to == "" || to == p.Digest {
		return 0, false, err
	}
	if linked, err := s.tree.Has(layout.LayerKey(repo, to)); err != nil || !linked { // see followLink
		return 0, false, err
	}
	return in.blob(to, p.Size)
}

// hasManifest looks for a manifest, with its blob.
func (s *Store) hasManifest(repo string, d digest.Digest) (bool, error) {
	linked, err := s.tree.Has(layout.ManifestKey(repo, d))
	if err != nil || !linked {
		return false, err
	}
	_, whole, err := s.measure(d, manifest.Unsaid)
	return whole, err
}
