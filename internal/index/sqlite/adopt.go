package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Adopt implements index.Store.
func (s *Store) Adopt(ctx context.Context, looks ...index.Look) error {
	return s.begin(ctx, func(t *tx) error {
		used := tagged{}
		for _, look := range looks {
			a, exists, err := look()
			if errors.Is(err, index.ErrSkip) {
				continue
			}
			if err != nil {
				return err
			}
			if err := t.adopt(a, exists, used); err != nil {
				return fmt.Errorf("adopt %s: %w", a.Key, err)
			}
		}
		return t.spreadAll(used)
	})
}

// tagged are the manifests of which tags were adopted, whose last uses what lives with them does not have yet:
// thousands of tags may point to one, each used later than the one before, and each use of a manifest is written to all
// its tags.
type tagged map[layout.Key]use

// use is a last use of a manifest.
type use struct {
	of raisedManifest
	at int64
}

// spreadAll gives the last uses of manifests to what lives with them.
func (t *tx) spreadAll(used tagged) error {
	for k, u := range used {
		if err := t.spread(k.Repository, u.of, u.at); err != nil {
			return fmt.Errorf("adopt the tags of %s: %w", k, err)
		}
	}
	clear(used)
	return nil
}

// adopt records what was found, or not. Only a new tag, or one that has not moved, can do without the last uses that
// were not spread yet: any other row may be among those that they raise.
func (t *tx) adopt(a index.Adoption, exists bool, used tagged) error {
	known, err := t.row(a.Key)
	if err != nil {
		return err
	}
	if len(used) > 0 && (a.Key.Kind != layout.Tag || known != nil && (!exists || known.Digest != a.Digest)) {
		if err := t.spreadAll(used); err != nil {
			return err
		}
		if known, err = t.row(a.Key); err != nil {
			return err
		}
	}
	if !exists {
		return t.missing(a, known)
	}
	if a.Key.Kind == layout.Blob && a.Bytes != index.Right {
		switch {
		case a.Bytes == index.Damaged:
			return t.damaged(a.Claim, known)
		case known != nil && known.Size > 0 && known.Size != a.Size:
			return t.missing(a, known)
		}
	}
	at := t.now
	if !a.At.IsZero() {
		at = min(at, a.At.UnixMilli())
	}
	if known != nil {
		at = known.AccessedAt.UnixMilli() // what is known is not used by being found
	}
	if a.Key.Kind == layout.Tag {
		if known != nil && known.Digest == a.Digest {
			return t.setHistory(a.Key, a.Disk)
		}
		m, at, err := t.putTag(a.Key.Repository, a.Key.Tag, a.Digest, at)
		err = errors.Join(err, t.setHistory(a.Key, a.Disk))
		k := layout.ManifestKey(a.Key.Repository, a.Digest)
		used[k] = use{m, max(used[k].at, at)}
		return err
	}
	if known != nil && known.Placed && known.Size == a.Size && known.Disk == a.Disk && a.Key.Kind != layout.Manifest {
		return nil
	}
	return t.put(a.Claim, true, at)
}

// damaged records a blob whose bytes are wrong: a claim, until a client pushes it again.
func (t *tx) damaged(c index.Claim, known *index.Row) error {
	if known == nil {
		return t.putBlob(c, false, t.now)
	}
	return t.exec("UPDATE blobs SET placed = 0, size = ?, disk = ? WHERE digest = ?", c.Size, c.Disk,
		packed(c.Key.Digest))
}

// setHistory records what the history of a tag takes beyond one entry.
func (t *tx) setHistory(k layout.Key, bytes int64) error {
	return t.exec("UPDATE tags SET history = ?1 WHERE repo = ?2 AND name = ?3 AND history <> ?1", bytes,
		repository(k.Repository), k.Tag)
}

// missing records that the file of a row does not exist, or is not what it should be.
func (t *tx) missing(a index.Adoption, known *index.Row) error {
	k := a.Key
	switch {
	case known == nil:
		return nil
	case k.Kind == layout.Tag:
		return errors.Join(t.rememberRow(*known, index.ReasonMissing), t.drop(*known))
	case k.Kind == layout.Blob:
		return t.exec("UPDATE blobs SET placed = 0, disk = ? WHERE digest = ?", a.Disk, packed(k.Digest))
	case k.Kind == layout.Manifest:
		if err := t.rememberUntagged(*known); err != nil {
			return err
		}
	}
	table, cond, args := where(k)
	return t.exec("UPDATE "+table+" SET placed = 0 WHERE placed = 1 AND "+cond, args...)
}
