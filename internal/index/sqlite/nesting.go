package sqlite

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/opencontainers/go-digest"
)

// manifestList are manifests, as a listing of blobs wants to know them. They are read at once: a join would look each
// of them up as often as it names a blob.
type manifestList struct {
	rows []listedManifest // by digest, if all are read
	at   map[string]int32 // where the manifest of a repository is, see key
	key  []byte           // of the last look
}

// listedManifest is a manifest of a repository, perhaps a claim.
type listedManifest struct {
	repo   int64
	digest digest.Digest
	used   int64
	placed bool
	kept   bool   // a tag or another manifest refers to it
	media  string // its media type
	config string // the digest of its config, as it is stored
}

// manifests reads all.
func (q querier) manifests() (*manifestList, error) {
	all := &manifestList{at: map[string]int32{}}
	media := map[string]string{} // the same few again and again
	err := q.each(func(a *answer) error {
		m, err := scanListed(a)
		if err != nil {
			return err
		}
		key, err := all.keyOf(a, m.repo, 0)
		if err != nil {
			return err
		}
		if _, known := media[m.media]; !known {
			media[m.media] = m.media
		}
		m.media = media[m.media]
		all.at[string(key)] = int32(len(all.rows))
		all.rows = append(all.rows, m)
		return nil
	}, filesOf+" ORDER BY m.digest")
	return all, err
}

// listed adds the manifests that a query finds, and returns their numbers.
func (q querier) listed(l *manifestList, query string, args ...any) (numbers []int32, err error) {
	err = q.each(func(a *answer) error {
		m, err := scanListed(a)
		numbers = append(numbers, int32(len(l.rows)))
		l.rows = append(l.rows, m)
		return err
	}, query, args...)
	return numbers, err
}

const listedColumns = "SELECT m.digest, m.repo, m.accessed_at, m.placed, m.referenced, m.media_type, m.config"

func scanListed(a *answer) (m listedManifest, err error) {
	err = a.scan((*packed)(&m.digest), &m.repo, &m.used, &m.placed, &m.kept, &m.media, (*stored)(&m.config))
	return m, err
}

// take appends the numbers of the manifests of a digest. Those before from have smaller ones; it returns the next from.
func (l *manifestList) take(d digest.Digest, into []int32, from int) (numbers []int32, next int) {
	for ; from < len(l.rows) && l.rows[from].digest <= d; from++ {
		if l.rows[from].digest == d {
			into = append(into, int32(from))
		}
	}
	return into, from
}

// keyOf is the key of a manifest in at: its repository, and its digest as a column of a row has it. It is valid until
// the next call.
func (l *manifestList) keyOf(a *answer, repo int64, column int) (key []byte, err error) {
	var digest [1 + 64]byte
	stored, err := a.stored(column, digest[:0])
	l.key = append(binary.BigEndian.AppendUint64(l.key[:0], uint64(repo)), stored...)
	return l.key, err
}

// find returns the manifest that is named in a column. False: it has no row.
func (l *manifestList) find(a *answer, repo int64, column int) (i int32, found bool, err error) {
	key, err := l.keyOf(a, repo, column)
	if err != nil {
		return 0, false, err
	}
	i, found = l.at[string(key)]
	return i, found, nil
}

// scanNamer reads a row of namersOf. It returns -1 for a manifest that has no row.
func (l *manifestList) scanNamer(a *answer) (int32, error) {
	var repo int64
	if err := a.scan(nil, &repo); err != nil {
		return 0, err
	}
	i, found, err := l.find(a, repo, 2)
	if !found {
		i = -1
	}
	return i, err
}

// compare orders manifests by their digests.
func (l *manifestList) compare(a, b int32) int {
	return cmp.Compare(l.rows[a].digest, l.rows[b].digest)
}

// nested is a manifest that another one keeps.
type nested struct {
	tagged  bool // a tag points to it, or to a manifest that keeps it
	above   []edge
	self    bool  // a tag points to it
	tops    []top // the images that it is part of, in order, each once
	found   bool  // tops and tagged are known
	finding bool
}

// edge leads to a manifest that keeps another one.
type edge struct {
	to    int32
	child bool // it names the other one; else it is the subject
}

// top is an image that something is a part of.
type top struct {
	image int32
	own   bool // not only by a referrer
}

// merged puts tops in order, and makes one of those of the same image.
func merged(tops []top) []top {
	if len(tops) < 2 {
		return tops
	}
	slices.SortFunc(tops, func(a, b top) int { return cmp.Compare(a.image, b.image) })
	n := 1
	for _, t := range tops[1:] {
		if last := &tops[n-1]; last.image == t.image {
			last.own = last.own || t.own
			continue
		}
		tops[n] = t
		n++
	}
	return tops[:n]
}

// nesting are the manifests that others keep.
type nesting struct {
	all *manifestList
	in  map[int32]*nested
}

// nested reads which manifests keep which. CROSS JOIN: the manifests are few, so they are read first.
func (q querier) nested(all *manifestList) (nesting, error) {
	n := nesting{all, map[int32]*nested{}}
	const tagged = "EXISTS (SELECT 1 FROM tags t WHERE t.digest = m.digest AND t.repo = m.repo)"
	err := q.each(n.add, "SELECT m.repo, "+tagged+`, 1, m.digest, f.parent FROM manifests m
		CROSS JOIN refs f ON f.child = m.digest AND f.repo = m.repo WHERE m.referenced = 1`)
	if err == nil {
		err = q.each(n.add, "SELECT m.repo, "+tagged+`, 0, m.digest, m.subject FROM manifests m
			WHERE m.subject IS NOT NULL AND m.detached = 0`)
	}
	return n, err
}

func (n nesting) add(a *answer) error {
	var repo int64
	var self, child bool
	if err := a.scan(&repo, &self, &child); err != nil {
		return err
	}
	m, known, err := n.all.find(a, repo, 3)
	if err != nil || !known {
		return err
	}
	above, known, err := n.all.find(a, repo, 4)
	if err != nil || !known {
		return err
	}
	in := n.in[m]
	if in == nil {
		in = &nested{self: self}
		n.in[m] = in
	}
	in.above = append(in.above, edge{above, child})
	return nil
}

// within returns what a manifest is part of, or nil if no other one keeps it.
func (n nesting) within(m int32) *nested {
	in := n.in[m]
	if in != nil && !in.found && !in.finding {
		in.finding = true // a circle ends
		n.find(m, in)
		in.found = true
	}
	return in
}

// find follows the edges up to the images. A referrer that has a tag is an image of its own, and no part of its
// subject.
func (n nesting) find(m int32, in *nested) {
	var tops []top
	if in.self || !slices.ContainsFunc(in.above, func(e edge) bool { return n.all.rows[e.to].placed }) {
		tops = append(tops, top{m, true})
	}
	in.tagged = in.self
	for _, e := range in.above {
		above := n.within(e.to)
		if above == nil {
			in.tagged = in.tagged || n.all.rows[e.to].kept // by a tag, since no manifest keeps it
		} else {
			in.tagged = in.tagged || above.tagged
		}
		if !e.child && in.self {
			continue
		}
		if above == nil {
			tops = append(tops, top{e.to, e.child})
			continue
		}
		for _, t := range above.tops {
			tops = append(tops, top{t.image, t.own && e.child})
		}
	}
	in.tops = merged(tops)
}
