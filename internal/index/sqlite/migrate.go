package sqlite

import (
	"math"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// migrate brings an older schema to this one, unless a server of the older version uses it.
func (s *Store) migrate(t *tx) error {
	v, err := readVersion(t.querier)
	switch {
	case err != nil || v == version:
		return err
	case v == 0:
		return t.create()
	case s.served != nil:
		served, err := s.served()
		if err != nil {
			return err
		}
		if served {
			return olderError(v)
		}
	}
	return t.migrateFrom(v)
}

// migrateFrom keeps what an index of schema v knows.
func (t *tx) migrateFrom(v int) error {
	if v < 5 {
		if err := t.migrateTables(v); err != nil {
			return err
		}
		if err := t.migrateServers(); err != nil {
			return err
		}
	}
	for _, piece := range since6 {
		if err := t.script(piece); err != nil {
			return err
		}
	}
	if v < 5 {
		for _, step := range []func() error{t.migrateCircles, t.migrateRecency} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return t.setVersion()
}

// since6 is what schema 7 has that 5 and 6 have not. What older ones have is copied before.
var since6 = []string{schema7, historyFrom6, usedFrom6}

// migrateTables writes the tables of schemas 1 to 4 anew, as schema 6 has them.
func (t *tx) migrateTables(v int) error {
	for v < len(migrations)+1 {
		if err := t.script(migrations[v-1]); err != nil {
			return err
		}
		v++
	}
	copied := copyFrom4
	if v == 3 {
		copied = copyFrom3
	}
	return t.script(aside[v] + schema + copied + settled)
}

// migrations bring schemas 1 and 2 to the next. From schema 3 on all tables are written anew, in the order of the new
// trees: 4 gave numbers to repositories, and 5 columns to manifests. 6 has the same tables, and may have rules; 7 has
// pins. A version that does not know them would remove what they keep.
var migrations = []string{`
	CREATE INDEX layers_latest ON layers (accessed_at);
	CREATE INDEX manifests_latest ON manifests (accessed_at);`, `
	CREATE INDEX manifests_repo ON manifests (repo);
	ALTER TABLE layers ADD COLUMN own_at INTEGER;
	ALTER TABLE tags ADD COLUMN subject BLOB;
	CREATE INDEX tags_subject ON tags (repo, subject) WHERE subject IS NOT NULL;
	UPDATE tags SET subject = unhex((CASE substr(name, 1, 7)
		WHEN 'sha256-' THEN '01' WHEN 'sha384-' THEN '02' ELSE '03' END) || substr(name, 8, 64))
		WHERE substr(name, 1, 7) IN ('sha256-', 'sha384-', 'sha512-') AND length(unhex(substr(name, 8, 64))) = 32
			AND lower(substr(name, 8, 64)) = substr(name, 8, 64) AND substr(name, 72, 1) IN ('', '.');`,
}

// aside moves the tables of a schema out of the way.
var aside = map[int]string{3: dropped + "DROP INDEX layers_latest;",
	4: dropped + "ALTER TABLE repositories RENAME TO old_repositories;"}

const (
	dropped = `
	DROP TRIGGER tags_in; DROP TRIGGER tags_out; DROP TRIGGER manifests_in; DROP TRIGGER manifests_out;
	DROP TRIGGER manifests_place;
	DROP TRIGGER blobs_in; DROP TRIGGER blobs_out; DROP TRIGGER blobs_place;
	DROP INDEX blobs_loose; DROP INDEX layers_loose; DROP INDEX layers_accessed;
	DROP INDEX manifests_loose; DROP INDEX manifests_latest; DROP INDEX manifests_repo;
	DROP INDEX manifests_subject; DROP INDEX manifests_loop;
	DROP INDEX refs_child; DROP INDEX tags_subject; DROP INDEX tags_digest; DROP INDEX tags_accessed;
	ALTER TABLE settings RENAME TO old_settings; ALTER TABLE blobs RENAME TO old_blobs;
	ALTER TABLE layers RENAME TO old_layers;
	ALTER TABLE manifests RENAME TO old_manifests; ALTER TABLE refs RENAME TO old_refs;
	ALTER TABLE tags RENAME TO old_tags;
	DROP TABLE totals;
	`
	copyFrom3 = `
	INSERT INTO repositories (name) SELECT repo FROM old_tags
		UNION SELECT repo FROM old_manifests UNION SELECT repo FROM old_layers;
	INSERT INTO layers SELECT digest, id, placed, held, created_at, accessed_at, own_at
	FROM old_layers CROSS JOIN repositories ON name = repo;
	INSERT INTO manifests
	SELECT digest, id, media_type, artifact_type, config, subject, size, placed, held, loop, 0,
		created_at, accessed_at
		FROM old_manifests CROSS JOIN repositories ON name = repo;
	INSERT INTO refs SELECT parent, id, child FROM old_refs CROSS JOIN repositories ON name = repo;
	INSERT INTO tags SELECT id, old_tags.name, digest, created_at, accessed_at, subject
	FROM old_tags CROSS JOIN repositories ON repositories.name = repo;
	`
	copyFrom4 = `
	INSERT INTO repositories SELECT * FROM old_repositories;
	INSERT INTO layers SELECT * FROM old_layers;
	INSERT INTO manifests
	SELECT digest, repo, media_type, artifact_type, config, subject, size, placed, held, loop, 0,
		created_at, accessed_at
		FROM old_manifests;
	INSERT INTO refs SELECT * FROM old_refs;
	INSERT INTO tags SELECT * FROM old_tags;
	DROP TABLE old_repositories;
	`
	// settled copies what both have, and says which manifests may have something that lives with them.
	settled = `
	INSERT INTO settings SELECT * FROM old_settings;
	INSERT INTO blobs SELECT * FROM old_blobs;
	DROP TABLE old_settings; DROP TABLE old_blobs; DROP TABLE old_layers; DROP TABLE old_manifests;
	DROP TABLE old_refs; DROP TABLE old_tags;
	UPDATE manifests SET family = 1 WHERE EXISTS (SELECT 1 FROM manifests r
	WHERE r.subject = manifests.digest AND r.repo = manifests.repo)
		OR EXISTS (SELECT 1 FROM tags g WHERE g.subject = substr(manifests.digest, 1, 33))
		OR EXISTS (SELECT 1 FROM refs f CROSS JOIN manifests c ON c.digest = f.child AND c.repo = f.repo
			WHERE f.parent = manifests.digest AND f.repo = manifests.repo);
	`
)

// migrateServers makes rows of the setting in which older schemas kept what servers promised.
func (t *tx) migrateServers() error {
	type debt struct {
		index.Policy
		Beat time.Time `json:"beat"`
	}
	var promise struct {
		Policy index.Policy `json:"policy"`
		Beat   time.Time    `json:"beat"`
		Debts  []debt       `json:"debts"`
	}
	if known, err := t.setting("promise", &promise); err != nil || !known {
		return err
	}
	for _, d := range append(promise.Debts, debt{promise.Policy, promise.Beat}) { // the last one joined last
		err := t.exec("INSERT INTO servers (ttl, grace, resolution, joined, beat) VALUES (?, ?, ?, ?4, ?4)",
			int64(d.TTL), int64(d.Grace), int64(d.Resolution), d.Beat.UnixMilli())
		if err != nil {
			return err
		}
	}
	return t.script("DELETE FROM settings WHERE key = 'promise'")
}

// migrateCircles detaches the referrers of circles. Older schemas marked, in the same column, the manifest that closed
// one.
func (t *tx) migrateCircles() error {
	closers, err := t.list(layout.Manifest, "FROM manifests m WHERE m.detached = 1")
	if err != nil {
		return err
	}
	if err := t.script("UPDATE manifests SET detached = 0 WHERE detached = 1"); err != nil {
		return err
	}
	for _, r := range closers {
		if err := t.breakCircles(r.Key); err != nil {
			return err
		}
		if err := t.noteManifest(r.Key.Repository, r.Digest); err != nil {
			return err
		}
	}
	return nil
}

// migrateRecency writes the effective last uses. From the latest on, each manifest gives its own to what lives with it,
// as a use does: so no row is written twice, however deep the manifests are nested.
func (t *tx) migrateRecency() error {
	if err := t.script(tagsAndManifests); err != nil {
		return err
	}
	var d digest.Digest
	var repo string
	for at := int64(math.MaxInt64); ; {
		found, err := t.one([]any{(*packed)(&d), (*repository)(&repo), &at},
			`SELECT digest, repo, accessed_at FROM manifests INDEXED BY manifests_latest
			WHERE family = 1 AND (accessed_at, digest, repo) < (?, ?, ?)
			ORDER BY accessed_at DESC, digest DESC, repo DESC LIMIT 1`, at, packed(d), repository(repo))
		if err != nil || !found {
			return err
		}
		if err := t.spread(repo, raisedManifest{digest: d, hasFamily: true}, at); err != nil {
			return err
		}
	}
}

// tagsAndManifests gives the last uses of tags to what they point to, and those of manifests to their tags.
const tagsAndManifests = `
	UPDATE manifests SET accessed_at = at FROM (
		SELECT repo AS r, digest AS d, max(accessed_at) AS at FROM tags GROUP BY 1, 2)
		WHERE digest = d AND repo = r AND accessed_at < at;
	UPDATE tags SET accessed_at = m.accessed_at FROM manifests m
		WHERE m.digest = tags.digest AND m.repo = tags.repo AND tags.accessed_at < m.accessed_at;
`
