package sqlite

import (
	"errors"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// keptByPlaced is on a manifest m: a placed manifest names it, or is its subject and keeps it.
const keptByPlaced = `(EXISTS (SELECT 1 FROM refs f JOIN manifests p ON p.digest = f.parent AND p.repo = f.repo
		WHERE f.child = m.digest AND f.repo = m.repo AND p.placed = 1)
	OR m.subject IS NOT NULL AND m.detached = 0
		AND EXISTS (SELECT 1 FROM manifests s WHERE s.digest = m.subject AND s.repo = m.repo AND s.placed = 1))`

const isImage = `m.placed = 1 AND (EXISTS (SELECT 1 FROM tags t WHERE t.digest = m.digest AND t.repo = m.repo)
	OR NOT ` + keptByPlaced + `)`

// ListImages implements index.Reader.
func (r *reader) ListImages(latest int, f func(index.Image) error) error {
	l := latestRows{most: latest}
	from := "FROM manifests m WHERE " + isImage
	if latest > 0 {
		from = "FROM manifests m INDEXED BY manifests_latest WHERE " + isImage + " ORDER BY m.accessed_at DESC"
	}
	return l.collect(r.q, layout.Manifest, from, func(m index.Row) error {
		i := index.Image{Row: m}
		tags, err := r.q.tags(m.Key.Repository, m.Digest)
		if err != nil {
			return err
		}
		for _, t := range tags {
			i.Tags = append(i.Tags, t.Key.Tag)
		}
		if len(tags) == 0 {
			if i.HasParent, i.HasHost, err = r.q.claimsAbove(m); err != nil {
				return err
			}
		}
		return f(i)
	})
}

// claimsAbove says whether another manifest names a manifest, and whether its subject has a row. Both may be claims,
// which keep it too.
func (q querier) claimsAbove(m index.Row) (parent, host bool, err error) {
	parent, err = q.exists("SELECT 1 FROM refs WHERE child = ? AND repo = ?", packed(m.Digest),
		repository(m.Key.Repository))
	if err != nil || m.Subject == "" || m.Detached {
		return parent, false, err
	}
	host, err = q.exists("SELECT 1 FROM manifests WHERE digest = ? AND repo = ?", packed(m.Subject),
		repository(m.Key.Repository))
	return parent, host, err
}

// ListTags implements index.Reader.
func (r *reader) ListTags(latest int, f func(index.Image) error) error {
	l := latestRows{most: latest}
	from := "FROM tags m"
	if latest > 0 {
		from = "FROM tags m INDEXED BY tags_accessed ORDER BY m.accessed_at DESC"
	}
	return l.collect(r.q, layout.Tag, from, func(t index.Row) error {
		var placed bool
		_, err := r.q.one([]any{&t.MediaType, &placed},
			"SELECT media_type, placed FROM manifests WHERE digest = ? AND repo = ?",
			packed(t.Digest), repository(t.Key.Repository))
		if err != nil {
			return err
		}
		return f(index.Image{Row: t, Absent: !placed})
	})
}

// latestRows are the rows that were used last: so many, and those that were used at the same time as the last of them.
type latestRows struct {
	most int // 0: all rows
	rows []index.Row
}

// collect calls f with the rows of a query that is ordered by last use. If there is a limit, f is called when the query
// has ended.
func (l *latestRows) collect(q querier, kind layout.Kind, from string, f func(index.Row) error) error {
	if l.most == 0 {
		return q.rows(kind, f, from)
	}
	err := q.rows(kind, func(row index.Row) error {
		if n := len(l.rows); n >= l.most && row.AccessedAt.Before(l.rows[n-1].AccessedAt) {
			return errEnough
		}
		l.rows = append(l.rows, row)
		return nil
	}, from)
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	for _, row := range l.rows {
		if err := f(row); err != nil {
			return err
		}
	}
	return nil
}

// errEnough ends a query.
var errEnough = errors.New("enough rows were read")

// ListRepositories implements index.Reader.
func (r *reader) ListRepositories(f func(index.Repository) error) error {
	return r.q.each(func(a *answer) error {
		var repo index.Repository
		var links, manifests int64
		if err := a.scan(&repo.Name, &repo.Tags, &repo.Manifests, &links, &manifests); err != nil {
			return err
		}
		repo.LastUse = millis(max(links, manifests))
		return f(repo)
	}, `SELECT r.name, (SELECT count(*) FROM tags WHERE repo = r.id), total(m.placed),
			(SELECT max(accessed_at) FROM layers WHERE repo = r.id), max(m.accessed_at)
		FROM repositories r LEFT JOIN manifests m ON m.repo = r.id GROUP BY r.id`)
}
