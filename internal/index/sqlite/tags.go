package sqlite

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// putTag writes the row of a tag, and records the use of its manifest. Both have the latest of a time, of their last
// uses, and of that of what the tag is about, which it returns. Before the transaction ends, the caller gives it to
// what lives with the manifest.
func (t *tx) putTag(repo, tag string, to digest.Digest, at int64) (m raisedManifest, used int64, err error) {
	old, err := t.row(layout.TagKey(repo, tag))
	if err != nil {
		return m, 0, err
	}
	if err := t.enter(repo); err != nil {
		return m, 0, err
	}
	subject := subjectOf(tag)
	if subject != nil {
		if at, err = t.noteSignature(repo, subject, at); err != nil {
			return m, 0, err
		}
	}
	if old != nil {
		at = max(at, old.AccessedAt.UnixMilli())
	}
	m, at, err = t.useTagged(repo, to, at)
	if err != nil {
		return m, 0, err
	}
	err = t.exec(`INSERT INTO tags (repo, name, digest, created_at, accessed_at, subject)
		VALUES (?1, ?2, coalesce(?3, x''), ?4, ?4, ?5)
		ON CONFLICT (repo, name) DO UPDATE SET accessed_at = excluded.accessed_at, digest = excluded.digest,
			history = 0,
			created_at = CASE WHEN digest = excluded.digest THEN created_at ELSE excluded.created_at END`,
		repository(repo), tag, packed(to), at, subject)
	if err != nil {
		return m, 0, err
	}
	if old != nil && old.Digest != to {
		err = t.noteManifest(repo, old.Digest)
	}
	return m, at, err
}

// useTagged records a use of a manifest that a tag is about to point to. It returns that manifest, and its
// last use, which may be later than at. A manifest without a row has that of the tag when it is adopted.
func (t *tx) useTagged(repo string, d digest.Digest, at int64) (m raisedManifest, used int64, err error) {
	m, used = raisedManifest{digest: d}, at
	var tagged bool
	_, err = t.one([]any{&used, &m.hasFamily, &tagged}, `UPDATE manifests
		SET accessed_at = max(accessed_at, ?3), referenced = 1
		WHERE digest = ?1 AND repo = ?2
		RETURNING accessed_at, family, EXISTS (SELECT 1 FROM tags g INDEXED BY tags_digest
			WHERE g.digest = manifests.digest AND g.repo = manifests.repo)`, packed(d), repository(repo), at)
	m.settled = !tagged && !m.hasFamily
	return m, used, err
}

// noteSignature marks the manifests, of all repositories, that a tag is about by its name. It returns the latest of a
// time and of the last use of that manifest in the tag's own repository.
func (t *tx) noteSignature(repo string, subject []byte, at int64) (int64, error) {
	first, last := digestsOf(subject)
	if err := t.exec("UPDATE manifests SET family = 1 WHERE digest BETWEEN ?1 AND ?2 AND family = 0", first,
		last); err != nil {
		return at, err
	}
	_, err := t.one([]any{&at}, "SELECT max(?4, coalesce(max(accessed_at), 0)) FROM manifests "+
		"WHERE digest BETWEEN ?1 AND ?2 AND repo = +?3",
		first, last, repository(repo), at)
	return at, err
}

// subjectOf is what a tag is about by its name, as the first 33 bytes of a stored digest, or nil.
func subjectOf(tag string) []byte {
	algorithm, digits, _ := strings.Cut(layout.About(tag), ":")
	sum, err := hex.DecodeString(digits)
	if err != nil || len(sum) == 0 {
		return nil
	}
	return append([]byte{byte(slices.Index(algorithms, digest.Algorithm(algorithm)))}, sum...)
}

// digestsOf are the first and the last of the stored digests that begin so.
func digestsOf(subject []byte) (first, last []byte) {
	return subject, append(slices.Clone(subject), bytes.Repeat([]byte{0xff}, sha512.Size-sha256.Size)...)
}

// About implements index.Reader.
func (r *reader) About(tag string) ([]index.Row, error) {
	subject := subjectOf(tag)
	if subject == nil {
		return nil, nil
	}
	first, last := digestsOf(subject)
	return r.q.list(layout.Manifest, "FROM manifests m WHERE m.digest BETWEEN ? AND ?", first, last)
}
