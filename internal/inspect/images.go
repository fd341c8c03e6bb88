package inspect

import (
	"slices"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// accounts are what an image consists of and holds.
type accounts struct {
	size, unique int64
	owner        *manifest // the image with which it goes; only untagged referrers have one

	seen, round, hits int // of account: the last rounds in which it was seen and hit, and how often it was
}

// findImages tells every manifest what images it is a part of. A circle that nothing outside names is an
// image too, by one of its manifests.
func (g *graph) findImages(all []*manifest) {
	for _, m := range all {
		if m.isTop() {
			g.addImage(m)
		}
	}
	for _, m := range all {
		if m.placed && len(m.images) == 0 {
			g.addImage(m)
		}
	}
	for _, m := range g.images {
		m.findOwner()
	}
}

// isTop says whether a manifest is an image of its own: it has a tag, or nothing names it yet.
func (m *manifest) isTop() bool {
	return m.placed && (len(m.tags) > 0 || !slices.ContainsFunc(m.parents, func(p *manifest) bool { return p.placed }))
}

func (g *graph) addImage(m *manifest) {
	g.images = append(g.images, m)
	for todo := []*manifest{m}; len(todo) > 0; {
		part := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n := len(part.images); n == 0 || part.images[n-1] != m {
			part.images = append(part.images, m)
			todo = append(todo, part.children...)
		}
	}
}

// findOwner finds the image with which an untagged referrer goes: that of its subject, if it is one.
func (m *manifest) findOwner() {
	if len(m.tags) > 0 || m.subject == nil || len(m.subject.images) != 1 {
		return
	}
	owner := m.subject.images[0]
	for o := owner; o != nil; o = o.image.owner {
		if o == m {
			return // a circle of subjects
		}
	}
	m.image.owner = owner
}

// account adds a blob to the images that it is a part of, and to those with which it would go: all that
// holds it is a part of the image, or of a referrer that goes with the image.
func (g *graph) account(u use) {
	images, only := g.holders(u)
	for _, i := range images {
		i.image.size += u.Blob.Size
	}
	if !only || len(images) == 0 {
		return
	}
	for _, i := range images {
		for o := i; o != nil; o = o.image.owner {
			if o.image.round != g.round {
				o.image.round, o.image.hits = g.round, 0
			}
			o.image.hits++
		}
	}
	for o := images[0]; o != nil; o = o.image.owner {
		if o.image.hits == len(images) {
			o.image.unique += u.Blob.Size
		}
	}
}

// holders returns the images that hold a blob, and whether nothing else does.
func (g *graph) holders(u use) (images []*manifest, only bool) {
	only = true
	add := func(m *manifest) {
		only = only && len(m.images) > 0
		for _, i := range m.images {
			if i.image.seen != g.round {
				i.image.seen = g.round
				images = append(images, i)
			}
		}
	}
	for _, m := range u.manifests {
		add(m)
	}
	for _, l := range u.Links {
		named := g.naming(l)
		only = only && len(named) > 0
		for _, m := range named {
			add(m)
		}
	}
	return images, only
}

func (g *graph) imageRows(f func(Image)) {
	for _, m := range g.images {
		if !m.repo.selected {
			continue
		}
		var tags []string
		for _, t := range m.tags {
			tags = append(tags, t.name)
		}
		f(m.row(strings.Join(tags, " "), m.used, m.expires, m.created, g.keptBy(m)))
	}
}

func (m *manifest) row(tag string, used, expires, created time.Time, keptBy string) Image {
	return Image{Repository: m.repo.name, Tag: tag, Digest: m.digest, MediaType: m.mediaType,
		Size: m.image.size, UniqueBytes: m.image.unique, LastAccess: stamp.Time(used), ExpiresAt: stampExpiry(expires),
		KeptBy: keptBy, created: created}
}

// tagRows makes a row of each tag. It was used when itself or its manifest was, however that is kept.
func (g *graph) tagRows(f func(Image)) {
	row := func(t tag, m *manifest) {
		used := latest(t.accessed, m.accessed)
		if t.repo.selected {
			f(m.row(t.name, used, g.nameDue(used), t.created, KeptByTag))
		}
	}
	for _, same := range g.manifests {
		for _, m := range same {
			for _, t := range m.tags {
				row(t, m)
			}
		}
	}
	for _, t := range g.dangling {
		row(t, &manifest{repo: t.repo, digest: t.digest})
	}
}

// keptBy says what keeps an image.
func (g *graph) keptBy(m *manifest) string {
	switch {
	case len(m.tags) > 0:
		return KeptByTag
	case len(m.parents) > 0:
		return KeptByParent
	case m.subject != nil:
		return KeptBySubject
	case !g.now.After(g.contentDue(m.used)):
		return KeptByGrace
	case !g.now.After(m.expires):
		return KeptByTTL
	}
	return ""
}
