package inspect

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"slices"
	"sort"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// fingerprint is the first half of a digest. A store may have a million manifests; two that agree in it
// nobody can make, and all that they could spoil is a listing.
type fingerprint [16]byte

func fingerprintOf(d digest.Digest) (f fingerprint) {
	_, sum, _ := strings.Cut(string(d), ":")
	_, _ = hex.Decode(f[:], []byte(sum[:min(len(sum), 2*len(f))])) // the index holds valid digests only
	return f
}

func (f fingerprint) compare(g fingerprint) int { return bytes.Compare(f[:], g[:]) }

// node is a manifest of a repository, or one that is about to come. Without pointers, and a tenth of
// what its row takes: the nodes are all that is in memory of a store, blobs pass by.
type node struct {
	id     fingerprint
	config fingerprint // zero: none
	repo   int32
	media  int32

	placed, index     bool
	tagged, reachable bool // by a tag of its own, or by one that keeps it

	accessed int64 // itself
	used     int64 // effective
	expires  int64
}

// edge says that one node keeps another one: its child, or a referrer.
type edge struct {
	from, to int32
	child    bool
}

// repository is one that was asked for, or not.
type repository struct {
	name     string
	selected bool
}

// names are the tags and the manifests of a store, and what keeps what.
type names struct {
	expiry
	only  glob // of repositories; nil: all, and what is in none
	repos []repository
	ids   interned // of repositories
	media interned // types

	nodes   []node // by fingerprint and repository
	keeps   []edge // by from
	keepers []edge // by to

	selected index.Totals // tags and manifests of the repositories that were asked for
}

// load reads the tags and the manifests, and ties them together.
func (n *names) load(r index.Reader) error {
	n.ids.ids, n.media.ids = map[string]int32{}, map[string]int32{}
	subjects, err := n.loadManifests(r)
	if err != nil {
		return err
	}
	err = r.Nested(func(parent, child digest.Digest) error {
		above := fingerprintOf(parent)
		for _, c := range n.every(fingerprintOf(child)) {
			if p, ok := n.find(above, n.nodes[c].repo); ok {
				n.keeps = append(n.keeps, edge{p, c, true})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range subjects {
		m, _ := n.find(s.id, s.repo)
		if subject, ok := n.find(s.subject, s.repo); ok {
			n.keeps = append(n.keeps, edge{subject, m, false})
		}
	}
	slices.SortFunc(n.keeps, func(a, b edge) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	n.keepers = slices.Clone(n.keeps)
	slices.SortFunc(n.keepers, func(a, b edge) int { return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.from, b.from)) })
	if err := r.Each(layout.Tag, n.addTag); err != nil {
		return err
	}
	n.spread()
	return nil
}

type subject struct {
	id, subject fingerprint
	repo        int32
}

func (n *names) loadManifests(r index.Reader) (subjects []subject, err error) {
	err = r.Each(layout.Manifest, func(row index.Row) error {
		m := node{id: fingerprintOf(row.Digest), repo: n.repository(row.Key.Repository), placed: row.Placed,
			media: n.media.id(row.MediaType), index: slices.Contains(indexTypes, row.MediaType), accessed: row.AccessedAt.UnixMilli()}
		m.used = m.accessed
		if row.Config != "" {
			m.config = fingerprintOf(row.Config)
		}
		if row.Subject != "" {
			subjects = append(subjects, subject{m.id, fingerprintOf(row.Subject), m.repo})
		}
		if m.placed && n.repos[m.repo].selected {
			n.selected.Manifests++
		}
		n.nodes = append(n.nodes, m)
		return nil
	})
	slices.SortFunc(n.nodes, func(a, b node) int { return cmp.Or(a.id.compare(b.id), cmp.Compare(a.repo, b.repo)) })
	return subjects, err
}

func (n *names) addTag(row index.Row) error {
	repo := n.repository(row.Key.Repository)
	if n.repos[repo].selected {
		n.selected.Tags++
	}
	if i, ok := n.find(fingerprintOf(row.Digest), repo); ok {
		m := &n.nodes[i]
		m.tagged, m.reachable, m.used = true, true, max(m.used, row.AccessedAt.UnixMilli())
	}
	return nil
}

func (n *names) repository(name string) int32 {
	id := n.ids.id(name)
	if int(id) == len(n.repos) {
		n.repos = append(n.repos, repository{n.ids.all[id], n.only == nil || n.only.match(name)})
	}
	return id
}

// interned keeps each of a few texts once.
type interned struct {
	ids map[string]int32
	all []string
}

func (t *interned) id(text string) int32 {
	id, ok := t.ids[text]
	if !ok {
		id = int32(len(t.all))
		t.ids[text] = id
		t.all = append(t.all, text)
	}
	return id
}

// every returns the nodes of a digest, one for each repository that has it.
func (n *names) every(id fingerprint) (all []int32) {
	i := sort.Search(len(n.nodes), func(i int) bool { return n.nodes[i].id.compare(id) >= 0 })
	for ; i < len(n.nodes) && n.nodes[i].id == id; i++ {
		all = append(all, int32(i))
	}
	return all
}

// find returns the manifest of a repository.
func (n *names) find(id fingerprint, repo int32) (int32, bool) {
	i := sort.Search(len(n.nodes), func(i int) bool {
		m := &n.nodes[i]
		c := m.id.compare(id)
		return c > 0 || c == 0 && m.repo >= repo
	})
	return int32(i), i < len(n.nodes) && n.nodes[i].id == id && n.nodes[i].repo == repo
}

// below are the edges from a node, above those to it.
func (n *names) below(i int32) []edge { return run(n.keeps, i, func(e edge) int32 { return e.from }) }
func (n *names) above(i int32) []edge { return run(n.keepers, i, func(e edge) int32 { return e.to }) }

func run(edges []edge, of int32, end func(edge) int32) []edge {
	from := sort.Search(len(edges), func(i int) bool { return end(edges[i]) >= of })
	to := from
	for to < len(edges) && end(edges[to]) == of {
		to++
	}
	return edges[from:to]
}

// spread gives each manifest the last use of what keeps it, and the time of expiry that follows.
func (n *names) spread() {
	for i := range n.nodes {
		if m := &n.nodes[i]; m.tagged {
			m.expires = n.imageDue(m.used) // with its last tag at the earliest
		}
	}
	n.inherit(func(m *node) *int64 { return &m.used })
	for i := range n.nodes {
		if m := &n.nodes[i]; m.placed {
			m.expires = n.imageDue(m.used)
		} else {
			m.expires = max(m.expires, n.contentDue(m.used)) // a claim is content until its file comes
		}
	}
	n.inherit(func(m *node) *int64 { return &m.expires }) // a claim may be named by what lives longer
	for i := range n.nodes {
		if n.nodes[i].tagged {
			n.reach(int32(i))
		}
	}
}

// inherit gives each manifest the latest time of all that keep it. The latest go first, so that each
// gets its time once, circles or not.
func (n *names) inherit(of func(*node) *int64) {
	var keepers []int32
	for i, e := range n.keeps {
		if i == 0 || e.from != n.keeps[i-1].from {
			keepers = append(keepers, e.from)
		}
	}
	own := func(i int32) int64 { return *of(&n.nodes[i]) }
	slices.SortStableFunc(keepers, func(a, b int32) int { return cmp.Compare(own(b), own(a)) })
	for _, k := range keepers {
		for todo := []int32{k}; len(todo) > 0; {
			from := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for _, e := range n.below(from) {
				if to := of(&n.nodes[e.to]); *to < own(k) {
					*to = own(k)
					todo = append(todo, e.to)
				}
			}
		}
	}
}

// reach marks what a tagged manifest keeps.
func (n *names) reach(top int32) {
	for todo := []int32{top}; len(todo) > 0; {
		from := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, e := range n.below(from) {
			if to := &n.nodes[e.to]; !to.reachable {
				to.reachable = true
				todo = append(todo, e.to)
			}
		}
	}
}
