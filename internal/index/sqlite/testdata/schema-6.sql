-- Digests are stored as one byte for the algorithm and the raw sum; times as milliseconds since 1970.
-- placed: its file was seen on disk.
-- referenced: another row refers to it. A hint by which what may be removed is found, never a condition to remove it.

CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The servers that still owe what they promised, and the one that joined last. Durations are in nanoseconds.
CREATE TABLE servers (
  id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL, grace INTEGER NOT NULL, resolution INTEGER NOT NULL,
  joined INTEGER NOT NULL, beat INTEGER NOT NULL
);

-- A repository is a number in the other tables, of which most trees repeat it. It has one as long as it has a row there.
CREATE TABLE repositories (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE blobs (
  digest BLOB PRIMARY KEY, size INTEGER NOT NULL, placed INTEGER NOT NULL, referenced INTEGER NOT NULL,
  created_at INTEGER NOT NULL, accessed_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX blobs_unreferenced ON blobs (accessed_at) WHERE referenced = 0;

-- own_at: when the link was last used itself, if its last use was the end of an upload of the same push.
CREATE TABLE layers (
  digest BLOB NOT NULL, repo INTEGER NOT NULL, placed INTEGER NOT NULL, referenced INTEGER NOT NULL,
  created_at INTEGER NOT NULL, accessed_at INTEGER NOT NULL, own_at INTEGER, PRIMARY KEY (digest, repo)
) WITHOUT ROWID;
CREATE INDEX layers_unreferenced ON layers (accessed_at) WHERE referenced = 0;
CREATE INDEX layers_accessed ON layers (repo, accessed_at);

-- accessed_at, here and of tags: the effective last use. No row is older than its owners.
-- detached: its subject does not keep it, since that would close a circle.
-- family: children, referrers or tags that are about it may live with it. A stale 1 costs a look, a wrong 0 a use.
CREATE TABLE manifests (
  digest BLOB NOT NULL, repo INTEGER NOT NULL, media_type TEXT NOT NULL, artifact_type TEXT NOT NULL,
  config BLOB, subject BLOB, size INTEGER NOT NULL,
  placed INTEGER NOT NULL, referenced INTEGER NOT NULL, detached INTEGER NOT NULL, family INTEGER NOT NULL,
  created_at INTEGER NOT NULL, accessed_at INTEGER NOT NULL, PRIMARY KEY (digest, repo)
) WITHOUT ROWID;
CREATE INDEX manifests_unreferenced ON manifests (placed, accessed_at) WHERE referenced = 0;
CREATE INDEX manifests_latest ON manifests (accessed_at);
CREATE INDEX manifests_repo ON manifests (repo);
CREATE INDEX manifests_subject ON manifests (subject, repo) WHERE subject IS NOT NULL;

CREATE TABLE refs (parent BLOB NOT NULL, repo INTEGER NOT NULL, child BLOB NOT NULL, PRIMARY KEY (parent, repo, child)) WITHOUT ROWID;
CREATE INDEX refs_child ON refs (child, repo);

-- tags_about: in the order in which a use of what they are about is given to them.
-- subject: what a tag is about that is called sha256-HEX or sha256-HEX.sig, as the first 33 bytes of a digest.
CREATE TABLE tags (
  repo INTEGER NOT NULL, name TEXT NOT NULL, digest BLOB NOT NULL,
  created_at INTEGER NOT NULL, accessed_at INTEGER NOT NULL, subject BLOB, PRIMARY KEY (repo, name)
) WITHOUT ROWID;
CREATE INDEX tags_subject ON tags (subject, repo) WHERE subject IS NOT NULL;
CREATE INDEX tags_about ON tags (subject, accessed_at) WHERE subject IS NOT NULL;
CREATE INDEX tags_digest ON tags (digest, repo);
CREATE INDEX tags_accessed ON tags (accessed_at);

CREATE TABLE totals (one INTEGER PRIMARY KEY CHECK (one = 1), tags INTEGER, manifests INTEGER, blobs INTEGER, bytes INTEGER);
INSERT INTO totals VALUES (1, 0, 0, 0, 0);

CREATE TRIGGER tags_in AFTER INSERT ON tags BEGIN UPDATE totals SET tags = tags + 1; END;
CREATE TRIGGER tags_out AFTER DELETE ON tags BEGIN UPDATE totals SET tags = tags - 1; END;
CREATE TRIGGER manifests_in AFTER INSERT ON manifests WHEN NEW.placed BEGIN UPDATE totals SET manifests = manifests + 1; END;
CREATE TRIGGER manifests_out AFTER DELETE ON manifests WHEN OLD.placed BEGIN UPDATE totals SET manifests = manifests - 1; END;
CREATE TRIGGER manifests_place AFTER UPDATE OF placed ON manifests WHEN OLD.placed <> NEW.placed BEGIN
  UPDATE totals SET manifests = manifests + NEW.placed - OLD.placed;
END;
CREATE TRIGGER blobs_in AFTER INSERT ON blobs WHEN NEW.placed BEGIN
  UPDATE totals SET blobs = blobs + 1, bytes = bytes + NEW.size;
END;
CREATE TRIGGER blobs_out AFTER DELETE ON blobs WHEN OLD.placed BEGIN
  UPDATE totals SET blobs = blobs - 1, bytes = bytes - OLD.size;
END;
CREATE TRIGGER blobs_place AFTER UPDATE OF placed, size ON blobs WHEN OLD.placed <> NEW.placed OR OLD.size <> NEW.size BEGIN
  UPDATE totals SET blobs = blobs + NEW.placed - OLD.placed, bytes = bytes + NEW.placed * NEW.size - OLD.placed * OLD.size;
END;
