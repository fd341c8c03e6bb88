package sqlite

import (
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// leaseBytes records a read of a link's bytes. Where a manifest names the link, that is a use of the last used image
// that holds it, and the link's own row needs no write: it takes the last use of that manifest when that is removed.
func (s *Store) leaseBytes(t *tx, link layout.Key, after int64) ([]index.Leased, error) {
	owner, found, err := t.lastOwner(link.Repository, link.Digest)
	if err != nil {
		return nil, err
	}
	if found {
		links, err := t.linksBeside(link, owner.digest)
		if err != nil {
			return nil, err
		}
		if links != nil {
			at, err := s.useImage(t, link.Repository, owner, after)
			for i := range links {
				links[i].At = millis(at)
			}
			return links, err
		}
	}
	leased, err := t.lease(link)
	return []index.Leased{leased}, err
}

// mostBeside is how many links beside one that is read are looked up, of which images have a few and hostile manifests
// tens of thousands.
const mostBeside = 128

// linksBeside returns the link, and others that a manifest names. Nil: the link has no row.
func (t *tx) linksBeside(link layout.Key, of digest.Digest) (links []index.Leased, err error) {
	there := false
	err = t.each(func(a *answer) error {
		l := index.Leased{Found: true}
		if err := a.scan((*packed)(&l.Digest), &l.Placed, &l.Size); err != nil {
			return err
		}
		links = append(links, l)
		if l.Digest == link.Digest {
			there = true
			links[0], links[len(links)-1] = l, links[0]
		}
		return nil
	}, `SELECT l.digest, l.placed AND coalesce(b.placed, 0), b.size
		FROM (SELECT +?1 AS digest UNION ALL
			SELECT child FROM (SELECT child FROM refs
				WHERE parent = +?2 AND repo = +?3 AND child <> +?1 LIMIT +?4)) named
		CROSS JOIN layers l ON l.digest = named.digest AND l.repo = +?3
		LEFT JOIN blobs b ON b.digest = l.digest`,
		packed(link.Digest), packed(of), repository(link.Repository), mostBeside)
	if !there {
		return nil, err
	}
	return links, err
}

// useImage records a use of an image, of which a manifest is known that names what is used, unless the image was used
// after a time. It returns the last use. It climbs from the manifest to the last used one that names it, and on from
// there. It ends at a manifest that nothing names, and at a tagged one, which is an image by itself, unless what names
// that was used as lately: the server that leases from memory cannot tell uses apart that are no further from each
// other than the resolution.
func (s *Store) useImage(t *tx, repo string, top namer, after int64) (at int64, err error) {
	for {
		above, found, err := t.lastOwner(repo, top.digest)
		if err != nil {
			return 0, err
		}
		if found && top.tagged && above.at < top.at {
			_, resolution, err := s.owed(t.querier)
			if err != nil {
				return 0, err
			}
			found = above.at >= top.at-resolution.Milliseconds()
		}
		if !found {
			break
		}
		top = above
	}
	if top.at > after {
		return top.at, nil
	}
	return t.now, t.use(repo, top.digest, t.now)
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
