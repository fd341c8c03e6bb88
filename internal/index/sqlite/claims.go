package sqlite

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Claim implements index.Store.
func (s *Store) Claim(ctx context.Context, cs ...index.Claim) error {
	return s.begin(ctx, func(t *tx) error {
		for _, c := range cs {
			if err := t.put(c, false, t.now); err != nil {
				return err
			}
			if len(c.Naming) > 0 {
				if err := t.set("naming", c.Naming); err != nil {
					return err
				}
			}
			if c.Key.Kind == layout.Manifest || c.UploadStarted.IsZero() {
				continue
			}
			grace, resolution, err := s.owed(t.querier)
			if err != nil {
				return err
			}
			if err := t.renewPush(c, grace+resolution, resolution); err != nil {
				return err
			}
		}
		return nil
	})
}

// longestPush is for how many leases a push may go on, by its uploads, before its first links are given up.
const longestPush = 12

// renewal is that of the links of a repository at the end of an upload.
type renewal struct {
	at   int64 // no link in lease is older than this
	from int64 // in lease were the links that were last used since then
}

// renewPush renews the links of the repository that were in lease when the upload began: they may be the other layers
// of one push, whose manifest comes last. A link that a manifest refers to may lose it before that.
//
// Renewing does not count as use. A referenced link is renewed once per use; an unreferenced one for at most
// longestPush leases. Otherwise steady uploads would keep every layer that a busy repository ever had.
//
// An upload that ends within a resolution of a renewal finds those links young enough. It renews only what was in
// lease when it began itself and not when the other did. Otherwise each upload of a push of thousands of layers would
// renew all of them.
func (t *tx) renewPush(c index.Claim, lease, resolution time.Duration) error {
	from, before := c.UploadStarted.UnixMilli()-lease.Milliseconds(), int64(math.MaxInt64)
	last, known := t.c.renewed[c.Key.Repository]
	if known && last.at > t.now-resolution.Milliseconds() {
		before = last.from
	} else {
		last.at = t.now
	}
	if from >= before {
		return nil
	}
	last.from = from
	if len(t.c.renewed) >= maxRenewed {
		clear(t.c.renewed)
	}
	t.c.renewed[c.Key.Repository] = last
	return t.exec(`UPDATE layers SET accessed_at = max(accessed_at, ?1), own_at = coalesce(own_at, accessed_at)
		WHERE repo = ?2 AND accessed_at >= ?3 AND accessed_at < ?5
			AND CASE referenced WHEN 0 THEN coalesce(own_at, accessed_at) >= ?4 ELSE own_at IS NULL END`,
		t.now, repository(c.Key.Repository), from, c.UploadStarted.UnixMilli()-longestPush*lease.Milliseconds(), before)
}

// Unclaim implements index.Store.
func (s *Store) Unclaim(ctx context.Context, ks ...layout.Key) error {
	return s.begin(ctx, func(t *tx) error {
		for _, k := range ks {
			r, err := t.row(k)
			if err == nil && r != nil && !r.Placed {
				err = t.drop(*r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// put writes the row of a blob, a link or a manifest, with everything that follows from it. at is its last use.
func (t *tx) put(c index.Claim, placed bool, at int64) error {
	if c.WithBlob && c.Key.Kind != layout.Blob { // first: the row that refers to it brings the blob's row up to date
		if err := t.putBlob(index.Claim{Key: layout.BlobKey(c.Key.Digest), Size: c.Size}, placed, at); err != nil {
			return err
		}
	}
	switch c.Key.Kind {
	case layout.Blob:
		return t.putBlob(c, placed, at)
	case layout.Layer:
		return t.putLayer(c, placed, at)
	case layout.Manifest:
		return t.putManifest(c, placed, at)
	}
	return fmt.Errorf("%s cannot be claimed", c.Key)
}

// The statements that write a blob or a link also say whether something refers to it: a rebuild of the index writes
// each row once.
var (
	putBlob = `INSERT INTO blobs (digest, size, placed, referenced, created_at, accessed_at, disk)
		VALUES (?1, ?2, ?3, ` + blobReferenced("?1") + `, ?4, ?4, ?5)
		ON CONFLICT (digest) DO UPDATE SET accessed_at = max(accessed_at,
			excluded.accessed_at), referenced = excluded.referenced,
			placed = max(placed, excluded.placed), size = CASE WHEN excluded.placed THEN excluded.size ELSE size END,
			disk = CASE excluded.disk WHEN 0 THEN disk ELSE excluded.disk END`

	putLayer = `INSERT INTO layers (digest, repo, placed, referenced, created_at, accessed_at)
		VALUES (?1, ?2, ?3, ` + layerReferenced("?1", "?2") + `, ?4, ?4)
		ON CONFLICT (digest, repo) DO UPDATE SET accessed_at = max(accessed_at, excluded.accessed_at),
			referenced = excluded.referenced, placed = max(placed, excluded.placed), own_at = NULL`
)

// putBlob writes the row of a blob. A row that exists gets no older.
func (t *tx) putBlob(c index.Claim, placed bool, at int64) error {
	return t.exec(putBlob, packed(c.Key.Digest), c.Size, placed, at, c.Disk)
}

// putLayer writes the row of a layer link, and that its blob has an owner.
func (t *tx) putLayer(c index.Claim, placed bool, at int64) error {
	if err := t.enter(c.Key.Repository); err != nil {
		return err
	}
	if err := t.exec(putLayer, packed(c.Key.Digest), repository(c.Key.Repository), placed, at); err != nil {
		return err
	}
	return t.noteBlob(c.Key.Digest)
}
