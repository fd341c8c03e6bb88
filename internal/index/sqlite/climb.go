package sqlite

import (
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// useImage records a use of the last used image that holds a link. It climbs from the link to the last used manifest
// that names it, and on from there to the last used one that names that. It ends at a manifest that nothing names, and
// at a tagged one, which is an image by itself, unless what names that was used as lately: the server that leases from
// memory cannot tell uses apart that are no further from each other than the resolution.
func (s *Store) useImage(t *tx, link layout.Key) error {
	top := namer{digest: link.Digest}
	for {
		above, found, err := t.lastOwner(link.Repository, top.digest)
		if err != nil {
			return err
		}
		if found && top.tagged && above.at < top.at {
			_, resolution, err := s.owed(t.querier)
			if err != nil {
				return err
			}
			found = above.at >= top.at-resolution.Milliseconds()
		}
		if !found {
			return t.use(link.Repository, top.digest, t.now)
		}
		top = above
	}
}

// namer is a placed manifest that names another one or a blob.
type namer struct {
	digest digest.Digest
	at     int64 // its last use
	tagged bool
}

// manyOwners is how many manifests are read to find the one that was used last. Thousands of images share their base,
// and other writers wait for the transaction that looks for one of them.
const manyOwners = 256

// lastOwner returns the manifest of a repository that was used last of those that name something, or one of those that
// were used last at one time. False: nothing names it. Where more name it than are read, it is looked for among the
// manifests of the store that were used last. An image that was asked for lately is there; only if none of them names
// it, all are read that do.
func (t *tx) lastOwner(repo string, of digest.Digest) (last namer, found bool, err error) {
	last, found, read, err := t.readOwner(lastOfFew, packed(of), repository(repo), manyOwners)
	if err != nil || read <= manyOwners {
		return last, found, err
	}
	last, found, _, err = t.readOwner(lastOfLatest, packed(of), repository(repo), manyOwners)
	if err != nil || found {
		return last, found, err
	}
	last, found, _, err = t.readOwner(lastOfAll, packed(of), repository(repo))
	return last, found, err
}

// readOwner returns what a statement below finds, and how many manifests it has read.
func (t *tx) readOwner(statement string, args ...any) (last namer, found bool, read int, err error) {
	_, err = t.one([]any{&found, &read, &last.at, (*packed)(&last.digest), &last.tagged}, statement, args...)
	return last, found, read, err
}

// Each statement finds the last used manifest of repository ?2 that names ?1, and counts those that it has read:
// lastOfFew reads one more than ?3 that do, and lastOfLatest those of the ?3 manifests that were used last. With max,
// SQLite takes the other columns from the row that has it.
const (
	lastOfFew = lastOwner + `
		FROM (SELECT parent AS digest FROM refs WHERE child = +?1 AND repo = +?2 AND parent <> +?1 LIMIT ?3 + 1) naming
		CROSS JOIN manifests m ON m.digest = naming.digest AND m.repo = +?2`

	lastOfLatest = lastOwner + `
		FROM (SELECT digest, repo FROM manifests ORDER BY accessed_at DESC LIMIT ?3 + 0) latest
		CROSS JOIN refs f ON f.parent = latest.digest AND f.repo = latest.repo AND f.child = +?1 AND f.parent <> +?1
		CROSS JOIN manifests m ON m.digest = latest.digest AND m.repo = latest.repo
		WHERE latest.repo = +?2`

	lastOfAll = lastOwner + `
		FROM refs f CROSS JOIN manifests m ON m.digest = f.parent AND m.repo = f.repo
		WHERE f.child = +?1 AND f.repo = +?2 AND f.parent <> +?1`

	lastOwner = `SELECT sum(m.placed) > 0, count(*), max(CASE WHEN m.placed THEN m.accessed_at END), m.digest,
		EXISTS (SELECT 1 FROM tags g WHERE g.digest = m.digest AND g.repo = m.repo)`
)
