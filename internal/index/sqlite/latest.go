package sqlite

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// latestBlobs goes back over the last uses of manifests, and of the links and blobs that
// nothing refers to. The first use that reaches a blob is its last one.
func (q querier) latestBlobs(listing index.BlobListing, f func(index.Blob) error) error {
	l := latest{q: q, seen: map[digest.Digest]bool{}}
	defer l.close()
	for _, c := range []struct {
		kind layout.Kind
		from string
	}{
		{layout.Manifest, "FROM manifests m INDEXED BY manifests_latest"},
		{layout.Layer, "FROM layers m INDEXED BY layers_unreferenced WHERE m.referenced = 0"},
		{layout.Blob, "FROM blobs m INDEXED BY blobs_unreferenced WHERE m.referenced = 0"},
	} {
		if err := l.follow(c.kind, c.from+" ORDER BY m.accessed_at DESC"); err != nil {
			return err
		}
	}
	found, err := l.find(listing.Latest)
	if err != nil {
		return err
	}
	for _, row := range found {
		b, err := q.blob(row, listing.Owners)
		if err != nil {
			return err
		}
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

// latest merges the last uses of what can hold a blob.
type latest struct {
	q       querier
	cursors []*cursor
	seen    map[digest.Digest]bool
}

// cursor is a query with its next row.
type cursor struct {
	*answer
	read func(*answer) (index.Row, error)
	row  index.Row
	end  bool
}

// step reads the next row. At the end, and after an error, the cursor is at its end.
func (c *cursor) step() error {
	more, err := c.next()
	if c.end = err != nil || !more; c.end {
		return err
	}
	c.row, err = c.read(c.answer)
	return err
}

// follow adds a query to those that are merged. It has to be ordered by last use, the latest first.
func (l *latest) follow(kind layout.Kind, from string) error {
	a, err := l.q.query("SELECT " + columns(kind) + " " + from)
	if err != nil {
		return err
	}
	c := &cursor{answer: a, read: scanKind(kind)}
	l.cursors = append(l.cursors, c)
	return c.step()
}

// close ends all queries, so that the transaction can end.
func (l *latest) close() {
	for _, c := range l.cursors {
		c.close()
	}
}

// find returns so many blobs, and those that were used at the same time as the last of them.
func (l *latest) find(most int) (found []index.Row, err error) {
	var at time.Time
	for {
		c := l.newest()
		if c == nil || len(found) >= most && c.row.AccessedAt.Before(at) {
			return found, nil
		}
		at = c.row.AccessedAt
		digests, err := l.reached(c.row)
		if err != nil {
			return nil, err
		}
		for _, d := range digests {
			b, err := l.q.row(layout.BlobKey(d))
			if err != nil {
				return nil, err
			}
			if b != nil && b.Placed {
				found = append(found, *b)
			}
		}
		if err := c.step(); err != nil {
			return nil, err
		}
	}
}

// newest returns the cursor whose row was used last; nil: all are at their end.
func (l *latest) newest() (newest *cursor) {
	for _, c := range l.cursors {
		if !c.end && (newest == nil || c.row.AccessedAt.After(newest.row.AccessedAt)) {
			newest = c
		}
	}
	return newest
}

// reached returns the blobs that a row refers to and that were not reached yet.
func (l *latest) reached(row index.Row) (digests []digest.Digest, err error) {
	all := []digest.Digest{row.Digest}
	if row.Key.Kind == layout.Manifest {
		named, err := l.q.children(`SELECT f.child FROM refs f WHERE f.parent = ?1 AND f.repo = ?2
			AND (EXISTS (SELECT 1 FROM layers l WHERE l.digest = f.child AND l.repo = f.repo)
				OR EXISTS (SELECT 1 FROM manifests c WHERE c.digest = f.child AND c.repo = f.repo))`,
			packed(row.Digest), repository(row.Key.Repository))
		if err != nil {
			return nil, err
		}
		all = append(all, named...)
	}
	for _, d := range all {
		if !l.seen[d] {
			l.seen[d] = true
			digests = append(digests, d)
		}
	}
	return digests, nil
}
