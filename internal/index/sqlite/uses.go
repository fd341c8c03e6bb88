package sqlite

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Nested implements index.Reader.
func (r *reader) Nested(f func(parent, child digest.Digest) error) error {
	// CROSS JOIN: the manifests are few, so they go first.
	return r.q.each(func(a *answer) error {
		var parent, child packed
		if err := a.scan(&parent, &child); err != nil {
			return err
		}
		return f(digest.Digest(parent), digest.Digest(child))
	}, "SELECT DISTINCT f.parent, f.child FROM manifests m CROSS JOIN refs f ON f.child = m.digest")
}

// Uses implements index.Reader. The three tables are read side by side, each along a tree that is
// ordered by digest, so that nothing is looked up, sorted or kept.
func (r *reader) Uses(f func(index.Use) error) error {
	links, err := walk(r.q, scanLink, "SELECT digest, repo, placed, accessed_at FROM layers ORDER BY digest")
	if err != nil {
		return err
	}
	defer links.close()
	namings, err := walk(r.q, scanNaming, "SELECT child, repo, parent FROM refs ORDER BY child")
	if err != nil {
		return err
	}
	defer namings.close()
	var u index.Use
	return r.q.rows(layout.Blob, func(b index.Row) (err error) {
		u.Blob = b
		if u.Links, err = links.take(b.Digest, u.Links[:0]); err != nil {
			return err
		}
		if u.Named, err = namings.take(b.Digest, u.Named[:0]); err != nil {
			return err
		}
		slices.SortFunc(u.Links, func(a, b index.Link) int { return cmp.Compare(a.Repository, b.Repository) })
		slices.SortFunc(u.Named, func(a, b index.Naming) int {
			return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Manifest, b.Manifest))
		})
		return f(u)
	}, "FROM blobs m WHERE m.placed = 1 ORDER BY m.digest")
}

func scanLink(a *answer) (d digest.Digest, l index.Link, err error) {
	var accessed int64
	err = a.scan((*packed)(&d), (*repository)(&l.Repository), &l.Placed, &accessed)
	l.AccessedAt = millis(accessed)
	return d, l, err
}

func scanNaming(a *answer) (d digest.Digest, n index.Naming, err error) {
	err = a.scan((*packed)(&d), (*repository)(&n.Repository), (*packed)(&n.Manifest))
	return d, n, err
}

// walker reads rows that come in the order of a digest, one ahead. Packed digests are in the same order
// as written ones.
type walker[T any] struct {
	*answer
	read func(*answer) (digest.Digest, T, error)
	at   digest.Digest // empty at the end
	head T
}

func walk[T any](q querier, read func(*answer) (digest.Digest, T, error), query string) (*walker[T], error) {
	a, err := q.query(query)
	if err != nil {
		return nil, err
	}
	w := &walker[T]{answer: a, read: read}
	if err := w.step(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *walker[T]) step() error {
	w.at = ""
	more, err := w.next()
	if err == nil && more {
		w.at, w.head, err = w.read(w.answer)
	}
	return err
}

// take appends the rows of d, and skips those before.
func (w *walker[T]) take(d digest.Digest, into []T) ([]T, error) {
	for w.at != "" && w.at <= d {
		if w.at == d {
			into = append(into, w.head)
		}
		if err := w.step(); err != nil {
			return into, err
		}
	}
	return into, nil
}
