package sqlite

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// View implements index.Store.
func (s *Store) View(ctx context.Context, read func(index.Reader) error) error {
	return s.note(s.file.Load().read.view(ctx, func(q querier) error { return read(&reader{q}) }))
}

type reader struct{ q querier }

// Totals implements index.Reader.
func (r *reader) Totals() (t index.Totals, err error) {
	_, err = r.q.one([]any{&t.Tags, &t.Manifests, &t.Blobs, &t.Bytes},
		"SELECT tags, manifests, blobs, bytes FROM totals")
	return t, err
}

// Row implements index.Reader.
func (r *reader) Row(k layout.Key) (*index.Row, error) { return r.q.row(k) }

// row returns the row of a key, nil if there is none.
func (q querier) row(k layout.Key) (*index.Row, error) {
	table, cond, args := where(k)
	return q.first(k.Kind, "FROM "+table+" m WHERE "+cond, args...)
}

// first returns the first row that a query finds, or nil.
func (q querier) first(kind layout.Kind, from string, args ...any) (*index.Row, error) {
	a, err := q.query("SELECT "+columns(kind)+" "+from, args...)
	if err != nil {
		return nil, err
	}
	defer a.close()
	if found, err := a.next(); err != nil || !found {
		return nil, err
	}
	row, err := scanKind(kind)(a)
	return &row, err
}

// where says which row is that of a key.
func where(k layout.Key) (table, cond string, args []any) {
	switch k.Kind {
	case layout.Blob:
		return "blobs", "digest = ?", []any{packed(k.Digest)}
	case layout.Layer:
		return "layers", "digest = ? AND repo = ?", []any{packed(k.Digest), repository(k.Repository)}
	case layout.Manifest:
		return "manifests", "digest = ? AND repo = ?", []any{packed(k.Digest), repository(k.Repository)}
	}
	return "tags", "repo = ? AND name = ?", []any{repository(k.Repository), k.Tag}
}

// millis is a time of the database, which is in milliseconds since 1970.
func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

const (
	blobColumns     = "m.digest, m.size, m.placed, m.created_at, m.accessed_at, m.disk"
	layerColumns    = "m.digest, m.repo, m.placed, m.created_at, m.accessed_at"
	manifestColumns = "m.digest, m.repo, m.media_type, m.artifact_type, m.config, m.subject, m.size, m.placed, " +
		"m.detached, m.created_at, m.accessed_at"
	tagColumns = "m.digest, m.repo, m.name, m.created_at, m.accessed_at, m.history"
)

func columns(k layout.Kind) string {
	return [...]string{layout.Blob: blobColumns, layout.Layer: layerColumns, layout.Manifest: manifestColumns,
		layout.Tag: tagColumns}[k]
}

func scanKind(k layout.Kind) func(*answer) (index.Row, error) {
	return [...]func(*answer) (index.Row, error){layout.Blob: scanBlob, layout.Layer: scanLayer,
		layout.Manifest: scanManifest, layout.Tag: scanTag}[k]
}

func scanBlob(a *answer) (r index.Row, err error) {
	var created, accessed int64
	err = a.scan((*packed)(&r.Digest), &r.Size, &r.Placed, &created, &accessed, &r.Disk)
	r.Key, r.CreatedAt, r.AccessedAt = layout.BlobKey(r.Digest), millis(created), millis(accessed)
	return r, err
}

func scanLayer(a *answer) (r index.Row, err error) {
	var created, accessed int64
	var repo string
	err = a.scan((*packed)(&r.Digest), (*repository)(&repo), &r.Placed, &created, &accessed)
	r.Key, r.CreatedAt, r.AccessedAt = layout.LayerKey(repo, r.Digest), millis(created), millis(accessed)
	return r, err
}

func scanManifest(a *answer) (r index.Row, err error) {
	var created, accessed int64
	var repo string
	err = a.scan((*packed)(&r.Digest), (*repository)(&repo), &r.MediaType, &r.Artifact, (*packed)(&r.Config),
		(*packed)(&r.Subject),
		&r.Size, &r.Placed, &r.Detached, &created, &accessed)
	r.Key, r.CreatedAt, r.AccessedAt = layout.ManifestKey(repo, r.Digest), millis(created), millis(accessed)
	return r, err
}

func scanTag(a *answer) (r index.Row, err error) {
	var created, accessed int64
	var repo, name string
	err = a.scan((*packed)(&r.Digest), (*repository)(&repo), &name, &created, &accessed, &r.Disk)
	r.Key, r.Placed, r.CreatedAt, r.AccessedAt = layout.TagKey(repo, name), true, millis(created), millis(accessed)
	return r, err
}

// IdleTags implements index.Reader.
func (r *reader) IdleTags(before time.Time, f func(index.Row) error) error {
	return r.q.rows(layout.Tag, f, "FROM tags m WHERE m.accessed_at < ? ORDER BY m.accessed_at", cutoff(before))
}

// Unreferenced implements index.Reader.
func (r *reader) Unreferenced(kind layout.Kind, before time.Time, f func(index.Row) error) error {
	table, _, _ := where(layout.Key{Kind: kind})
	placed := ""
	if kind == layout.Manifest {
		placed = " AND m.placed = 1"
	}
	return r.q.rows(kind, f, "FROM "+table+" m WHERE m.referenced = 0"+placed+" AND m.accessed_at < ? "+
		"ORDER BY m.accessed_at", cutoff(before))
}

// Claims implements index.Reader.
func (r *reader) Claims(before time.Time, f func(index.Row) error) error {
	return r.q.rows(layout.Manifest, f, "FROM manifests m WHERE m.referenced = 0 AND m.placed = 0 "+
		"AND m.accessed_at < ? ORDER BY m.accessed_at", cutoff(before))
}

// rows calls f with each row of a kind that a query finds, in the order of the query.
func (q querier) rows(kind layout.Kind, f func(index.Row) error, from string, args ...any) error {
	scan := scanKind(kind)
	return q.each(func(a *answer) error {
		row, err := scan(a)
		if err != nil {
			return err
		}
		return f(row)
	}, "SELECT "+columns(kind)+" "+from, args...)
}

// list returns all rows of a kind that a query finds. It is for those that are few: the rest is for rows.
func (q querier) list(kind layout.Kind, from string, args ...any) (all []index.Row, err error) {
	err = q.rows(kind, func(r index.Row) error {
		all = append(all, r)
		return nil
	}, from, args...)
	return all, err
}

// Naming implements index.Reader.
func (r *reader) Naming() (tags []layout.Key, err error) {
	_, err = r.q.setting("naming", &tags)
	return tags, err
}

// References implements index.Reader.
func (r *reader) References(repo string, d digest.Digest) ([]digest.Digest, error) {
	return r.q.children("SELECT child FROM refs WHERE parent = ? AND repo = ?", packed(d), repository(repo))
}

func (q querier) children(query string, args ...any) (all []digest.Digest, err error) {
	err = q.each(func(a *answer) error {
		var child packed
		err := a.scan(&child)
		all = append(all, digest.Digest(child))
		return err
	}, query, args...)
	return all, err
}

// Tags implements index.Reader.
func (r *reader) Tags(repo string, d digest.Digest) ([]index.Row, error) { return r.q.tags(repo, d) }

func (q querier) tags(repo string, d digest.Digest) ([]index.Row, error) {
	rows, err := q.list(layout.Tag, "FROM tags m INDEXED BY tags_digest WHERE m.digest = ? AND m.repo = ?", packed(d),
		repository(repo))
	// SQLite takes ten times as long to sort nothing.
	slices.SortFunc(rows, func(a, b index.Row) int { return cmp.Compare(a.Key.Tag, b.Key.Tag) })
	return rows, err
}

// EachTag implements index.Reader.
func (r *reader) EachTag(repo string, f func(index.Row) error) error {
	return r.q.rows(layout.Tag, f, "FROM tags m WHERE m.repo = ?", repository(repo))
}

// Parents implements index.Reader.
func (r *reader) Parents(repo string, d digest.Digest, most int) ([]index.Row, error) {
	return r.q.parents(repo, d, most)
}

// parents: a join takes five times as long to find nothing.
func (q querier) parents(repo string, d digest.Digest, most int) ([]index.Row, error) {
	return q.list(layout.Manifest, "FROM manifests m WHERE m.repo = ?1 AND m.digest IN (SELECT parent "+
		"FROM refs WHERE repo = ?1 AND child = ?2 LIMIT ?3 + 0)",
		repository(repo), packed(d), limit(most))
}

// limit is the number that SQLite takes for "at most": negative for all. It is written as ? + 0, since SQLite
// plans a query anew for every bare parameter there.
func limit(most int) int {
	if most == 0 {
		return -1
	}
	return most
}

// Referrers implements index.Reader.
func (r *reader) Referrers(repo string, d digest.Digest) ([]index.Row, error) {
	return r.q.list(layout.Manifest, "FROM manifests m WHERE m.subject = ? AND m.repo = ?", packed(d), repository(repo))
}

// ReferrersAfter implements index.Reader.
func (r *reader) ReferrersAfter(repo string, d, after digest.Digest, artifactType string, most int) (
	[]index.Row, error) {
	from, err := packed(after).pack()
	if err != nil {
		return nil, err
	}
	if from == nil {
		from = []byte{} // before all, which NULL is not
	}
	return r.q.list(layout.Manifest, `FROM manifests m WHERE m.subject = +?1 AND m.repo = +?2
		AND m.digest > +?3 AND m.placed = 1
		AND (+?4 = '' OR m.artifact_type = +?4) ORDER BY m.digest LIMIT ?5 +
			0`, packed(d), repository(repo), from, artifactType, limit(most))
}

// Owners implements index.Reader.
func (r *reader) Owners(d digest.Digest, most int) ([]index.Row, error) {
	links, err := r.q.list(layout.Layer, "FROM layers m WHERE m.digest = ? LIMIT ? + 0", packed(d), limit(most))
	if err != nil {
		return nil, err
	}
	manifests, err := r.q.list(layout.Manifest, "FROM manifests m WHERE m.digest = ? LIMIT ? + 0", packed(d),
		limit(most))
	return append(links, manifests...), err
}

// Each implements index.Reader. CROSS JOIN: the rows come in the order of digests, so only those of one are sorted.
func (r *reader) Each(kind layout.Kind, f func(index.Row) error) error {
	table, _, _ := where(layout.Key{Kind: kind})
	order := [...]string{layout.Blob: "", layout.Layer: ", r.name", layout.Manifest: ", r.name",
		layout.Tag: ", r.name, m.name"}[kind]
	if order != "" {
		table += " m CROSS JOIN repositories r ON r.id = m.repo"
	} else {
		table += " m"
	}
	return r.q.rows(kind, f, "FROM "+table+" ORDER BY m.digest"+order)
}

// Names implements index.Reader.
func (r *reader) Names(repo, after string, most int) ([]string, error) {
	return r.q.names("SELECT name FROM tags WHERE repo = +? AND name > ? AND digest <> x'' ORDER BY name LIMIT ? + 0",
		repository(repo), after, limit(most))
}

// Repositories implements index.Reader.
func (r *reader) Repositories(after string, most int) ([]string, error) {
	return r.q.names(`SELECT name FROM repositories r WHERE name > ? AND EXISTS (SELECT 1 FROM manifests
		WHERE repo = r.id)
		ORDER BY name LIMIT ? + 0`, after, limit(most))
}

// HasRepository implements index.Reader.
func (r *reader) HasRepository(repo string) (bool, error) {
	return r.q.exists("SELECT 1 WHERE EXISTS (SELECT 1 FROM manifests WHERE repo = ?1) OR EXISTS (SELECT 1 "+
		"FROM layers WHERE repo = ?1)", repository(repo))
}

// Unread implements index.Reader.
func (r *reader) Unread() (index.Unread, error) { return r.q.unread() }

func (q querier) names(query string, args ...any) (all []string, err error) {
	err = q.each(func(a *answer) error {
		var name string
		err := a.scan(&name)
		all = append(all, name)
		return err
	}, query, args...)
	return all, err
}
