package inspect

import (
	"cmp"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// none stands for a node or an image that there is not.
const none = -1

// accounts are what images consist of and hold. An image is a manifest that has a tag, or that nothing
// names yet.
type accounts struct {
	*names
	images []account // by node
	parts  []member  // by node and image
	alone  *dominators

	round int32 // counts the blobs that passed by
}

// account is an image. Of a circle of manifests that nothing outside names it is the one with the
// smallest digest.
type account struct {
	top  int32
	size int64
	seen int32 // the last round in which it was seen
}

// member says that a node is a part of an image.
type member struct{ node, image int32 }

func (n *names) findImages() *accounts {
	a := &accounts{names: n}
	var tops []int32
	covered := n.findCovered()
	for i := range n.nodes {
		if n.isImage(int32(i), covered) {
			tops = append(tops, int32(i))
			a.images = append(a.images, account{top: int32(i)})
		}
	}
	for i, image := range a.images {
		for node := range reachable(image.top, n.children) {
			a.parts = append(a.parts, member{node, int32(i)})
		}
	}
	slices.SortFunc(a.parts, func(p, q member) int { return cmp.Or(cmp.Compare(p.node, q.node), cmp.Compare(p.image, q.image)) })
	a.alone = n.findDominators(tops)
	return a
}

// findCovered marks what lies below a top: it is in no circle of its own. Each is met once, however deep.
func (n *names) findCovered() []bool {
	covered := make([]bool, len(n.nodes))
	var todo []int32
	for i := range n.nodes {
		if n.nodes[i].placed && n.isTop(int32(i)) {
			todo = append(todo, int32(i))
		}
	}
	for len(todo) > 0 {
		from := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, to := range n.children(from) {
			if !covered[to] && n.nodes[to].placed {
				covered[to] = true
				todo = append(todo, to)
			}
		}
	}
	return covered
}

func (n *names) isImage(i int32, covered []bool) bool {
	switch {
	case !n.nodes[i].placed:
		return false
	case n.isTop(i):
		return true
	case covered[i]:
		return false
	}
	return headsCircle(i, n.placedParents, n.children, n.isTop,
		func(a, b int32) int { return n.nodes[a].id.compare(n.nodes[b].id) })
}

// isTop says whether a manifest has a tag, or no other names it yet.
func (n *names) isTop(i int32) bool { return n.nodes[i].tagged || len(n.placedParents(i)) == 0 }

func (n *names) placedParents(i int32) (all []int32) {
	for _, e := range n.above(i) {
		if e.child && n.nodes[e.from].placed {
			all = append(all, e.from)
		}
	}
	return all
}

func (n *names) children(i int32) (all []int32) {
	for _, e := range n.below(i) {
		if e.child {
			all = append(all, e.to)
		}
	}
	return all
}

// reachable returns a node with all that next leads to.
func reachable[K comparable](from K, next func(K) []K) map[K]bool {
	seen := map[K]bool{from: true}
	for todo := []K{from}; len(todo) > 0; {
		k := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, to := range next(k) {
			if !seen[to] {
				seen[to] = true
				todo = append(todo, to)
			}
		}
	}
	return seen
}

// headsCircle says whether a manifest with parents stands for a circle that nothing outside names: all
// above it is below it too, none of it is a top, and it is the first of them.
func headsCircle[K comparable](m K, parents, children func(K) []K, isTop func(K) bool, compare func(a, b K) int) bool {
	below := reachable(m, children)
	for k := range reachable(m, parents) {
		if !below[k] || isTop(k) || compare(k, m) < 0 {
			return false
		}
	}
	return true
}

// imagesOf returns the images of which a node is a part.
func (a *accounts) imagesOf(node int32) []member {
	from, _ := slices.BinarySearchFunc(a.parts, node, func(p member, node int32) int { return cmp.Compare(p.node, node) })
	to := from
	for to < len(a.parts) && a.parts[to].node == node {
		to++
	}
	return a.parts[from:to]
}

// subject returns the subject of a manifest in its repository.
func (n *names) subject(i int32) int32 {
	for _, e := range n.above(i) {
		if !e.child {
			return e.from
		}
	}
	return none
}

// add adds a blob to the images that it is a part of, and to the manifest with which it goes.
func (a *accounts) add(b *blobUse) {
	a.round++
	with := int32(none) // the first
	alone := !slices.ContainsFunc(b.links, func(l linkUse) bool { return len(l.naming) == 0 })
	for i, node := range slices.Concat(b.files, b.naming) {
		for _, p := range a.imagesOf(node) {
			if image := &a.images[p.image]; image.seen != a.round {
				image.seen = a.round
				image.size += b.Blob.Size
			}
		}
		if i == 0 {
			with = node
		} else {
			with = a.alone.common(with, node)
		}
	}
	if alone && with != none {
		a.alone.bytes[with] += b.Blob.Size
	}
}

// unique is what goes from the disk with an image. What is a part of another one stays with that.
func (a *accounts) unique(i *account) int64 {
	for _, e := range a.above(i.top) {
		if e.child && a.alone.common(e.from, i.top) != i.top {
			return 0
		}
	}
	return a.alone.bytes[i.top]
}

// imageRows makes the rows of the images that were asked for. The index is read once more for their names,
// so that these are not in memory.
func (a *accounts) imageRows(r index.Reader, f func(Row) error) error {
	return r.Each(layout.Manifest, func(row index.Row) error {
		node, known := a.find(fingerprintOf(row.Digest), a.repository(row.Key.Repository))
		if !known || !a.repos[a.nodes[node].repo].selected {
			return nil
		}
		image := a.account(node)
		if image == nil {
			return nil
		}
		m := &a.nodes[node]
		var tags []index.Row
		if m.tagged {
			var err error
			if tags, err = r.Tags(row.Key.Repository, row.Digest); err != nil {
				return err
			}
		}
		i := imageRow(row, tags, m.used, m.expires)
		i.Size, i.UniqueBytes = image.size, a.unique(image)
		i.KeptBy = a.keptBy(m.used, m.expires, hold{tagged: m.tagged, parent: a.hasParent(node), subject: a.subject(node) != none})
		return f(i)
	})
}

// selected counts the images of the repositories that were asked for.
func (a *accounts) selected() (n int64) {
	for _, i := range a.images {
		if a.repos[a.nodes[i.top].repo].selected {
			n++
		}
	}
	return n
}

func (a *accounts) account(node int32) *account {
	i, ok := slices.BinarySearchFunc(a.images, node, func(i account, node int32) int { return cmp.Compare(i.top, node) })
	if !ok {
		return nil
	}
	return &a.images[i]
}

func (n *names) hasParent(i int32) bool {
	return slices.ContainsFunc(n.above(i), func(e edge) bool { return e.child })
}

// tagRows makes a row of each tag that was asked for.
func (a *accounts) tagRows(r index.Reader, f func(Row) error) error {
	return r.Each(layout.Tag, func(row index.Row) error {
		repo := a.repository(row.Key.Repository)
		if !a.repos[repo].selected {
			return nil
		}
		t := a.tagRow(row, index.Row{})
		if node, ok := a.find(fingerprintOf(row.Digest), repo); ok {
			m := &a.nodes[node]
			t = a.tagRow(row, index.Row{MediaType: a.media.all[m.media], AccessedAt: time.UnixMilli(m.accessed)})
			if image := a.account(node); image != nil {
				t.Size, t.UniqueBytes = image.size, a.unique(image)
			}
		}
		return f(t)
	})
}
