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
		used := map[layout.Key]tagged{}
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
		for k, m := range used {
			if err := t.spread(k.Repository, m.raisedManifest, m.at); err != nil {
				return fmt.Errorf("adopt %s: %w", k, err)
			}
		}
		return nil
	})
}

// tagged is a manifest of which a tag was adopted, and its last use.
type tagged struct {
	raisedManifest
	at int64
}

// adopt records what was found, or not. It notes the manifests whose last use the end of the transaction gives to what
// lives with them: thousands of tags may point to one, each used later than the one before, and each use of a manifest
// is written to all its tags.
func (t *tx) adopt(a index.Adoption, exists bool, used map[layout.Key]tagged) error {
	known, err := t.row(a.Key)
	if err != nil {
		return err
	}
	if !exists {
		return t.missing(a.Key, known)
	}
	if a.Key.Kind == layout.Blob && a.Bytes != index.Right {
		switch {
		case a.Bytes == index.Damaged:
			return t.damaged(a.Claim, known)
		case known != nil && known.Size > 0 && known.Size != a.Size:
			return t.missing(a.Key, known)
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
			return nil
		}
		m, at, err := t.putTag(a.Key.Repository, a.Key.Tag, a.Digest, at)
		k := layout.ManifestKey(a.Key.Repository, a.Digest)
		used[k] = tagged{m, max(used[k].at, at)}
		return err
	}
	if known != nil && known.Placed && known.Size == a.Size && a.Key.Kind != layout.Manifest {
		return nil
	}
	return t.put(a.Claim, true, at)
}

// damaged records a blob whose bytes are wrong: a claim, until a client pushes it again.
func (t *tx) damaged(c index.Claim, known *index.Row) error {
	if known == nil {
		return t.putBlob(c, false, t.now)
	}
	return t.exec("UPDATE blobs SET placed = 0, size = ? WHERE digest = ?", c.Size, packed(c.Key.Digest))
}

// missing records that the file of a row does not exist.
func (t *tx) missing(k layout.Key, known *index.Row) error {
	switch {
	case known == nil:
		return nil
	case k.Kind == layout.Tag:
		return t.drop(*known)
	}
	table, cond, args := where(k)
	return t.exec("UPDATE "+table+" SET placed = 0 WHERE placed = 1 AND "+cond, args...)
}
