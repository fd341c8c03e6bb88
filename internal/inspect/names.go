package inspect

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// loadNames reads the tags and the manifests, and ties them together.
func (g *graph) loadNames(r index.Reader) error {
	subjects := map[*manifest]digest.Digest{}
	err := r.Each(index.Manifest, func(row index.Row) error {
		m := g.addManifest(row)
		if row.Subject != "" {
			subjects[m] = row.Subject
		}
		return nil
	})
	if err != nil {
		return err
	}
	for m, d := range subjects {
		if m.subject = g.find(m.repo, d); m.subject != nil {
			m.subject.referrers = append(m.subject.referrers, m)
		}
	}
	if err := r.Nested(g.nest); err != nil {
		return err
	}
	if err := r.Each(index.Tag, g.addTag); err != nil {
		return err
	}
	all := g.inOrder()
	g.spread(all)
	g.findImages(all)
	return nil
}

func (g *graph) addManifest(row index.Row) *manifest {
	m := &manifest{repo: g.repository(row.Key.Repository), digest: row.Digest, mediaType: row.MediaType, placed: row.Placed,
		created: row.CreatedAt, accessed: row.AccessedAt}
	if others := g.manifests[m.digest]; len(others) > 0 {
		m.digest, m.mediaType = others[0].digest, others[0].mediaType // the same text in memory
	}
	g.manifests[m.digest] = append(g.manifests[m.digest], m)
	if row.Config != "" {
		g.configs[row.Config] = true
	}
	if m.placed && m.repo.selected {
		g.summary.Manifests++
	}
	return m
}

func (g *graph) nest(parent, child digest.Digest) error {
	for _, m := range g.manifests[child] {
		if p := g.find(m.repo, parent); p != nil {
			m.parents = append(m.parents, p)
			p.children = append(p.children, m)
		}
	}
	return nil
}

func (g *graph) addTag(row index.Row) error {
	t := tag{repo: g.repository(row.Key.Repository), name: row.Key.Tag, digest: row.Digest, created: row.CreatedAt, accessed: row.AccessedAt}
	if t.repo.selected {
		g.summary.Tags++
	}
	if m := g.find(t.repo, t.digest); m != nil {
		m.tags = append(m.tags, t)
	} else {
		g.dangling = append(g.dangling, t)
	}
	return nil
}

func (g *graph) inOrder() []*manifest {
	var all []*manifest
	for _, same := range g.manifests {
		all = append(all, same...)
	}
	slices.SortFunc(all, func(a, b *manifest) int {
		return cmp.Or(cmp.Compare(a.repo.name, b.repo.name), cmp.Compare(a.digest, b.digest))
	})
	for _, m := range all {
		slices.SortFunc(m.tags, func(a, b tag) int { return cmp.Compare(a.name, b.name) })
	}
	return all
}

// spread gives each manifest the last use of what keeps it, and the time of expiry that follows.
func (g *graph) spread(all []*manifest) {
	for _, m := range all {
		m.used = m.accessed
		for _, t := range m.tags {
			m.used = latest(m.used, t.accessed)
		}
		if len(m.tags) > 0 {
			m.expires = g.nameDue(m.used) // with its last tag at the earliest
		}
	}
	inherit(all, func(m *manifest) *time.Time { return &m.used })
	for _, m := range all {
		if m.placed {
			m.expires = g.nameDue(m.used)
		} else {
			m.expires = latest(m.expires, g.contentDue(m.used)) // a claim is content until its file comes
		}
	}
	inherit(all, func(m *manifest) *time.Time { return &m.expires }) // a claim may be named by what lives longer
}

// inherit gives each manifest the latest time of all that keep it. The latest come first, so that the
// first to reach a manifest is the one that counts, circles or not.
func inherit(all []*manifest, of func(*manifest) *time.Time) {
	late := slices.Clone(all)
	slices.SortStableFunc(late, func(a, b *manifest) int { return of(b).Compare(*of(a)) })
	done := map[*manifest]bool{}
	for _, m := range late {
		for todo := []*manifest{m}; len(todo) > 0; {
			next := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if done[next] {
				continue
			}
			done[next], *of(next) = true, *of(m)
			todo = append(append(todo, next.children...), next.referrers...)
		}
	}
}
