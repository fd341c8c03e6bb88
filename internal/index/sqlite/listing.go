package sqlite

import (
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

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

// link is a layer link of a blob.
type link struct {
	repo   int64
	placed bool
	used   int64
}

// owner is a manifest: whose file a blob is, or which names it.
type owner struct {
	repo   int64
	digest packed
	used   int64
	placed bool
	media  string // of the manifest whose file it is
	config bool   // it names the blob as its config
	kept   bool   // a tag or another manifest refers to it
}

const (
	linksOf  = "SELECT digest, repo, placed, accessed_at FROM layers"
	filesOf  = "SELECT digest, repo, digest, accessed_at, placed, media_type, 0, referenced FROM manifests"
	namersOf = `SELECT f.child, f.repo, f.parent, m.accessed_at, m.placed, '', m.config = f.child, m.referenced
		FROM refs f INDEXED BY refs_child CROSS JOIN manifests m ON m.digest = f.parent AND m.repo = f.repo`
	blobsOrder = " ORDER BY digest"
)

func scanLink(a *answer) (d digest.Digest, l link, err error) {
	err = a.scan((*packed)(&d), &l.repo, &l.placed, &l.used)
	return d, l, err
}

func scanOwner(a *answer) (d digest.Digest, o owner, err error) {
	err = a.scan((*packed)(&d), &o.repo, &o.digest, &o.used, &o.placed, &o.media, &o.config, &o.kept)
	return d, o, err
}

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

// ListBlobs implements index.Reader.
func (r *reader) ListBlobs(latest int, f func(index.Blob) error) error {
	if latest > 0 {
		return r.q.latestBlobs(latest, f)
	}
	return r.q.allBlobs(f)
}

// allBlobs: four tables are read side by side, each along a tree that is ordered by digest, so that
// nothing is sorted, and memory holds only the manifests that are part of others.
func (q querier) allBlobs(f func(index.Blob) error) error {
	n, err := q.nested()
	if err != nil {
		return err
	}
	links, err := walk(q, scanLink, linksOf+blobsOrder)
	if err != nil {
		return err
	}
	defer links.close()
	files, err := walk(q, scanOwner, filesOf+blobsOrder)
	if err != nil {
		return err
	}
	defer files.close()
	namers, err := walk(q, scanOwner, namersOf+" ORDER BY f.child")
	if err != nil {
		return err
	}
	defer namers.close()
	var o owners
	return q.rows(layout.Blob, func(row index.Row) (err error) {
		if o.links, err = links.take(row.Digest, o.links[:0]); err != nil {
			return err
		}
		if o.files, err = files.take(row.Digest, o.files[:0]); err != nil {
			return err
		}
		if o.namers, err = namers.take(row.Digest, o.namers[:0]); err != nil {
			return err
		}
		b, err := o.blob(q, row)
		if err != nil {
			return err
		}
		if err := o.share(q, n, &b); err != nil {
			return err
		}
		return f(b)
	}, "FROM blobs m WHERE m.placed = 1 ORDER BY m.digest")
}

// owners are those of one blob: its links, the manifests whose file it is, and those that name it.
type owners struct {
	links  []link
	files  []owner
	namers []owner
}

// blob sums up the owners of a blob.
func (o *owners) blob(q querier, row index.Row) (index.Blob, error) {
	b := index.Blob{Digest: row.Digest, Size: row.Size, CreatedAt: row.CreatedAt, Manifests: countNamers(o.namers),
		IsManifest: len(o.files) > 0, Owned: len(o.links)+len(o.files)+len(o.namers) > 0,
		Config: len(o.namers) > 0 && o.namers[0].config}
	own := row.AccessedAt.UnixMilli()
	var used, named int64
	var repos []string
	add := func(repo int64) error {
		name, err := q.name(repo)
		repos = append(repos, name)
		return err
	}
	for _, l := range o.links {
		own = max(own, l.used)
		if !o.named(l.repo) {
			b.Unnamed, used = true, max(used, l.used)
		}
		if l.placed {
			if err := add(l.repo); err != nil {
				return b, err
			}
		}
	}
	for _, m := range o.files {
		if b.MediaType = m.media; m.placed {
			if err := add(m.repo); err != nil {
				return b, err
			}
		}
	}
	for _, m := range o.manifests() {
		used = max(used, m.used)
		keeps := m.used
		if !m.placed { // of itself a claim stays no longer than content
			own = max(own, m.used)
			var err error
			if keeps, err = q.keptUse(m); err != nil {
				return b, err
			}
		}
		named = max(named, keeps)
	}
	if used == 0 {
		used = own
	}
	slices.Sort(repos)
	b.Repositories = slices.Compact(append([]string{}, repos...))
	b.LastUse, b.OwnUse = millis(used), millis(own)
	if named > 0 {
		b.NamedUse = millis(named)
	}
	return b, nil
}

// keptUse is the last use of the tags and placed manifests that keep a claim, perhaps by other claims; 0 if none does.
func (q querier) keptUse(claim owner) (used int64, err error) {
	if !claim.kept {
		return 0, nil
	}
	_, err = q.one([]any{&used}, `WITH RECURSIVE above (d) AS (
			SELECT ?1
			UNION
			SELECT f.parent FROM above CROSS JOIN manifests m ON m.digest = above.d AND m.repo = +?2 AND m.placed = 0
				CROSS JOIN refs f ON f.child = above.d AND f.repo = +?2
			UNION
			SELECT m.subject FROM above CROSS JOIN manifests m ON m.digest = above.d AND m.repo = +?2 AND m.placed = 0
				AND m.subject IS NOT NULL AND m.detached = 0
		) SELECT coalesce(max(used), 0) FROM (
			SELECT m.accessed_at AS used FROM above
				CROSS JOIN manifests m ON m.digest = above.d AND m.repo = +?2 AND m.placed = 1
			UNION ALL
			SELECT t.accessed_at FROM above
				CROSS JOIN tags t INDEXED BY tags_digest ON t.digest = above.d AND t.repo = +?2
		)`, claim.digest, claim.repo)
	return used, err
}

// manifests are the owners of the blob that are manifests: those whose file it is, and those that name it where it is
// linked, or where it is a manifest.
func (o *owners) manifests() []owner {
	all := slices.Clone(o.files)
	for _, m := range o.namers {
		if slices.ContainsFunc(o.links, func(l link) bool { return l.repo == m.repo }) ||
			slices.ContainsFunc(o.files, func(f owner) bool { return f.repo == m.repo }) {
			all = append(all, m)
		}
	}
	return all
}

// named says whether a manifest of a repository names the blob.
func (o *owners) named(repo int64) bool {
	return slices.ContainsFunc(o.namers, func(m owner) bool { return m.repo == repo })
}

// countNamers counts each digest once, in however many repositories it is.
func countNamers(namers []owner) int {
	if len(namers) < 2 {
		return len(namers)
	}
	seen := make(map[packed]bool, len(namers))
	for _, m := range namers {
		seen[m.digest] = true
	}
	return len(seen)
}

// share finds the images that the blob is a part of, each once.
func (o *owners) share(q querier, n nesting, b *index.Blob) error {
	shares := map[node]bool{} // whether it is not only by a referrer
	for _, m := range o.manifests() {
		at := node{m.repo, m.digest}
		within := n.within(at)
		if within == nil {
			shares[at] = true
			b.Tagged = b.Tagged || m.kept
			continue
		}
		b.Tagged = b.Tagged || within.tagged
		for top, own := range within.tops {
			shares[top] = shares[top] || own
		}
	}
	for top, own := range shares {
		name, err := q.name(top.repo)
		if err != nil {
			return err
		}
		b.Images = append(b.Images, index.Share{Repository: name, Digest: digest.Digest(top.digest), Own: own})
	}
	return nil
}

// node is a manifest of a repository.
type node struct {
	repo   int64
	digest packed
}

// nested is a manifest that another one keeps.
type nested struct {
	tagged  bool // a tag points to it, or to a manifest that keeps it
	above   []edge
	self    bool          // a tag points to it
	tops    map[node]bool // the images that it is part of; true: not only by a referrer. Nil: not found yet
	finding bool
}

// edge leads to a manifest that keeps another one.
type edge struct {
	to     node
	child  bool // it names the other one; else it is the subject
	placed bool
	kept   bool // a tag or another manifest refers to it
}

// nesting are the manifests that others keep.
type nesting map[node]*nested

// nested reads which manifests keep which. CROSS JOIN: the manifests are few, so they are read first.
func (q querier) nested() (nesting, error) {
	n := nesting{}
	const tagged = "EXISTS (SELECT 1 FROM tags t WHERE t.digest = m.digest AND t.repo = m.repo)"
	err := q.each(n.add, "SELECT m.repo, m.digest, "+tagged+`, p.digest, 1, p.placed, p.referenced FROM manifests m
		CROSS JOIN refs f ON f.child = m.digest AND f.repo = m.repo
		CROSS JOIN manifests p ON p.digest = f.parent AND p.repo = f.repo WHERE m.referenced = 1`)
	if err == nil {
		err = q.each(n.add, "SELECT m.repo, m.digest, "+tagged+`, s.digest, 0, s.placed, s.referenced FROM manifests m
			CROSS JOIN manifests s ON s.digest = m.subject AND s.repo = m.repo
			WHERE m.subject IS NOT NULL AND m.detached = 0`)
	}
	return n, err
}

func (n nesting) add(a *answer) error {
	var m node
	var e edge
	var self bool
	if err := a.scan(&m.repo, &m.digest, &self, &e.to.digest, &e.child, &e.placed, &e.kept); err != nil {
		return err
	}
	e.to.repo = m.repo
	in := n[m]
	if in == nil {
		in = &nested{self: self}
		n[m] = in
	}
	in.above = append(in.above, e)
	return nil
}

// within returns what a manifest is part of, or nil if no other one keeps it.
func (n nesting) within(m node) *nested {
	in := n[m]
	if in != nil && in.tops == nil && !in.finding {
		in.finding = true // a circle ends
		n.find(m, in)
	}
	return in
}

// find follows the edges up to the images. A referrer that has a tag is an image of its own, and no part of its
// subject.
func (n nesting) find(m node, in *nested) {
	tops := map[node]bool{}
	if in.self || !slices.ContainsFunc(in.above, func(e edge) bool { return e.placed }) {
		tops[m] = true
	}
	in.tagged = in.self
	for _, e := range in.above {
		above := n.within(e.to)
		if above == nil {
			in.tagged = in.tagged || e.kept // by a tag, since no manifest keeps it
		} else {
			in.tagged = in.tagged || above.tagged
		}
		if !e.child && in.self {
			continue
		}
		if above == nil {
			tops[e.to] = tops[e.to] || e.child
			continue
		}
		for top, own := range above.tops {
			tops[top] = tops[top] || own && e.child
		}
	}
	in.tops = tops
}

// latestBlobs goes back over the last uses of manifests, and of the links and blobs that
// nothing refers to. The first use that reaches a blob is its last one.
func (q querier) latestBlobs(most int, f func(index.Blob) error) error {
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
	found, err := l.find(most)
	if err != nil {
		return err
	}
	for _, row := range found {
		b, err := q.blob(row)
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

func (c *cursor) step() error {
	more, err := c.next()
	if c.end = err != nil || !more; c.end {
		return err
	}
	c.row, err = c.read(c.answer)
	return err
}

func (l *latest) follow(kind layout.Kind, from string) error {
	a, err := l.q.query("SELECT " + columns(kind) + " " + from)
	if err != nil {
		return err
	}
	c := &cursor{answer: a, read: scanKind(kind)}
	l.cursors = append(l.cursors, c)
	return c.step()
}

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

// blob reads the owners of one blob.
func (q querier) blob(row index.Row) (b index.Blob, err error) {
	var o owners
	if o.links, err = take(q, scanLink, linksOf+" WHERE digest = ?", row.Digest); err != nil {
		return b, err
	}
	if o.files, err = take(q, scanOwner, filesOf+" WHERE digest = ?", row.Digest); err != nil {
		return b, err
	}
	if o.namers, err = take(q, scanOwner, namersOf+" WHERE f.child = +?", row.Digest); err != nil {
		return b, err
	}
	return o.blob(q, row)
}

func take[T any](q querier, read func(*answer) (digest.Digest, T, error), query string, d digest.Digest) (
	all []T, err error,
) {
	err = q.each(func(a *answer) error {
		_, one, err := read(a)
		all = append(all, one)
		return err
	}, query, packed(d))
	return all, err
}
