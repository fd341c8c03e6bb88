-- What schema 7 has beside schema 6, which is in schema.sql.

-- What is stored takes more of a disk than the bytes of its blobs: these columns are what du shows of it, in bytes.

-- disk: what the file of a blob takes, with its own directory. 0: it has none.
ALTER TABLE blobs ADD COLUMN disk INTEGER NOT NULL DEFAULT 0;

-- history: what the history of a tag takes beyond the entry that dcs keeps.
ALTER TABLE tags ADD COLUMN history INTEGER NOT NULL DEFAULT 0;

-- The directories that hold those of rows, by their paths below the root of the tree, and what each takes itself.
CREATE TABLE directories (path TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;

ALTER TABLE totals ADD COLUMN layers INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN disk INTEGER NOT NULL DEFAULT 0;

CREATE TRIGGER layers_in AFTER INSERT ON layers WHEN NEW.placed BEGIN UPDATE totals SET layers = layers + 1; END;
CREATE TRIGGER layers_out AFTER DELETE ON layers WHEN OLD.placed BEGIN UPDATE totals SET layers = layers - 1; END;
CREATE TRIGGER layers_place AFTER UPDATE OF placed ON layers WHEN OLD.placed <> NEW.placed BEGIN
  UPDATE totals SET layers = layers + NEW.placed - OLD.placed;
END;
CREATE TRIGGER blobs_disk_in AFTER INSERT ON blobs WHEN NEW.disk <> 0 BEGIN UPDATE totals SET disk = disk + NEW.disk; END;
CREATE TRIGGER blobs_disk_out AFTER DELETE ON blobs WHEN OLD.disk <> 0 BEGIN UPDATE totals SET disk = disk - OLD.disk; END;
CREATE TRIGGER blobs_disk AFTER UPDATE OF disk ON blobs WHEN OLD.disk <> NEW.disk BEGIN
  UPDATE totals SET disk = disk + NEW.disk - OLD.disk;
END;
CREATE TRIGGER tags_history_in AFTER INSERT ON tags WHEN NEW.history <> 0 BEGIN
  UPDATE totals SET disk = disk + NEW.history;
END;
CREATE TRIGGER tags_history_out AFTER DELETE ON tags WHEN OLD.history <> 0 BEGIN
  UPDATE totals SET disk = disk - OLD.history;
END;
CREATE TRIGGER tags_history AFTER UPDATE OF history ON tags WHEN OLD.history <> NEW.history BEGIN
  UPDATE totals SET disk = disk + NEW.history - OLD.history;
END;
CREATE TRIGGER directories_in AFTER INSERT ON directories BEGIN UPDATE totals SET disk = disk + NEW.bytes; END;
CREATE TRIGGER directories_out AFTER DELETE ON directories BEGIN UPDATE totals SET disk = disk - OLD.bytes; END;
CREATE TRIGGER directories_grow AFTER UPDATE OF bytes ON directories BEGIN
  UPDATE totals SET disk = disk + NEW.bytes - OLD.bytes;
END;

-- History, which nothing depends on: images that were removed, runs of gc, and pulls by the hour. The oldest rows go
-- first, so those that are left have numbers without a gap.
CREATE TABLE removals (
  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, repo TEXT NOT NULL, tag TEXT NOT NULL, digest BLOB NOT NULL,
  accessed_at INTEGER NOT NULL, reason TEXT NOT NULL, rule INTEGER NOT NULL, rule_name TEXT NOT NULL,
  unique_bytes INTEGER, pushed_by TEXT
);
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, started_at INTEGER NOT NULL, took INTEGER NOT NULL, ended INTEGER NOT NULL, by TEXT NOT NULL,
  images INTEGER NOT NULL, tags INTEGER NOT NULL, manifests INTEGER NOT NULL, blobs INTEGER NOT NULL,
  uploads INTEGER NOT NULL, freed_bytes INTEGER NOT NULL, error TEXT NOT NULL, held_by TEXT NOT NULL
);
CREATE TABLE pulls (
  hour INTEGER PRIMARY KEY, hits INTEGER NOT NULL, misses INTEGER NOT NULL, bytes INTEGER NOT NULL
);

-- A pin is of a tag, with an empty digest, or of a manifest, with an empty tag. until: 0 without an end.
CREATE TABLE pins (
  repo INTEGER NOT NULL, tag TEXT NOT NULL, digest BLOB NOT NULL, made_at INTEGER NOT NULL,
  until INTEGER NOT NULL, note TEXT NOT NULL, PRIMARY KEY (repo, tag, digest)
) WITHOUT ROWID;
CREATE INDEX pins_until ON pins (until) WHERE until > 0;
