package sqlite

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// What keeps a row: the truth behind its held column, as a condition on its table's columns, or on the
// parameters of a statement that writes it. A manifest's references come and go with its row.
var (
	layerHeld = layerHeldAs("layers.digest", "layers.repo")
	blobHeld  = blobHeldAs("blobs.digest")
)

// A manifest that closed a circle counts as loose unless a tag holds it, so that the circle is looked at.
const manifestHeld = `EXISTS (SELECT 1 FROM tags t WHERE t.repo = manifests.repo AND t.digest = manifests.digest)
	OR manifests.loop = 0 AND (
		EXISTS (SELECT 1 FROM refs f WHERE f.child = manifests.digest AND f.repo = manifests.repo)
		OR manifests.subject IS NOT NULL AND EXISTS (SELECT 1 FROM manifests s WHERE s.digest = manifests.subject AND s.repo = manifests.repo))`

func layerHeldAs(digest, repo string) string {
	return fmt.Sprintf(`EXISTS (SELECT 1 FROM refs f WHERE f.child = %s AND f.repo = %s)`, digest, repo)
}

func blobHeldAs(digest string) string {
	return fmt.Sprintf(`(EXISTS (SELECT 1 FROM layers l WHERE l.digest = %[1]s) OR EXISTS (SELECT 1 FROM manifests m WHERE m.digest = %[1]s))`, digest)
}

// Claim implements index.Store.
func (s *Store) Claim(ctx context.Context, c index.Claim) error {
	return s.begin(ctx, func(t *tx) error {
		if err := t.put(c, false, t.now); err != nil {
			return err
		}
		if c.Key.Kind == layout.Manifest {
			return t.useSignatures(c.Key.Repository, c.Key.Digest, t.now)
		}
		if c.UploadStarted.IsZero() {
			return nil
		}
		grace, resolution, err := s.owed(t)
		if err != nil {
			return err
		}
		return t.renewPush(c, grace+resolution, resolution)
	})
}

// longestPush is for how many leases a push may go on, by its uploads, before its first links are given up.
const longestPush = 12

// renewal is that of the links of a repository at the end of an upload.
type renewal struct {
	at   int64 // all in lease are not older than this
	from int64 // in lease were those last used since then
}

// renewPush renews the links of the repository that were in lease when the upload began: among them the
// other layers of one push, of which the manifest comes last. A link that a manifest holds may lose it
// before that. A renewal is no use of its own: what a manifest holds is renewed once for each use, and what
// nothing names for the longest push, or the uploads of a busy repository would keep all that it ever had.
//
// What an upload renewed is younger than the resolution to those that end within it, and so has its grace:
// they renew only what was in lease when they began and not before the other did. Else a push of thousands
// of layers would renew all of them with each.
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
		WHERE repo = ?2 AND accessed_at >= ?3 AND accessed_at < ?5 AND CASE held WHEN 0 THEN coalesce(own_at, accessed_at) >= ?4 ELSE own_at IS NULL END`,
		t.now, repository(c.Key.Repository), from, c.UploadStarted.UnixMilli()-longestPush*lease.Milliseconds(), before)
}

// Place implements index.Store.
func (s *Store) Place(ctx context.Context, c index.Claim, rename func() error) error {
	return s.begin(ctx, func(t *tx) error {
		if err := t.put(c, true, t.now); err != nil {
			return err
		}
		return rename()
	})
}

// put writes a row of content, with everything that follows from it. at is its last use.
func (t *tx) put(c index.Claim, placed bool, at int64) error {
	if c.Blob && c.Key.Kind != layout.Blob { // before what holds it: that brings its row up to date
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

// The statements that write a blob or a link say what holds it as they write it: an index that is
// rebuilt gets each row once.
var (
	putBlob = `INSERT INTO blobs (digest, size, placed, held, created_at, accessed_at) VALUES (?1, ?2, ?3, ` + blobHeldAs("?1") + `, ?4, ?4)
		ON CONFLICT (digest) DO UPDATE SET accessed_at = max(accessed_at, excluded.accessed_at), held = excluded.held,
			placed = max(placed, excluded.placed), size = CASE WHEN excluded.placed THEN excluded.size ELSE size END`

	putLayer = `INSERT INTO layers (digest, repo, placed, held, created_at, accessed_at) VALUES (?1, ?2, ?3, ` + layerHeldAs("?1", "?2") + `, ?4, ?4)
		ON CONFLICT (digest, repo) DO UPDATE SET accessed_at = max(accessed_at, excluded.accessed_at), held = excluded.held,
			placed = max(placed, excluded.placed), own_at = NULL`
)

func (t *tx) putBlob(c index.Claim, placed bool, at int64) error {
	return t.exec(putBlob, packed(c.Key.Digest), c.Size, placed, at)
}

func (t *tx) putLayer(c index.Claim, placed bool, at int64) error {
	if err := t.enter(c.Key.Repository); err != nil {
		return err
	}
	if err := t.exec(putLayer, packed(c.Key.Digest), repository(c.Key.Repository), placed, at); err != nil {
		return err
	}
	return t.holdBlob(c.Key.Digest)
}

func (t *tx) putManifest(c index.Claim, placed bool, at int64) error {
	d, repo, m := packed(c.Key.Digest), repository(c.Key.Repository), c.Content
	if m == nil {
		return fmt.Errorf("%s: claimed without its content", c.Key)
	}
	if err := t.enter(c.Key.Repository); err != nil {
		return err
	}
	known, err := t.exists("SELECT 1 FROM manifests WHERE digest = ? AND repo = ?", d, repo)
	if err != nil {
		return err
	}
	err = t.exec(`INSERT INTO manifests (digest, repo, media_type, artifact_type, config, subject, size, placed, held, loop, created_at, accessed_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)
		ON CONFLICT (digest, repo) DO UPDATE SET accessed_at = max(accessed_at, excluded.accessed_at), placed = max(placed, excluded.placed)`,
		d, repo, m.MediaType, m.ArtifactType, packed(m.Config), packed(m.Subject), c.Size, placed, at, at)
	if err != nil {
		return err
	}
	for _, child := range m.References {
		more, err := t.changed("INSERT INTO refs (parent, repo, child) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", d, repo, packed(child))
		if err != nil {
			return err
		}
		known = known && !more
	}
	if known { // so nothing is held that was not before; thousands may refer to it
		return t.holdBlob(c.Key.Digest)
	}
	if err := t.findCircle(c.Key); err != nil {
		return err
	}
	return t.rehold(c.Key)
}

// findCircle notes whether a manifest keeps itself alive, through its children and their referrers.
func (t *tx) findCircle(k layout.Key) error {
	circle, err := t.isKept(k)
	if err != nil {
		return err
	}
	if circle {
		circle, err = t.exists(keepersOf+`SELECT 1 FROM keepers WHERE d = ?2 AND depth > 0 LIMIT 1`, repository(k.Repository), packed(k.Digest))
	}
	if err != nil {
		return err
	}
	return t.exec(`UPDATE manifests SET loop = ? WHERE digest = ? AND repo = ?`, circle, packed(k.Digest), repository(k.Repository))
}

// isKept says whether a manifest has a keeper at all. Most have none, and a recursive query costs twenty times
// as much as one that finds nothing.
func (t *tx) isKept(k layout.Key) (bool, error) {
	return t.exists(`SELECT 1 WHERE EXISTS (SELECT 1 FROM refs WHERE child = ?2 AND repo = ?1)
		OR EXISTS (SELECT 1 FROM manifests WHERE digest = ?2 AND repo = ?1 AND subject IS NOT NULL)`, repository(k.Repository), packed(k.Digest))
}

// closers are the manifests that closed a circle which another one may be a part of: they keep it.
func (t *tx) closers(k layout.Key) ([]index.Row, error) {
	some, err := t.exists("SELECT 1 FROM manifests WHERE repo = ? AND loop = 1 LIMIT 1", repository(k.Repository))
	if err != nil || !some {
		return nil, err
	}
	return t.list(layout.Manifest, `FROM (`+keepersOf+`SELECT DISTINCT d FROM keepers WHERE depth > 0)
		CROSS JOIN manifests m ON m.digest = d AND m.repo = ?1 WHERE m.loop = 1`, repository(k.Repository), packed(k.Digest))
}

// brokenCircles looks again at manifests that closed a circle, now that a part of it went.
func (t *tx) brokenCircles(closers []index.Row) error {
	for _, r := range closers {
		if err := t.findCircle(r.Key); err != nil {
			return err
		}
		if err := t.holdManifest(r.Key.Repository, r.Digest); err != nil {
			return err
		}
	}
	return nil
}

// keepersOf lists the manifests that keep manifest ?2 of repository ?1: itself at depth 0, and what
// names it or is its subject, and so on upwards. Depth only tells the first from the others. CROSS JOIN:
// SQLite would rather begin with all manifests of the repository.
const keepersOf = `WITH RECURSIVE keepers (d, depth) AS (
	SELECT ?2, 0
	UNION
	SELECT f.parent, 1 FROM keepers k CROSS JOIN refs f ON f.child = k.d AND f.repo = ?1
	UNION
	SELECT s.digest, 1 FROM keepers k CROSS JOIN manifests m ON m.digest = k.d AND m.repo = ?1 CROSS JOIN manifests s ON s.digest = m.subject AND s.repo = ?1
) `

// rehold brings the held column of a manifest that came, and of all that it may hold, up to date.
func (t *tx) rehold(k layout.Key) error {
	d, repo := packed(k.Digest), repository(k.Repository)
	for _, q := range []string{
		"UPDATE manifests SET held = " + manifestHeld + " WHERE digest = ?1 AND repo = ?2",
		"UPDATE manifests SET held = " + manifestHeld + " WHERE subject = ?1 AND repo = ?2",
		"UPDATE manifests SET held = " + manifestHeld + " WHERE digest IN (SELECT child FROM refs WHERE parent = ?1 AND repo = ?2) AND repo = ?2",
		"UPDATE layers SET held = " + layerHeld + " WHERE digest IN (SELECT child FROM refs WHERE parent = ?1 AND repo = ?2) AND repo = ?2",
	} {
		if err := t.exec(q, d, repo); err != nil {
			return err
		}
	}
	return t.holdBlob(k.Digest)
}

func (t *tx) holdBlob(d digest.Digest) error {
	return t.exec("UPDATE blobs SET held = "+blobHeld+" WHERE digest = ?", packed(d))
}

// Unclaim implements index.Store.
func (s *Store) Unclaim(ctx context.Context, k layout.Key) error {
	return s.begin(ctx, func(t *tx) error {
		r, err := t.row(k)
		if err != nil || r == nil || r.Placed {
			return err
		}
		return t.drop(*r)
	})
}

// MoveTag implements index.Store.
func (s *Store) MoveTag(ctx context.Context, repo, tag string, to digest.Digest, rename func() error) error {
	return s.begin(ctx, func(t *tx) error {
		if err := t.moveTag(repo, tag, to, t.now); err != nil {
			return err
		}
		if err := t.useSignatures(repo, to, t.now); err != nil {
			return err
		}
		return rename()
	})
}

func (t *tx) moveTag(repo, tag string, to digest.Digest, at int64) error {
	old, err := t.row(layout.TagKey(repo, tag))
	if err != nil {
		return err
	}
	if err := t.enter(repo); err != nil {
		return err
	}
	err = t.exec(`INSERT INTO tags (repo, name, digest, created_at, accessed_at, subject) VALUES (?, ?, coalesce(?, x''), ?, ?, ?)
		ON CONFLICT (repo, name) DO UPDATE SET accessed_at = max(accessed_at, excluded.accessed_at), digest = excluded.digest,
			created_at = CASE WHEN digest = excluded.digest THEN created_at ELSE excluded.created_at END`,
		repository(repo), tag, packed(to), at, at, subjectOf(tag))
	if err != nil {
		return err
	}
	if old != nil && old.Digest != to {
		if err := t.inheritTag(*old); err != nil {
			return err
		}
	}
	return t.holdManifest(repo, to)
}

// inheritTag gives the last use of a tag that goes or moves to what it pointed to.
func (t *tx) inheritTag(tag index.Row) error {
	err := t.exec("UPDATE manifests SET accessed_at = max(accessed_at, ?) WHERE digest = ? AND repo = ?",
		tag.AccessedAt.UnixMilli(), packed(tag.Digest), repository(tag.Key.Repository))
	if err == nil {
		err = t.useSignatures(tag.Key.Repository, tag.Digest, tag.AccessedAt.UnixMilli())
	}
	if err != nil {
		return err
	}
	return t.holdManifest(tag.Key.Repository, tag.Digest)
}

func (t *tx) holdManifest(repo string, d digest.Digest) error {
	return t.exec("UPDATE manifests SET held = "+manifestHeld+" WHERE digest = ? AND repo = ?", packed(d), repository(repo))
}

// table and where find the row of a key.
func where(k layout.Key) (table, cond string, args []any) {
	switch k.Kind {
	case layout.Blob:
		return "blobs", "digest = ?", []any{packed(k.Digest)}
	case layout.Layer:
		return "layers", "digest = ? AND repo = ?", []any{packed(k.Digest), repository(k.Repository)}
	case layout.Manifest:
		return "manifests", "digest = ? AND repo = ?", []any{packed(k.Digest), repository(k.Repository)}
	}
	return "tags", "repo = ? AND name = ?", []any{repository(k.Repository), k.Tag}
}

var signature = regexp.MustCompile(`^(sha256|sha384|sha512)-([a-f0-9]{64})(\..*)?$`)

// subjectOf is what a tag is about by its name: cosign signs sha256:HEX under sha256-HEX.sig, and clients
// list an image's referrers under sha256-HEX, with at most 64 digits.
func subjectOf(tag string) []byte {
	parts := signature.FindStringSubmatch(tag)
	if parts == nil {
		return nil
	}
	sum, err := hex.DecodeString(parts[2])
	if err != nil {
		return nil
	}
	return append([]byte{byte(slices.Index(algorithms, digest.Algorithm(parts[1])))}, sum...)
}

// useSignatures counts the use of a manifest for the tags that are about it, and about what it consists
// of, what refers to it, and so on: such a tag lives and goes with its image.
func (t *tx) useSignatures(repo string, d digest.Digest, at int64) error {
	some, err := t.exists("SELECT 1 FROM tags WHERE repo = ? AND subject IS NOT NULL LIMIT 1", repository(repo))
	if err != nil || !some {
		return err
	}
	return t.exec(`WITH RECURSIVE below (d) AS (
			SELECT ?2
			UNION
			SELECT f.child FROM below CROSS JOIN refs f ON f.parent = below.d AND f.repo = ?1
			UNION
			SELECT m.digest FROM below CROSS JOIN manifests m ON m.subject = below.d AND m.repo = ?1
			UNION
			SELECT g.digest FROM below CROSS JOIN tags g INDEXED BY tags_subject ON g.repo = ?1 AND g.subject = substr(below.d, 1, 33)
		) UPDATE tags INDEXED BY tags_subject SET accessed_at = max(accessed_at, ?3) WHERE repo = ?1 AND subject IN (SELECT substr(d, 1, 33) FROM below)`,
		repository(repo), packed(d), at)
}

// Adopt implements index.Store.
func (s *Store) Adopt(ctx context.Context, looks ...index.Look) error {
	return s.begin(ctx, func(t *tx) error {
		for _, look := range looks {
			a, ok, err := look()
			if errors.Is(err, index.ErrSkip) {
				continue
			}
			if err != nil {
				return err
			}
			if err := t.adopt(a, ok); err != nil {
				return fmt.Errorf("adopt %s: %w", a.Key, err)
			}
		}
		return nil
	})
}

func (t *tx) adopt(a index.Adoption, there bool) error {
	known, err := t.row(a.Key)
	if err != nil {
		return err
	}
	if !there {
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
		at = known.AccessedAt.UnixMilli() // known content was not used by being found
	}
	if a.Key.Kind == layout.Tag {
		if known != nil && known.Digest == a.Digest {
			return nil
		}
		return t.moveTag(a.Key.Repository, a.Key.Tag, a.Digest, at)
	}
	if known != nil && known.Placed && known.Size == a.Size && a.Key.Kind != layout.Manifest {
		return nil
	}
	return t.put(a.Claim, true, at)
}

// damaged is for a blob of which nobody has anything until somebody pushes it again.
func (t *tx) damaged(c index.Claim, known *index.Row) error {
	if known == nil {
		return t.putBlob(c, false, t.now)
	}
	return t.exec("UPDATE blobs SET placed = 0, size = ? WHERE digest = ?", c.Size, packed(c.Key.Digest))
}

// missing is for a row whose file is not there.
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

// drop removes a row; what it referred to inherits its last use and may be loose now.
func (t *tx) drop(r index.Row) (err error) {
	var closers []index.Row
	if r.Key.Kind == layout.Manifest {
		if closers, err = t.closers(r.Key); err != nil {
			return err
		}
	}
	table, cond, args := where(r.Key)
	if err := t.exec("DELETE FROM "+table+" WHERE "+cond, args...); err != nil {
		return err
	}
	switch r.Key.Kind {
	case layout.Blob:
		return nil
	case layout.Tag:
		err = t.inheritTag(r)
	case layout.Layer:
		err = t.inheritBlob(r)
	case layout.Manifest:
		err = t.dropReferences(r, closers)
	}
	if err != nil {
		return err
	}
	return t.leave(r.Key.Repository)
}

func (t *tx) inheritBlob(r index.Row) error {
	err := t.exec("UPDATE blobs SET accessed_at = max(accessed_at, ?) WHERE digest = ?", r.AccessedAt.UnixMilli(), packed(r.Key.Digest))
	if err != nil {
		return err
	}
	return t.holdBlob(r.Key.Digest)
}

// dropReferences forgets what a manifest named, which inherits and may be loose now.
func (t *tx) dropReferences(r index.Row, closers []index.Row) error {
	d, repo, at := packed(r.Key.Digest), repository(r.Key.Repository), r.AccessedAt.UnixMilli()
	children, err := t.children("SELECT child FROM refs WHERE parent = ? AND repo = ?", d, repo)
	if err != nil {
		return err
	}
	if err := t.exec("DELETE FROM refs WHERE parent = ? AND repo = ?", d, repo); err != nil {
		return err
	}
	delete(t.c.renewed, r.Key.Repository) // what it held is renewed as what nothing names is
	if err := t.brokenCircles(closers); err != nil {
		return err
	}
	for _, child := range children {
		for _, q := range []string{
			"UPDATE layers SET accessed_at = max(accessed_at, ?1), held = " + layerHeld + " WHERE digest = ?3 AND repo = ?2",
			"UPDATE manifests SET accessed_at = max(accessed_at, ?1), held = " + manifestHeld + " WHERE digest = ?3 AND repo = ?2",
		} {
			if err := t.exec(q, at, repo, packed(child)); err != nil {
				return err
			}
		}
	}
	for _, q := range []string{
		"UPDATE manifests SET accessed_at = max(accessed_at, ?1), held = " + manifestHeld + " WHERE subject = ?3 AND repo = ?2",
		"UPDATE tags INDEXED BY tags_subject SET accessed_at = max(accessed_at, ?1) WHERE repo = ?2 AND subject = substr(?3, 1, 33)",
	} {
		if err := t.exec(q, at, repo, d); err != nil {
			return err
		}
	}
	return t.inheritBlob(r)
}

// DeleteTag implements index.Store.
func (s *Store) DeleteTag(ctx context.Context, repo, tag string, remove func() error) error {
	return s.begin(ctx, func(t *tx) error {
		r, err := t.row(layout.TagKey(repo, tag))
		if err != nil {
			return err
		}
		if r != nil {
			if err := t.drop(*r); err != nil {
				return err
			}
		}
		return remove()
	})
}

// DeleteManifest implements index.Store.
func (s *Store) DeleteManifest(ctx context.Context, repo string, d digest.Digest, remove func(tags []string) error) error {
	return s.begin(ctx, func(t *tx) error {
		k := layout.ManifestKey(repo, d)
		if err := t.mayDelete(k); err != nil {
			return err
		}
		var names []string
		tags, err := t.tags(repo, d)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			names = append(names, tag.Key.Tag)
			if err := t.drop(tag); err != nil {
				return err
			}
		}
		r, err := t.row(k) // now, since it inherited from its tags
		if err != nil {
			return err
		}
		if r != nil {
			if err := t.drop(*r); err != nil {
				return err
			}
		}
		return remove(names)
	})
}

// DeleteLayer implements index.Store.
func (s *Store) DeleteLayer(ctx context.Context, repo string, d digest.Digest, remove func() error) error {
	return s.begin(ctx, func(t *tx) error {
		k := layout.LayerKey(repo, d)
		if err := t.mayDelete(k); err != nil {
			return err
		}
		r, err := t.row(k)
		if err != nil {
			return err
		}
		if r != nil {
			if err := t.drop(*r); err != nil {
				return err
			}
		}
		return remove()
	})
}

// mayDelete refuses to take what a manifest of the repository needs, or may need for all we know yet.
func (t *tx) mayDelete(k layout.Key) error {
	unread, err := t.gate()
	if err != nil {
		return err
	}
	if unread.Has(k.Repository) {
		return fmt.Errorf("%w: not all of repository %s could be read", index.ErrGateClosed, k.Repository)
	}
	var by packed
	referenced, err := t.one([]any{&by}, "SELECT parent FROM refs WHERE repo = ? AND child = ? LIMIT 1",
		repository(k.Repository), packed(k.Digest))
	if err != nil || !referenced {
		return err
	}
	return &index.ReferencedError{Key: k, By: digest.Digest(by)}
}

func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
