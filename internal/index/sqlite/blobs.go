package sqlite

import (
	"bytes"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// ListBlobs implements index.Reader.
func (r *reader) ListBlobs(o index.BlobListing, f func(index.Blob) error) error {
	if o.Latest > 0 {
		return r.q.latestBlobs(o, f)
	}
	return r.q.allBlobs(o, f)
}

// link is a layer link of a blob.
type link struct {
	repo   int64
	placed bool
	used   int64
}

// The statements that find the owners of blobs.
const (
	linksOf  = "SELECT digest, repo, placed, accessed_at FROM layers"
	filesOf  = listedColumns + " FROM manifests m"
	namersOf = "SELECT child, repo, parent FROM refs INDEXED BY refs_child"
)

// scanLink reads a row of linksOf. Its digest is read by the walker, or was asked for.
func scanLink(a *answer) (l link, err error) {
	err = a.scan(nil, &l.repo, &l.placed, &l.used)
	return l, err
}

// allBlobs reads all manifests, and then three tables side by side, each along a tree that is ordered by digest. So
// nothing is sorted, and nothing but manifests is in memory.
func (q querier) allBlobs(listing index.BlobListing, f func(index.Blob) error) error {
	all, err := q.manifests()
	if err != nil {
		return err
	}
	n, err := q.nested(all)
	if err != nil {
		return err
	}
	links, err := walk(q, scanLink, linksOf+" ORDER BY digest")
	if err != nil {
		return err
	}
	defer links.close()
	namers, err := walk(q, all.scanNamer, namersOf+" ORDER BY child")
	if err != nil {
		return err
	}
	defer namers.close()
	o := owners{all: all}
	file := 0 // the first manifest whose digest is not before the blob's
	return q.each(func(a *answer) error {
		row, err := scanBlob(a)
		if err != nil {
			return err
		}
		if o.stored, err = a.stored(0, o.stored); err != nil {
			return err
		}
		if o.links, err = links.take(o.stored, o.links[:0]); err != nil {
			return err
		}
		if o.namers, err = namers.take(o.stored, o.namers[:0]); err != nil {
			return err
		}
		o.namers = slices.DeleteFunc(o.namers, func(i int32) bool { return i < 0 })
		o.files, file = all.take(o.stored, o.files[:0], file)
		b, err := o.blob(q, row, listing.Owners)
		if err != nil {
			return err
		}
		b.Tagged = o.tagged(n)
		if listing.Images {
			if b.Images, err = o.images(q, n); err != nil {
				return err
			}
		}
		return f(b)
	}, "SELECT "+blobColumns+" FROM blobs m WHERE m.placed = 1 ORDER BY m.digest")
}

// owners are those of one blob: its links, the manifests whose file it is, and those that name it. Manifests are
// numbers in all.
type owners struct {
	all    *manifestList
	stored []byte // the digest of the blob as it is stored
	links  []link
	files  []int32
	namers []int32

	manifests []int32 // see findManifests; kept from one blob to the next, as all slices are
	sorted    []int32 // see countNamers
	tops      []top   // see images
	repos     []string
}

// blob sums up the owners of a blob, and lists the manifests among them if that is asked for.
func (o *owners) blob(q querier, row index.Row, list bool) (b index.Blob, err error) {
	b = index.Blob{Digest: row.Digest, Size: row.Size, CreatedAt: row.CreatedAt, Manifests: o.countNamers(),
		IsManifest: len(o.files) > 0, Owned: len(o.links)+len(o.files)+len(o.namers) > 0,
		Config: len(o.namers) > 0 && bytes.Equal(o.all.bytes(o.all.rows[o.namers[0]].config), o.stored)}
	own := row.AccessedAt.UnixMilli()
	var used, named int64
	o.repos = o.repos[:0]
	add := func(repo int64) error {
		name, err := q.name(repo)
		o.repos = append(o.repos, name)
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
	for _, i := range o.files {
		m := &o.all.rows[i]
		if b.MediaType = o.all.media[m.media]; m.placed {
			if err := add(m.repo); err != nil {
				return b, err
			}
		}
	}
	o.findManifests()
	for _, i := range o.manifests {
		m := &o.all.rows[i]
		used = max(used, m.used)
		keeps := m.used
		if !m.placed { // of itself a claim stays no longer than content
			own = max(own, m.used)
			if keeps, err = q.keptUse(o.all.bytes(m.digest), m); err != nil {
				return b, err
			}
		}
		named = max(named, keeps)
		if !list {
			continue
		}
		owner, err := o.owner(q, i, keeps)
		if err != nil {
			return b, err
		}
		b.Owners = append(b.Owners, owner)
	}
	if used == 0 {
		used = own
	}
	slices.Sort(o.repos)
	b.Repositories = append([]string{}, slices.Compact(o.repos)...)
	b.LastUse, b.OwnUse = millis(used), millis(own)
	if named > 0 {
		b.NamedUse = millis(named)
	}
	return b, nil
}

// owner tells of one of the manifests that own the blob.
func (o *owners) owner(q querier, i int32, use int64) (owner index.Owner, err error) {
	name, err := q.name(o.all.rows[i].repo)
	if err != nil {
		return owner, err
	}
	d, err := o.all.digest(i)
	if use > 0 {
		owner.Use = millis(use)
	}
	owner.Key = layout.ManifestKey(name, d)
	return owner, err
}

// keptUse is the last use of the tags and placed manifests that keep a claim, perhaps by other claims; 0 if none does.
func (q querier) keptUse(stored []byte, claim *listedManifest) (used int64, err error) {
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
		)`, stored, claim.repo)
	return used, err
}

// findManifests finds the owners of the blob that are manifests: those whose file it is, and those that name it where
// it is linked, or where it is a manifest.
func (o *owners) findManifests() {
	o.manifests = append(o.manifests[:0], o.files...)
	for _, i := range o.namers {
		repo := o.all.rows[i].repo
		if slices.ContainsFunc(o.links, func(l link) bool { return l.repo == repo }) ||
			slices.ContainsFunc(o.files, func(f int32) bool { return o.all.rows[f].repo == repo }) {
			o.manifests = append(o.manifests, i)
		}
	}
}

// named says whether a manifest of a repository names the blob.
func (o *owners) named(repo int64) bool {
	return slices.ContainsFunc(o.namers, func(i int32) bool { return o.all.rows[i].repo == repo })
}

// countNamers counts each digest once, in however many repositories it is.
func (o *owners) countNamers() (n int) {
	if len(o.namers) < 2 {
		return len(o.namers)
	}
	o.sorted = append(o.sorted[:0], o.namers...)
	slices.SortFunc(o.sorted, o.all.compare)
	return len(slices.CompactFunc(o.sorted, func(a, b int32) bool { return o.all.compare(a, b) == 0 }))
}

// tagged says whether a tag keeps the blob.
func (o *owners) tagged(n nesting) bool {
	return slices.ContainsFunc(o.manifests, func(i int32) bool {
		if within := n.within(i); within != nil {
			return within.tagged
		}
		return o.all.rows[i].kept // by a tag, since no manifest keeps it
	})
}

// images are those that the blob is a part of, each once.
func (o *owners) images(q querier, n nesting) ([]index.Share, error) {
	o.tops = o.tops[:0]
	for _, i := range o.manifests {
		if within := n.within(i); within != nil {
			o.tops = append(o.tops, within.tops...)
		} else {
			o.tops = append(o.tops, top{i, true})
		}
	}
	o.tops = merged(o.tops)
	images := make([]index.Share, len(o.tops))
	for i, t := range o.tops {
		name, err := q.name(o.all.rows[t.image].repo)
		if err != nil {
			return nil, err
		}
		d, err := o.all.digest(t.image)
		if err != nil {
			return nil, err
		}
		images[i] = index.Share{Repository: name, Digest: d, Own: t.own}
	}
	return images, nil
}

// blob reads the owners of one blob.
func (q querier) blob(row index.Row, list bool) (b index.Blob, err error) {
	o := owners{all: &manifestList{}}
	if o.stored, err = packed(row.Digest).pack(); err != nil {
		return b, err
	}
	err = q.each(func(a *answer) error {
		l, err := scanLink(a)
		o.links = append(o.links, l)
		return err
	}, linksOf+" WHERE digest = ?", o.stored)
	if err != nil {
		return b, err
	}
	if o.files, err = q.listed(o.all, filesOf+" WHERE m.digest = ?", o.stored); err != nil {
		return b, err
	}
	o.namers, err = q.listed(o.all, listedColumns+` FROM refs f INDEXED BY refs_child
		CROSS JOIN manifests m ON m.digest = f.parent AND m.repo = f.repo WHERE f.child = +?`, o.stored)
	if err != nil {
		return b, err
	}
	return o.blob(q, row, list)
}
