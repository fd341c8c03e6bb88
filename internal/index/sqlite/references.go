package sqlite

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// The conditions below say whether something refers to a row: the truth behind the column "referenced". They are on
// the columns of the row's table, or on the parameters of a statement that writes it. The references of a manifest
// are written and removed with its row.

func blobReferenced(digest string) string {
	return fmt.Sprintf(`(EXISTS (SELECT 1 FROM layers l WHERE l.digest = %[1]s)
		OR EXISTS (SELECT 1 FROM manifests i WHERE i.digest = %[1]s))`, digest)
}

func layerReferenced(digest, repo string) string {
	return fmt.Sprintf(`EXISTS (SELECT 1 FROM refs f WHERE f.child = %s AND f.repo = %s)`, digest, repo)
}

// manifestReferenced is on the columns of a manifest's row, which is called row: a tag points to it, a manifest names
// it, or its subject exists and keeps it.
func manifestReferenced(row string) string {
	return fmt.Sprintf(`(EXISTS (SELECT 1 FROM tags t WHERE t.digest = %[1]s.digest AND t.repo = %[1]s.repo)
		OR EXISTS (SELECT 1 FROM refs f WHERE f.child = %[1]s.digest AND f.repo = %[1]s.repo)
		OR %[1]s.detached = 0 AND %[1]s.subject IS NOT NULL
			AND EXISTS (SELECT 1 FROM manifests s WHERE s.digest = %[1]s.subject AND s.repo = %[1]s.repo))`, row)
}

// The statements that bring the column "referenced" up to date. A manifest is ?1 in repository ?2.
var (
	noteBlob     = "UPDATE blobs SET referenced = " + blobReferenced("blobs.digest") + " WHERE digest = ?"
	noteManifest = "UPDATE manifests SET referenced = " + manifestReferenced("manifests") +
		" WHERE digest = ?1 AND repo = ?2"

	noteReferrers = "UPDATE manifests SET referenced = " + manifestReferenced("manifests") +
		" WHERE subject = ?1 AND repo = ?2"
	noteChildren = "UPDATE manifests SET referenced = " + manifestReferenced("manifests") + `
		WHERE digest IN (SELECT child FROM refs WHERE parent = ?1 AND repo = ?2) AND repo = ?2`
	noteLayers = "UPDATE layers SET referenced = " + layerReferenced("layers.digest", "layers.repo") + `
		WHERE digest IN (SELECT child FROM refs WHERE parent = ?1 AND repo = ?2) AND repo = ?2`
)

func (t *tx) noteBlob(d digest.Digest) error { return t.exec(noteBlob, packed(d)) }

func (t *tx) noteManifest(repo string, d digest.Digest) error {
	return t.exec(noteManifest, packed(d), repository(repo))
}

// noteParts brings a manifest whose row was added up to date, and all that it may refer to.
func (t *tx) noteParts(k layout.Key) error {
	for _, q := range []string{noteManifest, noteReferrers, noteChildren, noteLayers} {
		if err := t.exec(q, packed(k.Digest), repository(k.Repository)); err != nil {
			return err
		}
	}
	return t.noteBlob(k.Digest)
}
