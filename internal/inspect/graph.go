package inspect

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/expiry"
	"github.com/jc-lab/docker-cache-server/internal/index"
)

// graph is what names what: tags and manifests, in memory. Blobs are many more and pass by as a stream.
type graph struct {
	store   index.Store
	names   time.Duration // how long names live
	mortal  bool          // names expire at all
	content time.Duration // how long content lives that nothing names
	now     time.Time
	only    glob // of repositories; nil: all, and what is in none

	repos     map[string]*repository
	manifests map[digest.Digest][]*manifest // one for each repository
	configs   map[digest.Digest]bool
	lists     map[string][]string // of repositories by their joined names: many blobs have the same
	dangling  []tag               // whose manifest the index does not know
	images    []*manifest         // by repository and digest
	round     int                 // counts the blobs that passed by
	summary   index.Totals
}

type repository struct {
	name     string
	selected bool

	round int         // to which named belongs
	named []*manifest // those that name the blob of the round
}

type tag struct {
	repo     *repository
	name     string
	digest   digest.Digest
	created  time.Time
	accessed time.Time
}

// manifest is one in a repository, or one that is about to come.
type manifest struct {
	repo      *repository
	digest    digest.Digest
	mediaType string
	placed    bool
	created   time.Time
	accessed  time.Time // itself
	used      time.Time // effective
	expires   time.Time

	tags      []tag
	subject   *manifest // in this repository
	parents   []*manifest
	children  []*manifest
	referrers []*manifest

	images []*manifest // of which it is a part, among them perhaps itself
	image  accounts
}

// never is the time of expiry of what does not expire. It is after every other.
var never = time.Unix(1<<40, 0)

// use is a blob with what the graph knows about its uses.
type use struct {
	index.Use
	manifests []*manifest // whose file it is
	selected  bool        // it can be pulled from a repository that was asked for
}

// load reads an index: names first, then the blobs, with each of which it calls visit.
func load(ctx context.Context, store index.Store, p index.Policy, o Options, visit func(*graph, use)) (*graph, error) {
	g := &graph{store: store, now: store.Now(), content: p.Grace + p.Resolution, repos: map[string]*repository{},
		manifests: map[digest.Digest][]*manifest{}, configs: map[digest.Digest]bool{}, lists: map[string][]string{}}
	g.names, g.mortal = expiry.Life(p)
	if o.Repository != "" {
		g.only, _ = compileGlob(o.Repository) // checked before
	}
	err := store.View(ctx, func(r index.Reader) error {
		if err := g.loadNames(r); err != nil {
			return err
		}
		err := r.Uses(func(u index.Use) error {
			visit(g, g.look(u))
			return ctx.Err()
		})
		if err != nil || g.only != nil {
			return err
		}
		g.summary, err = r.Totals()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	return g, nil
}

func (g *graph) head(k Kind) Head { return Head{Kind: k, Summary: g.summary, Now: g.now} }

func (g *graph) repository(name string) *repository {
	r := g.repos[name]
	if r == nil {
		r = &repository{name: name, selected: g.only == nil || g.only.match(name)}
		g.repos[name] = r
	}
	return r
}

// find returns the manifest of a repository, or nil.
func (g *graph) find(repo *repository, d digest.Digest) *manifest {
	for _, m := range g.manifests[d] {
		if m.repo == repo {
			return m
		}
	}
	return nil
}

// nameDue is when a name goes that was used last at a time.
func (g *graph) nameDue(t time.Time) time.Time {
	if !g.mortal {
		return never
	}
	return g.store.Due(t, g.names)
}

// contentDue is when content goes that was used last at a time, if nothing names it.
func (g *graph) contentDue(t time.Time) time.Time { return g.store.Due(t, g.content) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
