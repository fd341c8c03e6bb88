package indextest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// model is what an index must say, the simple way: every row in a map, and a walk over all of them for each question.
type model struct {
	rows     map[layout.Key]index.Row
	contents map[digest.Digest]*manifest.Manifest
}

// owners are the rows that refer to content and keep it: not the tags.
func (m *model) owners(k layout.Key) (all []layout.Key) {
	for o := range m.rows {
		switch {
		case k.Kind == layout.Blob:
			if (o.Kind == layout.Layer || o.Kind == layout.Manifest) && o.Digest == k.Digest {
				all = append(all, o)
			}
		case o.Kind == layout.Manifest && o.Repository == k.Repository:
			names := slices.Contains(m.contents[o.Digest].References, k.Digest)
			subject := k.Kind == layout.Manifest && m.contents[k.Digest].Subject == o.Digest && !m.rows[k].Detached
			if names || subject {
				all = append(all, o)
			}
		}
	}
	return all
}

// parts are the manifests that a manifest keeps.
func (m *model) parts(k layout.Key) (all []layout.Key) {
	for o := range m.rows {
		if o.Kind == layout.Manifest && slices.Contains(m.owners(o), k) {
			all = append(all, o)
		}
	}
	return all
}

func (m *model) tagsOf(k layout.Key) (all []layout.Key) {
	for o, r := range m.rows {
		if o.Kind == layout.Tag && o.Repository == k.Repository && r.Digest == k.Digest {
			all = append(all, o)
		}
	}
	return all
}

// dead says whether RetireAll must take k.
func (m *model) dead(k layout.Key, cut cutoffs) bool {
	r, ok := m.rows[k]
	return ok && r.AccessedAt.Before(cut.victim(r).UnusedSince) &&
		(k.Kind == layout.Tag || len(m.owners(k)) == 0 && (k.Kind != layout.Manifest || len(m.tagsOf(k)) == 0))
}

// reached is k with all that a step leads to, again and again.
func reached(k layout.Key, step func(layout.Key) []layout.Key) map[layout.Key]bool {
	all := map[layout.Key]bool{k: true}
	for queue := []layout.Key{k}; len(queue) > 0; queue = queue[1:] {
		for _, o := range step(queue[0]) {
			if !all[o] {
				all[o] = true
				queue = append(queue, o)
			}
		}
	}
	return all
}

// livesWith is what a use of k is a use of, too.
func (m *model) livesWith(k layout.Key) []layout.Key {
	switch k.Kind {
	case layout.Tag:
		of := layout.ManifestKey(k.Repository, m.rows[k].Digest)
		if _, ok := m.rows[of]; ok {
			return []layout.Key{of}
		}
	case layout.Manifest:
		return append(m.parts(k), m.tagsOf(k)...)
	}
	return nil
}

func (m *model) use(k layout.Key, at time.Time) {
	if _, ok := m.rows[k]; !ok {
		return
	}
	for o := range reached(k, m.livesWith) {
		if r := m.rows[o]; at.After(r.AccessedAt) {
			r.AccessedAt = at
			m.rows[o] = r
		}
	}
}

// leased is what Lease must say about a key whose use was recorded.
func (m *model) leased(k layout.Key) index.Leased {
	r, ok := m.rows[k]
	if !ok {
		return index.Leased{}
	}
	l := index.Leased{Found: true, At: r.AccessedAt, Placed: r.Placed, Digest: r.Digest}
	if k.Kind != layout.Tag {
		b := m.rows[layout.BlobKey(k.Digest)]
		l.Placed, l.Size = r.Placed && b.Placed, b.Size
	}
	return l
}

// put makes or renews the row of content.
func (m *model) put(c index.Claim, placed bool, at time.Time) {
	r, ok := m.rows[c.Key]
	if !ok {
		r = index.Row{Key: c.Key, Digest: c.Key.Digest, Size: c.Size, AccessedAt: at}
	}
	r.Placed = r.Placed || placed
	m.rows[c.Key] = r
	if !ok && c.Key.Kind == layout.Manifest {
		m.breakCircles(c.Key)
		for _, o := range append(m.owners(c.Key), m.tagsOf(c.Key)...) {
			m.use(c.Key, m.rows[o].AccessedAt)
		}
	}
	m.use(c.Key, at)
	m.use(c.Key, m.rows[c.Key].AccessedAt)
}

// breakCircles detaches a new row, if it would keep itself by its subject, and then the referrers on a circle that it
// closes otherwise.
func (m *model) breakCircles(k layout.Key) {
	for _, own := range []bool{true, false} {
		above, below := reached(k, m.owners), reached(k, m.parts)
		for o := range above {
			if s := m.contents[o.Digest].Subject; (o == k || !own) && s != "" &&
				below[layout.ManifestKey(o.Repository, s)] {
				r := m.rows[o]
				r.Detached = true
				m.rows[o] = r
			}
		}
	}
}

// drop takes a row; the content that it referred to inherits.
func (m *model) drop(k layout.Key) {
	r, ok := m.rows[k]
	if !ok {
		return
	}
	delete(m.rows, k)
	switch k.Kind {
	case layout.Layer:
		m.use(layout.BlobKey(k.Digest), r.AccessedAt)
	case layout.Manifest:
		m.use(layout.BlobKey(k.Digest), r.AccessedAt)
		for _, d := range m.contents[k.Digest].References {
			m.use(layout.LayerKey(k.Repository, d), r.AccessedAt)
		}
	}
}

func (m *model) moveTag(k layout.Key, to digest.Digest, at time.Time) {
	r, ok := m.rows[k]
	if !ok {
		r = index.Row{Key: k, Placed: true}
	}
	r.Digest = to
	m.rows[k] = r
	m.use(k, at)
	m.use(k, m.rows[k].AccessedAt)
	if of, ok := m.rows[layout.ManifestKey(k.Repository, to)]; ok {
		m.use(k, of.AccessedAt)
	}
}

// young says whether no manifest and no tag is older than what keeps it, and each tag as old as its manifest: the law
// of the effective last use.
func (m *model) young() (layout.Key, bool) {
	for k, r := range m.rows {
		for _, o := range m.livesWith(k) {
			if m.rows[o].AccessedAt.Before(r.AccessedAt) {
				return o, false
			}
		}
	}
	return layout.Key{}, true
}

// player makes random changes to two stores of one index and to the model, and compares.
type player struct {
	*testing.T
	stores [2]index.Store
	wall   *wall
	rand   *rand.Rand
	m      *model
	blobs  []digest.Digest // layers
	mans   []digest.Digest
	log    []string
}

var repos = []string{"a", "b"}

func newPlayer(t *testing.T, open Open, seed *rand.Rand) *player {
	s := newScene(t, open)
	p := &player{T: t, wall: s.wall, rand: seed, stores: [2]index.Store{s.Store, s.second()},
		m: &model{map[layout.Key]index.Row{}, map[digest.Digest]*manifest.Manifest{}}}
	for i := range 4 {
		p.blobs = append(p.blobs, dg(fmt.Sprint("layer", i)))
	}
	for i := range 8 { // a manifest can only name what was there before it; circles come from subjects
		c := &manifest.Manifest{}
		for _, d := range slices.Concat(p.blobs, p.mans) {
			if p.rand.IntN(4) == 0 {
				c.References = append(c.References, d)
			}
		}
		if i > 0 && p.rand.IntN(2) == 0 {
			c.Subject = p.mans[p.rand.IntN(i)]
		}
		d := dg(fmt.Sprint("manifest", i))
		p.mans = append(p.mans, d)
		p.m.contents[d] = c
	}
	return p
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func (p *player) store() index.Store { return p.stores[p.rand.IntN(2)] }

func (p *player) now() time.Time { return p.wall.now().Truncate(time.Millisecond) }

// key is a random key of a kind: of the few that there are.
func (p *player) key(kind layout.Kind) layout.Key {
	repo := pick(p.rand, repos)
	switch kind {
	case layout.Blob:
		return layout.BlobKey(pick(p.rand, slices.Concat(p.blobs, p.mans)))
	case layout.Layer:
		return layout.LayerKey(repo, pick(p.rand, p.blobs))
	case layout.Manifest:
		return layout.ManifestKey(repo, pick(p.rand, p.mans))
	}
	return layout.TagKey(repo, pick(p.rand, []string{"v1", "v2"}))
}

func (p *player) claim() index.Claim {
	c := index.Claim{Key: p.key(pick(p.rand, kinds[:3]))}
	switch c.Key.Kind {
	case layout.Manifest:
		c.Manifest, c.Size = p.m.contents[c.Key.Digest], 7
	case layout.Blob:
		c.Size = int64(c.Key.Digest.Encoded()[0])
	}
	return c
}

func (p *player) ok(err error) {
	p.Helper()
	if err != nil {
		p.fail("%v", err)
	}
}

func (p *player) fail(format string, args ...any) {
	p.Helper()
	for _, line := range p.log[max(0, len(p.log)-40):] {
		p.Log(line)
	}
	p.Fatalf(format, args...)
}

func (p *player) say(format string, args ...any) { p.log = append(p.log, fmt.Sprintf(format, args...)) }

// cut are random cutoffs: of things used lately, or long ago, or never.
func (p *player) cut() cutoffs {
	ago := func() time.Time { return p.now().Add(-time.Duration(p.rand.IntN(120)) * time.Second) }
	cut := cutoffs{names: ago(), content: ago()}
	if p.rand.IntN(10) == 0 {
		cut.names = time.Time{}
	}
	return cut
}

// step makes one random change.
func (p *player) step() {
	ctx, st := p.Context(), p.store()
	if p.rand.IntN(2) == 0 {
		p.wall.move(time.Duration(p.rand.IntN(20000)) * time.Millisecond)
	}
	switch n := p.rand.IntN(100); {
	case n < 12:
		c := p.claim()
		p.say("claim %v", c.Key)
		p.ok(st.Claim(ctx, c))
		p.m.put(c, false, p.now())
	case n < 40:
		c := p.claim()
		p.say("place %v", c.Key)
		p.ok(Place(ctx, st, c, nothing))
		p.m.put(c, true, p.now())
	case n < 43:
		c := p.claim()
		p.say("fail to place %v", c.Key)
		if err := Place(ctx, st, c, fails); !errors.Is(err, errFailed) {
			p.fail("place: %v", err)
		}
	case n < 46:
		k := p.claim().Key
		p.say("unclaim %v", k)
		p.ok(st.Unclaim(ctx, k))
		if !p.m.rows[k].Placed {
			p.m.drop(k)
		}
	case n < 56:
		var ks []layout.Key
		for range 1 + p.rand.IntN(3) {
			ks = append(ks, p.key(pick(p.rand, kinds)))
		}
		p.say("lease %v", ks)
		leased, err := st.Lease(ctx, ks...)
		p.ok(err)
		for i, k := range ks {
			p.m.use(k, p.now())
			if want := p.m.leased(k); leased[i] != want {
				p.fail("lease of %v says %+v, want %+v", k, leased[i], want)
			}
		}
	case n < 68:
		k, to := p.key(layout.Tag), pick(p.rand, p.mans)
		p.say("move %v to %v", k, to)
		p.ok(MoveTag(ctx, st, k.Repository, k.Tag, to, nothing))
		p.m.moveTag(k, to, p.now())
	case n < 72:
		k := p.key(layout.Tag)
		p.say("delete %v", k)
		p.ok(st.DeleteTag(ctx, k.Repository, k.Tag, nothing))
		p.m.drop(k)
	case n < 76:
		p.deleteContent(st, p.key(layout.Manifest))
	case n < 80:
		p.deleteContent(st, p.key(layout.Layer))
	case n < 90:
		p.adopt(st)
	default:
		k := p.key(pick(p.rand, kinds))
		if _, ok := p.m.rows[k]; ok { // what has no row has a test of its own
			p.retire(st, k, p.cut())
		}
	}
}

func (p *player) deleteContent(st index.Store, k layout.Key) {
	p.say("delete %v", k)
	var err error
	if k.Kind == layout.Layer {
		err = st.DeleteLayer(p.Context(), k.Repository, k.Digest, nothing)
	} else {
		err = st.DeleteManifest(p.Context(), k.Repository, k.Digest, noTags)
	}
	needed := len(p.m.owners(layout.LayerKey(k.Repository, k.Digest))) > 0
	var e *index.ReferencedError
	if errors.As(err, &e) != needed || err != nil && !needed {
		p.fail("deleting %v: %v, but a manifest needs it: %v", k, err, needed)
	}
	if needed {
		return
	}
	for o, r := range p.m.rows {
		if k.Kind == layout.Manifest && o.Kind == layout.Tag && o.Repository == k.Repository && r.Digest == k.Digest {
			p.m.drop(o)
		}
	}
	p.m.drop(k)
}

func (p *player) adopt(st index.Store) {
	var looks []index.Look
	for range 1 + p.rand.IntN(3) {
		there, at := p.rand.IntN(3) > 0, time.Time{}
		if p.rand.IntN(2) == 0 {
			at = p.now().Add(time.Duration(p.rand.IntN(200)-150) * time.Second)
		}
		a := index.Adoption{Claim: p.claim(), At: at}
		if p.rand.IntN(4) == 0 {
			a = index.Adoption{Claim: index.Claim{Key: p.key(layout.Tag)}, Digest: pick(p.rand, p.mans), At: at}
		}
		p.say("adopt %v as of %v, there: %v, to %v", a.Key, at, there, a.Digest)
		looks = append(looks, func() (index.Adoption, bool, error) { return a, there, nil })
		p.modelAdopt(a, there)
	}
	p.ok(st.Adopt(p.Context(), looks...))
}

func (p *player) modelAdopt(a index.Adoption, there bool) {
	r, known := p.m.rows[a.Key]
	at := p.now()
	if !a.At.IsZero() && a.At.Before(at) {
		at = a.At
	}
	if known {
		at = r.AccessedAt
	}
	switch {
	case there && a.Key.Kind == layout.Tag:
		p.m.moveTag(a.Key, a.Digest, at)
	case there:
		p.m.put(a.Claim, true, at)
	case a.Key.Kind == layout.Tag:
		p.m.drop(a.Key)
	case known:
		r.Placed = false
		p.m.rows[a.Key] = r
	}
}

// retire compares whether a key goes.
func (p *player) retire(st index.Store, k layout.Key, cut cutoffs) bool {
	p.say("retire %v with cutoffs %v", k, cut)
	want := p.m.dead(k, cut)
	gone, err := Retire(p.Context(), st, k, cut.victim, noFile)
	p.ok(err)
	if (gone != nil) != want {
		p.fail("retiring %v took %v, want it to go: %v", k, gone, want)
	}
	if want {
		p.m.drop(k)
	}
	return want
}

// compare wants the same rows in the index and in the model, and totals that a recount confirms.
func (p *player) compare() {
	p.Helper()
	st := p.store()
	rows := dump(p.T, st)
	var want index.Totals
	var links int64
	for k, w := range p.m.rows {
		g, ok := rows[k]
		if !ok || g.Digest != w.Digest || g.Placed != w.Placed || g.Detached != w.Detached ||
			!g.AccessedAt.Equal(w.AccessedAt) || k.Kind != layout.Layer && g.Size != w.Size {
			p.fail("%v is\n%+v, want\n%+v", k, g, w)
		}
		switch {
		case !w.Placed:
		case k.Kind == layout.Tag:
			want.Tags++
		case k.Kind == layout.Manifest:
			want.Manifests++
			links++
		case k.Kind == layout.Layer:
			links++
		case k.Kind == layout.Blob:
			want.Blobs++
			want.Bytes += w.Size
		}
	}
	for k := range rows {
		if _, ok := p.m.rows[k]; !ok {
			p.fail("%v has a row, want none", k)
		}
	}
	if k, ok := p.m.young(); !ok { // and so none of the index
		p.fail("%v is older than what keeps it", k)
	}
	p.ok(st.View(p.Context(), func(r index.Reader) error {
		got, err := r.Totals()
		if got != want {
			p.fail("totals %+v, want %+v", got, want)
		}
		rows, failed := r.Footprint()
		if want := (index.Footprint{Links: links, Tags: want.Tags}); rows != want {
			p.fail("the footprint is %+v, want %+v", rows, want)
		}
		return errors.Join(err, failed)
	}))
}

// compareDecisions asks about every row whether it may go, and takes none.
func (p *player) compareDecisions() {
	p.Helper()
	cut := p.cut()
	p.say("decide with cutoffs %v", cut)
	for k := range p.m.rows {
		got := false
		_, err := Retire(p.Context(), p.store(), k, cut.victim, func(index.Row) (index.Removed, error) {
			got = true
			return skip(index.Row{})
		})
		p.ok(err)
		if want := p.m.dead(k, cut); got != want {
			p.fail("with %v %v would go: %v, want %v", cut, k, got, want)
		}
	}
}

// compareLists compares every list of a Reader with an exhaustive check.
func (p *player) compareLists() {
	p.Helper()
	before := p.now().Add(-time.Duration(p.rand.IntN(60)) * time.Second)
	p.ok(p.store().View(p.Context(), func(r index.Reader) error {
		p.compareRelations(r)
		p.compareListings(r)
		for what, l := range map[string]struct {
			each func(index.Reader, func(index.Row) error) error
			want func(layout.Key, index.Row) bool
		}{
			"idle tags": {idleTags(before), func(k layout.Key,
				_ index.Row) bool {
				return k.Kind == layout.Tag
			}},
			"claims": {claimed(before), func(k layout.Key,
				r index.Row) bool {
				return k.Kind == layout.Manifest && !r.Placed
			}},
			"unreferenced manifests": {unreferenced(layout.Manifest, before),
				func(k layout.Key, r index.Row) bool { return k.Kind == layout.Manifest && r.Placed }},
			"unreferenced layers": {unreferenced(layout.Layer, before),
				func(k layout.Key, _ index.Row) bool { return k.Kind == layout.Layer }},
			"unreferenced blobs": {unreferenced(layout.Blob, before),
				func(k layout.Key, _ index.Row) bool { return k.Kind == layout.Blob }},
		} {
			rows, err := list(func(f func(index.Row) error) error { return l.each(r, f) })
			p.ok(err)
			var want []layout.Key
			for k, row := range p.m.rows {
				if l.want(k, row) && p.m.dead(k, cutoffs{before, before}) {
					want = append(want, k)
				}
			}
			p.compareOldest(what, rows, want)
		}
		return nil
	}))
}

func (p *player) compareOldest(what string, rows []index.Row, want []layout.Key) {
	p.Helper()
	if !same(keys(rows), want) {
		p.fail("%s lists %v, want %v", what, keys(rows), want)
	}
	if !slices.IsSortedFunc(rows, func(a, b index.Row) int { return a.AccessedAt.Compare(b.AccessedAt) }) {
		p.fail("%s is not in order: %v", what, rows)
	}
}

// compareOwners compares the rows of a set of keys, and how many refer to each.
func (p *player) compareOwners(r index.Reader, repo string) {
	p.Helper()
	most := 1 + p.rand.IntN(3)
	for _, key := range []func(digest.Digest) layout.Key{layout.BlobKey,
		func(d digest.Digest) layout.Key { return layout.LayerKey(repo, d) },
		func(d digest.Digest) layout.Key { return layout.ManifestKey(repo, d) }} {
		var ks []layout.Key
		want := map[layout.Key]int{}
		for _, d := range slices.Concat(p.blobs, p.mans) {
			k := key(d)
			ks = append(ks, k)
			if _, ok := p.m.rows[k]; ok {
				want[k] = p.ownersOf(k, most)
			}
		}
		got := map[layout.Key]int{}
		var rows []index.Row
		p.ok(r.Rows(ks, most, func(row index.Row, owners int) error {
			rows, got[row.Key] = append(rows, row), owners
			return nil
		}))
		for _, row := range rows {
			one, err := r.Row(row.Key)
			if p.ok(err); one == nil || *one != row {
				p.fail("a set says that %s is %+v, the row is %+v", row.Key, row, one)
			}
		}
		if !maps.Equal(got, want) {
			p.fail("at most %d owners of each: %v, want %v", most, got, want)
		}
	}
}

// ownersOf counts what refers to a key, of each sort at most so many.
func (p *player) ownersOf(k layout.Key, most int) int {
	links, manifests := 0, 0
	for o := range p.m.rows {
		switch {
		case k.Kind == layout.Blob && o.Digest == k.Digest && o.Kind == layout.Layer:
			links++
		case k.Kind == layout.Blob && o.Digest == k.Digest && o.Kind == layout.Manifest,
			k.Kind != layout.Blob && o.Kind == layout.Manifest && o.Repository == k.Repository &&
				slices.Contains(p.m.contents[o.Digest].References, k.Digest):
			manifests++
		}
	}
	return min(links, most) + min(manifests, most)
}

func (p *player) compareRelations(r index.Reader) {
	p.Helper()
	relation := func(what string, of any, rows []index.Row, err error, holds func(layout.Key, index.Row) bool) {
		p.Helper()
		p.ok(err)
		var want []layout.Key
		for k, row := range p.m.rows {
			if holds(k, row) {
				want = append(want, k)
			}
		}
		if !same(keys(rows), want) {
			p.fail("%s of %v are %v, want %v", what, of, keys(rows), want)
		}
	}
	repo := pick(p.rand, repos)
	p.compareOwners(r, repo)
	for _, d := range slices.Concat(p.blobs, p.mans) {
		rows, err := r.Tags(repo, d)
		relation("tags", d, rows, err, func(k layout.Key, row index.Row) bool {
			return k.Kind == layout.Tag && k.Repository == repo && row.Digest == d
		})
		rows, err = r.Parents(repo, d, 0)
		relation("parents", d, rows, err, func(k layout.Key, _ index.Row) bool {
			return k.Kind == layout.Manifest && k.Repository == repo &&
				slices.Contains(p.m.contents[k.Digest].References, d)
		})
		rows, err = r.Referrers(repo, d)
		relation("referrers", d, rows, err, func(k layout.Key, _ index.Row) bool {
			return k.Kind == layout.Manifest && k.Repository == repo && p.m.contents[k.Digest].Subject == d
		})
		rows, err = r.Owners(d, 0)
		relation("holders", d, rows, err, func(k layout.Key, _ index.Row) bool {
			return (k.Kind == layout.Layer || k.Kind == layout.Manifest) && k.Digest == d
		})
		refs, err := r.References(repo, d)
		p.ok(err)
		var want []digest.Digest
		if _, ok := p.m.rows[layout.ManifestKey(repo, d)]; ok {
			want = slices.Clone(p.m.contents[d].References)
		}
		slices.Sort(want)
		slices.Sort(refs)
		if !slices.Equal(refs, want) {
			p.fail("references of %v are %v, want %v", d, refs, want)
		}
	}
}

// compareListings compares the listings of everything, and of what was used last.
func (p *player) compareListings(r index.Reader) {
	p.Helper()
	var blobs []string
	p.ok(r.ListBlobs(index.BlobListing{Images: true}, func(b index.Blob) error {
		blobs = append(blobs, fmt.Sprint(b.Digest, b.LastUse.UnixMilli(), b.OwnUse.UnixMilli(), b.Owned, b.Manifests,
			b.Repositories, len(b.Images) > 0))
		return nil
	}))
	p.compareText("blobs", blobs, p.listedBlobs())
	var images, tags []string
	p.ok(r.ListImages(0, func(i index.Image) error {
		images = append(images, fmt.Sprint(i.Key, i.Tags))
		return nil
	}))
	p.compareText("images", images, p.listedImages())
	p.ok(r.ListTags(0, func(t index.Image) error {
		tags = append(tags, t.Key.String())
		return nil
	}))
	var want []string
	for k := range p.m.rows {
		if k.Kind == layout.Tag {
			want = append(want, k.String())
		}
	}
	p.compareText("tags", tags, want)
	p.compareLatest(r)
}

func (p *player) compareText(what string, got, want []string) {
	p.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.fail("%s are\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// compareLatest compares the beginnings of each list with the whole of it: so many, and what was used with the last.
func (p *player) compareLatest(r index.Reader) {
	p.Helper()
	for what, list := range map[string]func(latest int, f func(string, time.Time)) error{
		"blobs": func(latest int, f func(string, time.Time)) error {
			return r.ListBlobs(index.BlobListing{Latest: latest}, func(b index.Blob) error {
				f(fmt.Sprint(b.Digest, b.OwnUse, b.NamedUse, b.Repositories, b.Manifests, b.Config, b.MediaType),
					b.LastUse)
				return nil
			})
		},
		"images": func(latest int, f func(string, time.Time)) error {
			return r.ListImages(latest, func(i index.Image) error {
				f(fmt.Sprint(i), i.AccessedAt)
				return nil
			})
		},
		"tags": func(latest int, f func(string, time.Time)) error {
			return r.ListTags(latest, func(t index.Image) error {
				f(fmt.Sprint(t), t.AccessedAt)
				return nil
			})
		},
	} {
		all := map[string]time.Time{}
		p.ok(list(0, func(row string, used time.Time) { all[row] = used }))
		latest := 1 + p.rand.IntN(5)
		last := time.Time{} // everything since then is wanted
		if uses := slices.SortedFunc(maps.Values(all), time.Time.Compare); len(uses) > latest {
			last = uses[len(uses)-latest]
		}
		var got, want []string
		p.ok(list(latest, func(row string, _ time.Time) { got = append(got, row) }))
		for row, used := range all {
			if !used.Before(last) {
				want = append(want, row)
			}
		}
		p.compareText(fmt.Sprintf("the latest %d %s", latest, what), got, want)
	}
}

// listedBlobs are the placed blobs with what holds them.
func (p *player) listedBlobs() (all []string) {
	for k, row := range p.m.rows {
		if k.Kind != layout.Blob || !row.Placed {
			continue
		}
		own, used := row.AccessedAt, time.Time{}
		held, partOf := false, false
		var pulled []string
		for _, repo := range slices.Sorted(slices.Values(repos)) {
			link, linked := p.m.rows[layout.LayerKey(repo, k.Digest)]
			file, known := p.m.rows[layout.ManifestKey(repo, k.Digest)]
			var holders []index.Row
			if known {
				holders = append(holders, file)
			}
			named := false
			for _, m := range p.mans {
				if namer, ok := p.m.rows[layout.ManifestKey(repo, m)]; ok &&
					slices.Contains(p.m.contents[m].References, k.Digest) {
					held, named = true, true
					if linked || known {
						holders = append(holders, namer)
					}
				}
			}
			for _, h := range holders {
				partOf = true
				used = latest(used, h.AccessedAt)
				if !h.Placed {
					own = latest(own, h.AccessedAt)
				}
			}
			if linked {
				own = latest(own, link.AccessedAt)
				if !named {
					used = latest(used, link.AccessedAt)
				}
			}
			held = held || linked || known
			if linked && link.Placed || known && file.Placed {
				pulled = append(pulled, repo)
			}
		}
		if used.IsZero() {
			used = own
		}
		all = append(all, fmt.Sprint(k.Digest, used.UnixMilli(), own.UnixMilli(), held, len(p.namedBy(k.Digest)),
			pulled, partOf))
	}
	return all
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// listedImages are the placed manifests that have a tag, or that no placed manifest keeps.
func (p *player) listedImages() (all []string) {
	for k, row := range p.m.rows {
		if k.Kind != layout.Manifest || !row.Placed {
			continue
		}
		var tags []string
		kept := false
		for other, o := range p.m.rows {
			switch {
			case other.Repository != k.Repository:
			case other.Kind == layout.Tag && o.Digest == k.Digest:
				tags = append(tags, other.Tag)
			case other.Kind == layout.Manifest && o.Placed:
				kept = kept || slices.Contains(p.m.contents[other.Digest].References, k.Digest) ||
					p.m.contents[k.Digest].Subject == other.Digest && !row.Detached
			}
		}
		slices.Sort(tags)
		if len(tags) > 0 || !kept {
			all = append(all, fmt.Sprint(k, tags))
		}
	}
	return all
}

// known says whether a digest is a manifest's in any repository.
func (p *player) known(d digest.Digest) bool {
	return slices.ContainsFunc(repos, func(repo string) bool {
		_, ok := p.m.rows[layout.ManifestKey(repo, d)]
		return ok
	})
}

func (p *player) namedBy(d digest.Digest) (all []digest.Digest) {
	for _, m := range p.mans {
		if p.known(m) && slices.Contains(p.m.contents[m].References, d) {
			all = append(all, m)
		}
	}
	slices.Sort(all)
	return all
}

// sweep retires everything that is listed, in the order of a sweeper, and wants nothing to remain.
func (p *player) sweep() {
	p.Helper()
	p.say("sweep")
	p.wall.move(time.Hour)
	cut := cutoffs{names: p.now(), content: p.now()}
	each := []func(index.Reader, func(index.Row) error) error{idleTags(p.now()),
		func(r index.Reader, f func(index.Row) error) error {
			return errors.Join(unreferenced(layout.Manifest, p.now())(r, f), claimed(p.now())(r, f))
		},
		unreferenced(layout.Layer, p.now()), unreferenced(layout.Blob, p.now())}
	for _, level := range each {
		for took := true; took; {
			took = false
			var rows []index.Row
			p.ok(p.store().View(p.Context(), func(r index.Reader) (err error) {
				rows, err = list(func(f func(index.Row) error) error { return level(r, f) })
				return err
			}))
			for _, row := range rows {
				took = p.retire(p.store(), row.Key, cut) || took
			}
		}
	}
	if len(p.m.rows) > 0 {
		p.fail("a sweep left %v", p.m.rows)
	}
	p.compare()
}

func testModel(t *testing.T, open Open) {
	seed := newRand(t)
	games, steps := 6, 250
	if testing.Short() {
		games = 2
	}
	if slow {
		games, steps = 1, 60
	}
	for range games {
		p := newPlayer(t, open, seed)
		for i := range steps {
			p.step()
			p.compare()
			if i%10 == 0 {
				p.compareLists()
				p.compareDecisions()
			}
		}
		p.sweep()
	}
}
