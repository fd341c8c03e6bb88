package sqlite

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// putManifest never makes a row older, nor takes back that its file was placed.
const putManifest = `INSERT INTO manifests
		(digest, repo, media_type, artifact_type, config, subject, size, placed, referenced, detached, family,
			created_at, accessed_at)
	VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, 0, ?9, ?9)
	ON CONFLICT (digest, repo) DO UPDATE SET accessed_at = max(accessed_at, excluded.accessed_at), placed = max(placed,
		excluded.placed)
	RETURNING family`

// putManifest writes the row of a manifest and its references, and connects it with what is there. The bytes of a
// digest never change, so a row that exists gets its last use and whether it is placed, and no more.
func (t *tx) putManifest(c index.Claim, placed bool, at int64) error {
	d, repo, m := packed(c.Key.Digest), repository(c.Key.Repository), c.Manifest
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
	used := raisedManifest{digest: c.Key.Digest}
	_, err = t.one([]any{&used.hasFamily}, putManifest, d, repo, m.MediaType, m.ArtifactType, packed(m.Config),
		packed(m.Subject), c.Size, placed, at)
	if err != nil {
		return err
	}
	for _, child := range m.References {
		added, err := t.changed("INSERT INTO refs (parent, repo, child) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", d,
			repo, packed(child))
		if err != nil {
			return err
		}
		known = known && !added
	}
	if known { // nothing is referenced that was not before; thousands may refer to it
		if err := t.noteBlob(c.Key.Digest); err != nil {
			return err
		}
		return t.spread(c.Key.Repository, used, at)
	}
	return t.join(c.Key, m.Subject, at)
}

// join connects a manifest whose row was added with the manifests and tags that are there: it takes the last use of
// what keeps it, and gives its own to what it keeps.
func (t *tx) join(k layout.Key, subject digest.Digest, at int64) error {
	d, repo := packed(k.Digest), repository(k.Repository)
	var owned, owns bool
	if _, err := t.one([]any{&owned, &owns}, relations, d, repo, packed(subject)); err != nil {
		return err
	}
	if owned && owns {
		if err := t.breakCircles(k); err != nil {
			return err
		}
	}
	if err := t.noteParts(k); err != nil {
		return err
	}
	if owned {
		for _, q := range []string{noteParents, noteSubject} {
			if err := t.exec(q, d, repo); err != nil {
				return err
			}
		}
		if _, err := t.one([]any{&at}, takeUse, d, repo, at); err != nil {
			return err
		}
	}
	if owns {
		if err := t.exec("UPDATE manifests SET family = 1 WHERE digest = ? AND repo = ?", d, repo); err != nil {
			return err
		}
	}
	return t.spread(k.Repository, raisedManifest{digest: k.Digest, hasFamily: owns}, at)
}

const (
	// relations says whether anything may keep manifest ?1 of repository ?2 with subject ?3, and whether anything may
	// live with it. Most manifests have neither, and pay for nothing else.
	relations = `SELECT EXISTS (SELECT 1 FROM refs WHERE child = ?1 AND repo = ?2)
			OR EXISTS (SELECT 1 FROM tags WHERE digest = ?1 AND repo = ?2)
			OR EXISTS (SELECT 1 FROM manifests WHERE digest = ?3 AND repo = ?2),
		EXISTS (SELECT 1 FROM refs f CROSS JOIN manifests m ON m.digest = f.child AND m.repo = +?2
		WHERE f.parent = +?1 AND f.repo = +?2)
			OR EXISTS (SELECT 1 FROM manifests WHERE subject = ?1 AND repo = ?2)
			OR EXISTS (SELECT 1 FROM tags WHERE subject = substr(?1, 1, 33))`

	noteParents = `UPDATE manifests SET family = 1
		WHERE repo = ?2 AND family = 0 AND digest IN (SELECT parent FROM refs WHERE child = ?1 AND repo = ?2)`
	noteSubject = `UPDATE manifests SET family = 1
		WHERE repo = ?2 AND family = 0 AND digest = (SELECT subject FROM manifests WHERE digest = ?1 AND repo = ?2)`

	// takeUse raises the last use of a manifest to the latest of what keeps it.
	takeUse = `UPDATE manifests SET accessed_at = max(accessed_at, ?3,
			coalesce((SELECT max(p.accessed_at) FROM refs f CROSS JOIN manifests p ON p.digest = f.parent
			AND p.repo = f.repo
				WHERE f.child = +?1 AND f.repo = +?2), 0),
			coalesce((SELECT max(g.accessed_at) FROM tags g INDEXED BY tags_digest
				WHERE g.digest = +?1 AND g.repo = +?2), 0),
			coalesce((SELECT s.accessed_at FROM manifests s WHERE s.digest = manifests.subject
			AND s.repo = +?2 AND manifests.detached = 0), 0))
		WHERE digest = ?1 AND repo = +?2 RETURNING accessed_at`
)

// breakCircles detaches a manifest whose row was added, if it would keep itself through its subject, and then the
// referrers on a circle that it closes otherwise. Digests allow no circle without a subject in it, so the manifests of
// a repository never keep each other in one.
func (t *tx) breakCircles(k layout.Key) error {
	for _, own := range []bool{true, false} {
		detached, err := t.children(circle, packed(k.Digest), repository(k.Repository), own)
		if err != nil {
			return err
		}
		for _, d := range detached {
			if err := t.noteManifest(k.Repository, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// circle detaches the referrers of repository ?2 that are above manifest ?1, or are it, and whose subjects are below.
// With ?3 it detaches none but the manifest itself.
// CROSS JOIN: SQLite would rather begin with all manifests of the repository.
const circle = `WITH RECURSIVE above (d) AS (
		SELECT ?1
		UNION
		SELECT f.parent FROM above CROSS JOIN refs f ON f.child = above.d AND f.repo = +?2
		UNION
		SELECT s.digest FROM above CROSS JOIN manifests m ON m.digest = above.d AND m.repo = +?2 AND m.detached = 0
			CROSS JOIN manifests s ON s.digest = m.subject AND s.repo = +?2
	), below (d) AS (
		SELECT ?1
		UNION
		SELECT m.digest FROM below CROSS JOIN refs f ON f.parent = below.d AND f.repo = +?2
			CROSS JOIN manifests m ON m.digest = f.child AND m.repo = +?2
		UNION
		SELECT m.digest FROM below CROSS JOIN manifests m ON m.subject = below.d AND m.repo = +?2 AND m.detached = 0
	) UPDATE manifests SET detached = 1
		WHERE repo = +?2 AND detached = 0 AND digest IN (SELECT d FROM above) AND subject IN (SELECT d
		FROM below) AND (digest = ?1 OR NOT ?3)
		RETURNING digest`
