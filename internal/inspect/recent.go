package inspect

import (
	"cmp"
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/image"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// recent finds what was used last without reading the rest: it goes back in time over the last uses of
// tags, manifests and links, each of which reaches all that it keeps. So the first to reach a thing is
// its effective last access, and what is asked for first costs what it takes to reach that.
type recent struct {
	expiry
	r       index.Reader
	cursors map[layout.Kind]*head
	seen    map[layout.Key]reached // of manifests
	covered map[layout.Key]bool    // tops, and what lies below one
	blobs   map[digest.Digest]*recentBlob
	group   []*recentBlob // found at the same time
	pending []*recentBlob // found by a link alone

	measured map[layout.Key][2]int64 // of images: size, and what only they hold
}

type reached struct{ used, named bool }

// remembered asks for each row once: a manifest is a step of the way, a part of images, and a file.
type remembered struct {
	index.Reader
	rows map[layout.Key]*index.Row
}

func (r *remembered) Row(k layout.Key) (*index.Row, error) {
	row, known := r.rows[k]
	if known {
		return row, nil
	}
	row, err := r.Reader.Row(k)
	if err == nil {
		r.rows[k] = row
	}
	return row, err
}

// head is a cursor with its next row.
type head struct {
	index.Cursor
	row index.Row
}

type recentBlob struct {
	digest digest.Digest
	used   int64
	named  int64 // when a name reached it last; 0: not yet
}

// mostRecent is how many rows are looked for in this way: each takes many small queries, and a survey
// less than one for each.
const mostRecent = 1000

// isRecent says whether the rows can be found without a survey.
func (o Options) isRecent() bool {
	return (o.Sort == "" || o.Sort == ByAccess) && !o.Reverse && o.Limit > 0 && o.Limit <= mostRecent && o.Repository == "" && o.Expiring == nil && o.Kind != Repositories
}

// findRecent returns the rows in order.
func findRecent(ctx context.Context, r index.Reader, l expiry, o Options) ([]Row, error) {
	x := recent{expiry: l, r: &remembered{Reader: r, rows: map[layout.Key]*index.Row{}}, cursors: map[layout.Kind]*head{}, seen: map[layout.Key]reached{}, covered: map[layout.Key]bool{}, blobs: map[digest.Digest]*recentBlob{}, measured: map[layout.Key][2]int64{}}
	defer x.close()
	find := map[Kind]func(context.Context, int) ([]Row, error){Blobs: x.findBlobs, Images: x.findImages, Tags: x.findTags}[o.Kind]
	return find(ctx, o.Limit)
}

func (x *recent) close() {
	for _, h := range x.cursors {
		h.Close()
	}
}

func (x *recent) open(kinds ...layout.Kind) error {
	for _, kind := range kinds {
		c, err := x.r.Latest(kind)
		if err != nil {
			return err
		}
		x.cursors[kind] = &head{Cursor: c}
		if err := x.advance(kind); err != nil {
			return err
		}
	}
	return nil
}

// advance reads the next row of a kind. A cursor at its end goes.
func (x *recent) advance(kind layout.Kind) error {
	h := x.cursors[kind]
	row, ok, err := h.Next()
	h.row = row
	if !ok {
		h.Close()
		delete(x.cursors, kind)
	}
	return err
}

// last is the last use that was not looked at yet. Kinds that are left out are not looked at.
func (x *recent) last(kinds ...layout.Kind) (last index.Row, ok bool) {
	for kind, h := range x.cursors {
		if slices.Contains(kinds, kind) && (!ok || h.row.AccessedAt.After(last.AccessedAt)) {
			last, ok = h.row, true
		}
	}
	return last, ok
}

var allKinds = []layout.Kind{layout.Tag, layout.Manifest, layout.Layer, layout.Blob}

func (x *recent) findBlobs(ctx context.Context, most int) (rows []Row, err error) {
	if err := x.open(allKinds...); err != nil {
		return nil, err
	}
	var found []blobRow
	for at := int64(0); len(found) < most && ctx.Err() == nil; {
		use, ok := x.last(allKinds...)
		if t := use.AccessedAt.UnixMilli(); !ok || t != at {
			if found, err = x.takeGroup(found); err != nil {
				return nil, err
			}
			at = t
		}
		if !ok {
			break
		}
		if err := x.blobUse(use); err != nil {
			return nil, err
		}
	}
	found = found[:min(len(found), most)]
	if err := x.findNames(ctx); err != nil {
		return nil, err
	}
	for _, f := range found {
		row, err := x.blobRow(f)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, ctx.Err()
}

// blobUse lets a use reach what it keeps.
func (x *recent) blobUse(use index.Row) error {
	t := use.AccessedAt.UnixMilli()
	if err := x.reachFrom(use, t); err != nil {
		return err
	}
	return x.advance(use.Key.Kind)
}

func (x *recent) reachFrom(use index.Row, t int64) error {
	switch use.Key.Kind {
	case layout.Layer, layout.Blob:
		x.find(use.Digest, t, false)
		return nil
	case layout.Tag:
		m, err := x.r.Row(layout.ManifestKey(use.Key.Repository, use.Digest))
		if err != nil || m == nil {
			return err
		}
		return x.reach(*m, t, true)
	}
	tags, err := x.r.Tags(use.Key.Repository, use.Digest)
	if err != nil {
		return err
	}
	return x.reach(use, t, len(tags) > 0)
}

// reach goes from a manifest to all that it keeps. A claim is content until its file comes, so named says
// whether a name is above, whose life is longer.
func (x *recent) reach(m index.Row, t int64, named bool) error {
	type step struct {
		m     index.Row
		named bool
	}
	for todo := []step{{m, named}}; len(todo) > 0; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		named := s.named || s.m.Placed
		was := x.seen[s.m.Key]
		if was.used && (was.named || !named) {
			continue
		}
		x.seen[s.m.Key] = reached{used: true, named: named || was.named}
		x.find(s.m.Digest, t, named)
		below, err := x.below(s.m, func(d digest.Digest) { x.find(d, t, named) })
		if err != nil {
			return err
		}
		for _, b := range below {
			todo = append(todo, step{b, named})
		}
	}
	return nil
}

// below returns the manifests that a manifest keeps, and calls layer with each layer link that it keeps.
func (x *recent) below(m index.Row, layer func(digest.Digest)) ([]index.Row, error) {
	below, err := x.r.Referrers(m.Key.Repository, m.Digest)
	if err != nil {
		return nil, err
	}
	children, err := x.r.References(m.Digest)
	if err != nil {
		return nil, err
	}
	for _, d := range children {
		child, err := x.r.Row(layout.ManifestKey(m.Key.Repository, d))
		if err != nil {
			return nil, err
		}
		if child != nil {
			below = append(below, *child)
		}
		if layer == nil {
			continue
		}
		link, err := x.r.Row(layout.LayerKey(m.Key.Repository, d))
		if err != nil {
			return nil, err
		}
		if link != nil {
			layer(d)
		}
	}
	return below, nil
}

// find notes that a blob was reached.
func (x *recent) find(d digest.Digest, t int64, named bool) {
	b := x.blobs[d]
	if b == nil {
		b = &recentBlob{digest: d, used: t}
		x.blobs[d] = b
		x.group = append(x.group, b)
	}
	if named && b.named == 0 {
		b.named = t
	}
}

// blobRow is a blob that will be a row.
type blobRow struct {
	*recentBlob
	row index.Row
}

// takeGroup appends what was found at one time, by name.
func (x *recent) takeGroup(found []blobRow) ([]blobRow, error) {
	slices.SortFunc(x.group, func(a, b *recentBlob) int { return cmp.Compare(a.digest, b.digest) })
	for _, b := range x.group {
		row, err := x.r.Row(layout.BlobKey(b.digest))
		if err != nil {
			return nil, err
		}
		if row != nil && row.Placed {
			found = append(found, blobRow{b, *row})
			if b.named == 0 {
				x.pending = append(x.pending, b)
			}
		}
	}
	x.group = x.group[:0]
	return found, nil
}

// nameSteps is how much further names are followed for blobs that were reached by a link alone. A client
// that pulls asks for the layers right after the manifest, so most are found within a few steps; for the
// rest it is less work to look upwards from each.
const nameSteps = 500

// findNames finds when a name reached the blobs last that were reached by a link alone.
func (x *recent) findNames(ctx context.Context) error {
	x.pending = slices.DeleteFunc(x.pending, func(b *recentBlob) bool { return b.named > 0 })
	for range nameSteps {
		use, ok := x.last(layout.Tag, layout.Manifest)
		if len(x.pending) == 0 || !ok || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := x.blobUse(use); err != nil {
			return err
		}
		x.pending = slices.DeleteFunc(x.pending, func(b *recentBlob) bool { return b.named > 0 })
	}
	for _, b := range x.pending {
		if err := x.lookUp(b); err != nil {
			return err
		}
	}
	return nil
}

// lookUp finds the last use of all that is above a blob.
func (x *recent) lookUp(b *recentBlob) error {
	type step struct {
		k     layout.Key
		named bool // a name is on the way
	}
	keys, err := x.holding(b.digest)
	if err != nil {
		return err
	}
	var todo []step
	for _, k := range keys {
		todo = append(todo, step{k, false})
	}
	seen := map[step]bool{}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		m, err := x.r.Row(s.k)
		if err != nil {
			return err
		}
		if s.named = s.named || m != nil && m.Placed; m == nil || seen[s] {
			continue
		}
		seen[s] = true
		own, tagged, err := x.own(*m)
		if err != nil {
			return err
		}
		if s.named || tagged {
			b.named = max(b.named, own)
		}
		above, err := keepers(x.r, *m, 0)
		if err != nil {
			return err
		}
		for _, k := range above {
			todo = append(todo, step{k.Key, s.named})
		}
	}
	return nil
}

// holding returns the manifests that hold a blob: by naming it where it is linked.
func (x *recent) holding(d digest.Digest) (keys []layout.Key, err error) {
	namings, err := x.r.Namings(d, 0)
	if err != nil {
		return nil, err
	}
	for _, n := range namings {
		link, err := x.r.Row(layout.LayerKey(n.Repository, d))
		if err != nil {
			return nil, err
		}
		if link != nil {
			keys = append(keys, layout.ManifestKey(n.Repository, n.Manifest))
		}
	}
	return keys, nil
}

// own is the last use of a manifest itself, and of its tags.
func (x *recent) own(m index.Row) (used int64, tagged bool, err error) {
	tags, err := x.r.Tags(m.Key.Repository, m.Digest)
	used = m.AccessedAt.UnixMilli()
	for _, t := range tags {
		used = max(used, t.AccessedAt.UnixMilli())
	}
	return used, len(tags) > 0, err
}

func (x *recent) blobRow(b blobRow) (Blob, error) {
	expires := max(x.contentDue(b.used), x.contentDue(b.row.AccessedAt.UnixMilli()))
	if b.named > 0 {
		expires = max(expires, x.imageDue(b.named))
	}
	holders, err := x.r.Holders(b.digest, 0)
	if err != nil {
		return Blob{}, err
	}
	var repos []string
	var file *index.Row
	for i, h := range holders {
		if h.Placed {
			repos = append(repos, h.Key.Repository)
		}
		if h.Key.Kind == layout.Manifest {
			file = &holders[i]
		}
	}
	kind, err := x.kind(b.digest, file, len(holders) > 0)
	if err != nil {
		return Blob{}, err
	}
	named, err := x.r.Named(b.digest)
	return Blob{Digest: b.digest, Size: b.row.Size, Kind: kind, CreatedAt: stampOf(b.row.CreatedAt.UnixMilli()),
		LastAccess: stampOf(b.used), ExpiresAt: stampOf(expires), Repositories: distinct(repos), Manifests: named}, err
}

func (x *recent) kind(d digest.Digest, file *index.Row, held bool) (string, error) {
	if file != nil {
		return kindOfManifest(slices.Contains(indexTypes, file.MediaType)), nil
	}
	first, err := x.r.Namings(d, 1)
	if err != nil || len(first) == 0 {
		return kindOfContent(false, held), err
	}
	m, err := x.r.Row(layout.ManifestKey(first[0].Repository, first[0].Manifest))
	return kindOfContent(err == nil && m != nil && m.Config == d, true), err
}

// findTags goes back over the uses of tags, and of the manifests that they point to.
func (x *recent) findTags(ctx context.Context, most int) (rows []Row, err error) {
	seen := map[layout.Key]bool{}
	return x.findNamed(ctx, most, func(use index.Row) (group []Row, err error) {
		tags := []index.Row{use}
		manifest := &use
		if use.Key.Kind == layout.Manifest {
			tags, err = x.r.Tags(use.Key.Repository, use.Digest)
		} else {
			manifest, err = x.r.Row(layout.ManifestKey(use.Key.Repository, use.Digest))
		}
		if err != nil {
			return nil, err
		}
		for _, t := range tags {
			if seen[t.Key] {
				continue
			}
			seen[t.Key] = true
			row := x.tagRow(t, index.Row{})
			if manifest != nil {
				row = x.tagRow(t, *manifest)
				if row.Size, row.UniqueBytes, err = x.sizes(*manifest); err != nil {
					return nil, err
				}
			}
			group = append(group, row)
		}
		return group, nil
	})
}

// findImages goes back over the uses of tags and manifests, each of which reaches the images below it.
func (x *recent) findImages(ctx context.Context, most int) ([]Row, error) {
	return x.findNamed(ctx, most, func(use index.Row) (group []Row, err error) {
		top := &use
		if use.Key.Kind == layout.Tag {
			if top, err = x.r.Row(layout.ManifestKey(use.Key.Repository, use.Digest)); err != nil || top == nil {
				return nil, err
			}
		}
		for todo := []index.Row{*top}; len(todo) > 0; {
			m := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if x.seen[m.Key].used {
				continue
			}
			x.seen[m.Key] = reached{used: true}
			below, err := x.below(m, nil)
			if err != nil {
				return nil, err
			}
			todo = append(todo, below...)
			isImage, err := x.isImage(m)
			if err != nil {
				return nil, err
			}
			if isImage {
				row, err := x.imageRow(m, use.AccessedAt.UnixMilli())
				if err != nil {
					return nil, err
				}
				group = append(group, row)
			}
		}
		return group, nil
	})
}

// findNamed goes back over the uses of tags and manifests. Rows that were used at the same time are
// ordered by name.
func (x *recent) findNamed(ctx context.Context, most int, rowsOf func(use index.Row) ([]Row, error)) (rows []Row, err error) {
	if err := x.open(layout.Tag, layout.Manifest); err != nil {
		return nil, err
	}
	var group []Row
	for at := int64(0); len(rows) < most && ctx.Err() == nil; {
		use, ok := x.last(layout.Tag, layout.Manifest)
		if t := use.AccessedAt.UnixMilli(); !ok || t != at {
			slices.SortFunc(group, func(a, b Row) int { return cmp.Compare(a.name(), b.name()) })
			rows, group, at = append(rows, group...), group[:0], t
		}
		if !ok {
			break
		}
		more, err := rowsOf(use)
		if err != nil {
			return nil, err
		}
		group = append(group, more...)
		if err := x.advance(use.Key.Kind); err != nil {
			return nil, err
		}
	}
	return rows[:min(len(rows), most)], ctx.Err()
}

// isImage says whether a manifest is an image of its own: see accounts.
func (x *recent) isImage(m index.Row) (is bool, err error) {
	if !m.Placed {
		return false, nil
	}
	failed := func(e error) {
		if err == nil {
			err = e
		}
	}
	parents := func(k layout.Key) (keys []layout.Key) {
		rows, e := x.r.Parents(k.Repository, k.Digest, 0)
		failed(e)
		for _, p := range rows {
			if p.Placed {
				keys = append(keys, p.Key)
			}
		}
		return keys
	}
	isTop := func(k layout.Key) bool {
		tags, e := x.r.Tags(k.Repository, k.Digest)
		failed(e)
		return len(tags) > 0 || len(parents(k)) == 0
	}
	children := func(k layout.Key) (keys []layout.Key) {
		refs, e := x.r.References(k.Digest)
		failed(e)
		for _, d := range refs {
			row, e := x.r.Row(layout.ManifestKey(k.Repository, d))
			failed(e)
			if row != nil {
				keys = append(keys, row.Key)
			}
		}
		return keys
	}
	switch {
	case isTop(m.Key):
		is = true
	case !x.isCovered(m.Key, parents, isTop):
		is = headsCircle(m.Key, parents, children, isTop, func(a, b layout.Key) int { return cmp.Compare(a.Digest, b.Digest) })
	}
	return is, err
}

// isCovered says whether the way up from a manifest ends at a top, as it does but for circles. What was on
// such a way is remembered, so that a deep pile is climbed once.
func (x *recent) isCovered(m layout.Key, parents func(layout.Key) []layout.Key, isTop func(layout.Key) bool) bool {
	way := map[layout.Key]bool{}
	for k := m; !x.covered[k]; {
		if way[k] {
			return false
		}
		way[k] = true
		above := parents(k)
		if len(above) == 0 || k != m && isTop(k) {
			break
		}
		k = above[0]
	}
	for k := range way {
		x.covered[k] = true
	}
	return true
}

func (x *recent) imageRow(m index.Row, used int64) (Image, error) {
	tags, err := x.r.Tags(m.Key.Repository, m.Digest)
	if err != nil {
		return Image{}, err
	}
	parents, err := x.r.Parents(m.Key.Repository, m.Digest, 1)
	if err != nil {
		return Image{}, err
	}
	h := hold{tagged: len(tags) > 0, parent: len(parents) > 0}
	if m.Subject != "" {
		subject, err := x.r.Row(layout.ManifestKey(m.Key.Repository, m.Subject))
		if err != nil {
			return Image{}, err
		}
		h.subject = subject != nil
	}
	expires := x.imageDue(used) // what keeps a name was used no later than the name
	row := imageRow(m, tags, used, expires)
	row.KeptBy = x.keptBy(used, expires, h)
	row.Size, row.UniqueBytes, err = x.sizes(m)
	return row, err
}

// sizes are those of an image: with everything it consists of, and what only it holds. A thousand tags may be one.
func (x *recent) sizes(m index.Row) (size, unique int64, err error) {
	if !m.Placed {
		return 0, 0, nil // not an image yet
	}
	if known, ok := x.measured[m.Key]; ok {
		return known[0], known[1], nil
	}
	if size, err = image.Size(x.r, m.Key); err != nil {
		return 0, 0, err
	}
	unique, err = image.UniqueBytes(x.r, m.Key)
	x.measured[m.Key] = [2]int64{size, unique}
	return size, unique, err
}
