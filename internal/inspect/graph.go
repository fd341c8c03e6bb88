package inspect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/expiry"
	"github.com/jc-lab/docker-cache-server/internal/index"
)

// graph is what names what: tags and manifests, in memory. Blobs are many more and pass by as a stream.
type graph struct {
	store  index.Store
	policy index.Policy
	life   time.Duration // of names
	mortal bool
	now    time.Time

	manifests map[digest.Digest][]*manifest // one for each repository
	configs   map[digest.Digest]bool
	repos     map[string]*repository
	lists     map[string][]string // of repositories, joined: shared by the blobs that have the same
	dangling  []tag               // tags whose manifest the index does not know
	round     int                 // of account
	summary   index.Totals
}

type repository struct {
	name     string
	selected bool
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
	subject   *manifest // in this repository
	placed    bool
	created   time.Time
	own       time.Time // last use of itself
	used      time.Time // the effective one
	expires   time.Time // zero: never

	tags      []tag // A to Z
	parents   []*manifest
	children  []*manifest
	referrers []*manifest

	tops   []*manifest // the images that it is a part of, among them perhaps itself
	size   int64       // tops only, as unique
	unique int64
	round  int // of account: hits is of this round
	hits   int
}

// use is a blob with what the graph knows about what uses it.
type use struct {
	index.Use
	manifests []*manifest // whose file it is
	selected  bool        // it can be pulled from a repository that was asked for
}

// load reads an index: names first, then the blobs, with each of which it calls visit.
func load(ctx context.Context, store index.Store, p index.Policy, o Options, visit func(*graph, use)) (*graph, error) {
	g := &graph{store: store, policy: p, now: store.Now(),
		manifests: map[digest.Digest][]*manifest{}, configs: map[digest.Digest]bool{},
		repos: map[string]*repository{}, lists: map[string][]string{}}
	g.life, g.mortal = expiry.Life(p)
	err := store.View(ctx, func(r index.Reader) error {
		if err := g.loadNames(r, o.Repository); err != nil {
			return err
		}
		err := r.Uses(func(u index.Use) error {
			known := g.use(u)
			if known.selected {
				g.summary.Blobs++
				g.summary.Bytes += u.Blob.Size
			}
			visit(g, known)
			return ctx.Err()
		})
		if err != nil || o.Repository != "" {
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

func (g *graph) loadNames(r index.Reader, pattern string) error {
	match, err := matcher(pattern)
	if err != nil {
		return err
	}
	var subjects []func()
	err = r.Each(index.Manifest, func(row index.Row) error {
		m := g.addManifest(row, match)
		if row.Subject != "" {
			subjects = append(subjects, func() { g.refer(m, row.Subject) })
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, join := range subjects {
		join()
	}
	if err := r.Nested(g.nest); err != nil {
		return err
	}
	if err := r.Each(index.Tag, func(row index.Row) error { g.addTag(row, match); return nil }); err != nil {
		return err
	}
	g.spread()
	g.findTops()
	return nil
}

// matcher says which repositories were asked for. Without a pattern that is all, and blobs that are in
// no repository at all too.
func matcher(pattern string) (func(string) bool, error) {
	if pattern == "" {
		return func(string) bool { return true }, nil
	}
	glob, err := compileGlob(pattern)
	return glob.match, err
}

func (g *graph) repository(name string, match func(string) bool) *repository {
	r := g.repos[name]
	if r == nil {
		r = &repository{name: name, selected: match(name)}
		g.repos[name] = r
	}
	return r
}
