package inspect

import (
	"slices"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// The kinds of blobs in Blob.Kind.
const (
	kindLayer    = "layer"
	kindConfig   = "config"
	kindManifest = "manifest"
	kindIndex    = "index"
	kindOther    = "other"
)

var indexTypes = []string{
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
}

// look joins a blob with what the graph knows, and counts it.
func (g *graph) look(u index.Use) use {
	g.round++
	for _, d := range u.Named {
		for _, m := range g.manifests[d] {
			if m.repo.round != g.round {
				m.repo.round, m.repo.named = g.round, m.repo.named[:0]
			}
			m.repo.named = append(m.repo.named, m)
		}
	}
	known := use{Use: u, manifests: g.manifests[u.Blob.Digest], selected: g.only == nil}
	for _, l := range u.Links {
		known.selected = known.selected || l.Placed && g.repository(l.Key.Repository).selected
	}
	for _, m := range known.manifests {
		known.selected = known.selected || m.placed && m.repo.selected
	}
	if known.selected {
		g.summary.Blobs++
		g.summary.Bytes += u.Blob.Size
	}
	return known
}

// blob makes a row.
func (g *graph) blob(u use) Blob {
	b := Blob{Digest: u.Blob.Digest, Size: u.Blob.Size, Kind: g.kind(u), CreatedAt: stamp.Time(u.Blob.CreatedAt),
		Repositories: g.list(u), Manifests: len(u.Named)}
	var used time.Time
	expires := g.contentDue(u.Blob.AccessedAt)
	for _, l := range u.Links {
		linkUsed, linkExpires := g.link(l)
		used, expires = latest(used, linkUsed), latest(expires, linkExpires)
	}
	for _, m := range u.manifests {
		used, expires = latest(used, m.used), latest(expires, m.expires)
	}
	if used.IsZero() {
		used = u.Blob.AccessedAt // nothing holds it
	}
	b.LastAccess, b.ExpiresAt = stamp.Time(used), stampExpiry(expires)
	return b
}

// naming returns the manifests of a link's repository that name the blob at hand.
func (g *graph) naming(l index.Row) []*manifest {
	if repo := g.repository(l.Key.Repository); repo.round == g.round {
		return repo.named
	}
	return nil
}

// link returns when a link was used last, and when it goes: by itself after its grace, or with the last
// manifest of the repository that names it.
func (g *graph) link(l index.Row) (used, expires time.Time) {
	used, expires = l.AccessedAt, g.contentDue(l.AccessedAt)
	for _, m := range g.naming(l) {
		used, expires = latest(used, m.used), latest(expires, m.expires)
	}
	return used, expires
}

func stampExpiry(t time.Time) stamp.Time {
	if t.Equal(never) {
		return stamp.Time{}
	}
	return stamp.Time(t)
}

func (g *graph) kind(u use) string {
	switch {
	case len(u.manifests) > 0 && slices.Contains(indexTypes, u.manifests[0].mediaType):
		return kindIndex
	case len(u.manifests) > 0:
		return kindManifest
	case g.configs[u.Blob.Digest]:
		return kindConfig
	case len(u.Links) > 0 || len(u.Named) > 0:
		return kindLayer
	}
	return kindOther
}

// list returns the names of the repositories from which a blob can be pulled.
func (g *graph) list(u use) []string {
	names := make([]string, 0, 8)
	for _, l := range u.Links {
		if l.Placed {
			names = append(names, l.Key.Repository)
		}
	}
	for _, m := range u.manifests {
		if m.placed {
			names = append(names, m.repo.name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	joined := strings.Join(names, " ")
	if g.lists[joined] == nil {
		g.lists[joined] = slices.Clone(names)
	}
	return g.lists[joined]
}
