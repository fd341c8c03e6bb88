package sqlite

// migrations bring a schema to the next: the first from 1 to 2, and so on.
var migrations = []string{`
	CREATE INDEX layers_latest ON layers (accessed_at);
	CREATE INDEX manifests_latest ON manifests (accessed_at);`, `
	CREATE INDEX manifests_repo ON manifests (repo);
	ALTER TABLE layers ADD COLUMN own_at INTEGER;
	ALTER TABLE tags ADD COLUMN subject BLOB;
	CREATE INDEX tags_subject ON tags (repo, subject) WHERE subject IS NOT NULL;
	UPDATE tags SET subject = unhex((CASE substr(name, 1, 7) WHEN 'sha256-' THEN '01' WHEN 'sha384-' THEN '02' ELSE '03' END) || substr(name, 8, 64))
		WHERE substr(name, 1, 7) IN ('sha256-', 'sha384-', 'sha512-') AND length(unhex(substr(name, 8, 64))) = 32
			AND lower(substr(name, 8, 64)) = substr(name, 8, 64) AND substr(name, 72, 1) IN ('', '.');`,
	aside + schema + copied,
}

// Schema 4 has numbers for repositories. All is written anew, in the order of the new trees.
const (
	aside = `
	DROP TRIGGER tags_in; DROP TRIGGER tags_out; DROP TRIGGER manifests_in; DROP TRIGGER manifests_out; DROP TRIGGER manifests_place;
	DROP TRIGGER blobs_in; DROP TRIGGER blobs_out; DROP TRIGGER blobs_place;
	DROP INDEX blobs_loose; DROP INDEX layers_loose; DROP INDEX layers_accessed; DROP INDEX layers_latest;
	DROP INDEX manifests_loose; DROP INDEX manifests_latest; DROP INDEX manifests_repo; DROP INDEX manifests_subject; DROP INDEX manifests_loop;
	DROP INDEX refs_child; DROP INDEX tags_subject; DROP INDEX tags_digest; DROP INDEX tags_accessed;
	ALTER TABLE settings RENAME TO old_settings; ALTER TABLE blobs RENAME TO old_blobs; ALTER TABLE layers RENAME TO old_layers;
	ALTER TABLE manifests RENAME TO old_manifests; ALTER TABLE refs RENAME TO old_refs; ALTER TABLE tags RENAME TO old_tags;
	DROP TABLE totals;
	`
	copied = `
	INSERT INTO repositories (name) SELECT repo FROM old_tags UNION SELECT repo FROM old_manifests UNION SELECT repo FROM old_layers;
	INSERT INTO settings SELECT * FROM old_settings;
	INSERT INTO blobs SELECT digest, size, placed, held, created_at, accessed_at FROM old_blobs;
	INSERT INTO layers SELECT digest, id, placed, held, created_at, accessed_at, own_at FROM old_layers CROSS JOIN repositories ON name = repo;
	INSERT INTO manifests SELECT digest, id, media_type, artifact_type, config, subject, size, placed, held, loop, created_at, accessed_at
		FROM old_manifests CROSS JOIN repositories ON name = repo;
	INSERT INTO refs SELECT parent, id, child FROM old_refs CROSS JOIN repositories ON name = repo;
	INSERT INTO tags SELECT id, old_tags.name, digest, created_at, accessed_at, subject FROM old_tags CROSS JOIN repositories ON repositories.name = repo;
	DROP TABLE old_settings; DROP TABLE old_blobs; DROP TABLE old_layers; DROP TABLE old_manifests; DROP TABLE old_refs; DROP TABLE old_tags;`
)

// migrate brings an older schema to this one, and keeps what it knows.
func (t *tx) migrate() error {
	v, err := readVersion(t.querier)
	if err != nil || v == version {
		return err
	}
	if v == 0 {
		return t.create()
	}
	for _, step := range migrations[v-1:] {
		if err := t.script(step); err != nil {
			return err
		}
	}
	return t.setVersion()
}
