package sqlite

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"
)

// manifestList are manifests, as a listing of blobs wants to know them. They are read at once: a join would look each
// of them up as often as it names a blob. A store has hundreds of thousands, so they have no pointers.
type manifestList struct {
	rows    []listedManifest // by digest and repository, if all are read
	digests []byte           // as they are stored, one after the other
	media   []string         // the media types
	types   map[string]int32 // their numbers
	scratch []byte
}

// listedManifest is a manifest of a repository, perhaps a claim.
type listedManifest struct {
	repo   int64
	used   int64
	digest span
	config span
	media  int32 // the number of its media type
	placed bool
	kept   bool // a tag or another manifest refers to it
}

// span is where a digest is in the digests of a list.
type span struct {
	at     uint32
	length uint8
}

const listedColumns = "SELECT m.digest, m.config, m.media_type, m.repo, m.accessed_at, m.placed, m.referenced"

// manifests reads all.
func (q querier) manifests() (*manifestList, error) {
	all := &manifestList{}
	err := q.each(all.add, filesOf+" ORDER BY m.digest, m.repo")
	return all, err
}

// listed adds the manifests that a query finds, and returns their numbers.
func (q querier) listed(l *manifestList, query string, args ...any) (numbers []int32, err error) {
	first := len(l.rows)
	err = q.each(l.add, query, args...)
	for i := first; i < len(l.rows); i++ {
		numbers = append(numbers, int32(i))
	}
	return numbers, err
}

// add reads a row of listedColumns. Media types are few, so each is kept once and has a number.
func (l *manifestList) add(a *answer) (err error) {
	var m listedManifest
	var media string
	if m.digest, err = l.keep(a, 0); err != nil {
		return err
	}
	if m.config, err = l.keep(a, 1); err != nil {
		return err
	}
	if err := a.scan(nil, nil, &media, &m.repo, &m.used, &m.placed, &m.kept); err != nil {
		return err
	}
	known := false
	if m.media, known = l.types[media]; !known {
		if l.types == nil {
			l.types = map[string]int32{}
		}
		m.media = int32(len(l.media))
		l.media, l.types[media] = append(l.media, media), m.media
	}
	l.rows = append(l.rows, m)
	return nil
}

// keep copies the digest of a column.
func (l *manifestList) keep(a *answer, column int) (span, error) {
	d, err := a.stored(column, l.scratch)
	if err != nil {
		return span{}, err
	}
	l.scratch = d
	at := len(l.digests)
	l.digests = append(l.digests, d...)
	return span{uint32(at), uint8(len(d))}, nil
}

// bytes is a digest as it is stored.
func (l *manifestList) bytes(s span) []byte { return l.digests[s.at : s.at+uint32(s.length)] }

// digest is that of a manifest.
func (l *manifestList) digest(i int32) (d digest.Digest, err error) {
	err = (*packed)(&d).unpack(l.bytes(l.rows[i].digest))
	return d, err
}

// compare orders manifests by their digests.
func (l *manifestList) compare(a, b int32) int {
	return bytes.Compare(l.bytes(l.rows[a].digest), l.bytes(l.rows[b].digest))
}

// take appends the numbers of the manifests of a digest. Those before from have smaller ones; it returns the next from.
func (l *manifestList) take(stored []byte, into []int32, from int) (numbers []int32, next int) {
	for ; from < len(l.rows); from++ {
		order := bytes.Compare(l.bytes(l.rows[from].digest), stored)
		if order > 0 {
			break
		}
		if order == 0 {
			into = append(into, int32(from))
		}
	}
	return into, from
}

// find returns the manifest that is named in a column. False: it has no row.
func (l *manifestList) find(a *answer, repo int64, column int) (i int32, found bool, err error) {
	if l.scratch, err = a.stored(column, l.scratch); err != nil {
		return 0, false, err
	}
	n, found := slices.BinarySearchFunc(l.rows, repo, func(m listedManifest, repo int64) int {
		return cmp.Or(bytes.Compare(l.bytes(m.digest), l.scratch), cmp.Compare(m.repo, repo))
	})
	return int32(n), found, nil
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

// nested is a manifest that another one keeps.
type nested struct {
	tagged bool // a tag points to it, or to a manifest that keeps it
	above  []edge
	self   bool  // a tag points to it
	tops   []top // the images that it is part of, in order, each once
	begun  bool  // tops and tagged are known, or are being found: a circle ends
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

// add reads a row of one that is kept and of one that keeps it. A row whose other end has no row adds nothing: it keeps
// nothing.
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
	if in != nil && !in.begun {
		in.begun = true
		n.find(m, in)
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
