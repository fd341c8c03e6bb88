package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/image"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Tree is one image: its row as in a list of images, and what it consists of.
type Tree struct {
	Image
	Kind     string     `json:"kind"` // manifest or index
	PushedAt stamp.Time `json:"created_at"`
	Children []*Node    `json:"children"`
	Complete bool       `json:"complete"` // the index knows all that is on disk

	Asked Reference `json:"-"` // the name it was asked for by
	Owner string    `json:"-"` // the name of the manifest that owns it, if one does
	Now   time.Time `json:"-"` // when the store was read
}

// Node is a part of an image, or what refers to one.
type Node struct {
	Digest       digest.Digest `json:"digest"`
	Kind         string        `json:"kind"` // index, manifest, config, layer or referrer
	MediaType    string        `json:"media_type"`
	ArtifactType string        `json:"artifact_type"`
	Platform     string        `json:"platform"`    // os/architecture, if the index that names it says so
	Size         int64         `json:"size"`        // with its children but referrers, each blob once
	Shared       bool          `json:"shared"`      // it has an owner outside of the image, and stays without it
	SharedWith   []string      `json:"shared_with"` // some of that: images, and other repositories
	Missing      bool          `json:"missing"`     // it should be there and is not; its size is what the image says
	Foreign      bool          `json:"foreign"`     // not here, and need not be: it comes with URLs
	Above        bool          `json:"above"`       // its children are shown where it stands first
	Children     []*Node       `json:"children"`

	Note string `json:"-"` // what it is for, if its kind does not say so
	More bool   `json:"-"` // SharedWith is not all
}

// KindReferrer is the kind of a Node whose subject is the node above it.
const KindReferrer = "referrer"

// ReadTree looks up one image as it would live under a policy. Only that image is read, by point queries
// and from the manifests in a data directory, which say in what order it is built.
func ReadTree(ctx context.Context, store index.Store, p index.Policy, dir tree.Dir, ref Reference) (
	t *Tree, err error,
) {
	x, err := newExpiry(ctx, store, p)
	if err != nil {
		return nil, err
	}
	err = store.View(ctx, func(r index.Reader) error {
		top, err := finder{r, ctx, dir}.find(ref)
		if err != nil {
			return err
		}
		t, err = readTree(ctx, r, dir, *top)
		if err != nil {
			return err
		}
		t.Asked, t.Now, t.Complete = ref, store.Now(), x.whole
		if top.Key.Repository != ref.Repository { // it was named by its digest alone
			t.Asked = Reference{Repository: top.Key.Repository, Digest: top.Digest.String()}
		}
		return t.addUse(r, *top, x)
	})
	var unknown *NotFoundError
	if errors.As(err, &unknown) {
		if !x.whole {
			unknown.Try = "the index is being rebuilt from disk and does not know everything yet; try again in a while"
			return nil, unknown
		}
		gone, err := lastRemoval(ctx, store, p, ref)
		if err != nil || gone == nil {
			return nil, errors.Join(err, unknown)
		}
		return nil, &GoneError{*unknown, *gone, store.Now()}
	}
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", ref, err)
	}
	return t, nil
}

// readTree makes the tree of a manifest that is there, from one state of the index.
func readTree(ctx context.Context, r index.Reader, dir tree.Dir, top index.Row) (*Tree, error) {
	i, err := image.Of(r, top.Key)
	if err != nil {
		return nil, err
	}
	b := &builder{Reader: r, ctx: ctx, dir: dir, repo: top.Key.Repository, image: i,
		manifests: map[digest.Digest]*index.Row{}, parts: map[digest.Digest][]part{}, nodes: map[digest.Digest]Node{},
		sizes: map[digest.Digest]int64{}, shown: map[digest.Digest]bool{}}
	n, err := b.build(part{Digest: top.Digest, MediaType: top.MediaType}, &top)
	if err != nil {
		return nil, err
	}
	t := &Tree{Kind: n.Kind, PushedAt: stamp.Time(top.CreatedAt), Children: n.Children}
	t.Image = Image{Repository: b.repo, Digest: n.Digest, MediaType: n.MediaType, Size: n.Size,
		CreatedAt: stamp.Time(top.CreatedAt)}
	t.UniqueBytes, err = i.UniqueBytes()
	return t, err
}

// builder makes the nodes of one image.
type builder struct {
	index.Reader
	ctx   context.Context
	dir   tree.Dir
	repo  string
	image *image.Image

	manifests map[digest.Digest]*index.Row // nil: no manifest of the repository
	parts     map[digest.Digest][]part     // of manifests
	nodes     map[digest.Digest]Node       // what the store says of a digest, wherever it stands
	sizes     map[digest.Digest]int64      // of manifests with their children
	shown     map[digest.Digest]bool       // manifests whose children are shown
}

// manifest returns the row of a manifest of the repository, nil if d is none.
func (b *builder) manifest(d digest.Digest) (*index.Row, error) {
	m, known := b.manifests[d]
	if known {
		return m, nil
	}
	m, err := b.Row(layout.ManifestKey(b.repo, d))
	if m != nil && !m.Placed {
		m = nil
	}
	b.manifests[d] = m
	return m, err
}

// build makes the node of a manifest with all below it, each manifest once: a circle ends, and so does
// what would be many times its size.
func (b *builder) build(p part, m *index.Row) (*Node, error) {
	n, err := b.node(p, m)
	if err != nil {
		return nil, err
	}
	if n.Size, err = b.size(p.Digest); err != nil {
		return nil, err
	}
	if b.shown[p.Digest] {
		n.Above = true
		return n, b.ctx.Err()
	}
	b.shown[p.Digest] = true
	parts, err := b.partsOf(p.Digest)
	if err != nil {
		return nil, err
	}
	for _, below := range parts {
		child, err := b.child(below)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, child)
	}
	referrers, err := b.referrers(p.Digest)
	n.Children = append(n.Children, referrers...)
	return n, err
}

// child makes the node of something that a manifest names.
func (b *builder) child(p part) (*Node, error) {
	m, err := b.manifest(p.Digest)
	if err != nil {
		return nil, err
	}
	if m != nil {
		return b.build(p, m)
	}
	return b.node(p, nil)
}

// referrers makes the nodes of the manifests whose subject is d, in the order in which they came.
func (b *builder) referrers(d digest.Digest) (nodes []*Node, err error) {
	rows, err := b.Referrers(b.repo, d)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(a, b index.Row) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Digest, b.Digest))
	})
	for _, r := range rows {
		if !r.Placed {
			continue
		}
		n, err := b.build(part{Digest: r.Digest, MediaType: r.MediaType}, &r)
		if err != nil {
			return nil, err
		}
		n.Kind = KindReferrer
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// node says what there is to say about one digest. m is its row if it is a manifest of the repository.
func (b *builder) node(p part, m *index.Row) (*Node, error) {
	n, known := b.nodes[p.Digest]
	if !known {
		var err error
		if n, err = b.stored(p, m); err != nil {
			return nil, err
		}
		b.nodes[p.Digest] = n
	}
	n.Kind, n.Platform, n.Note = p.kind(m), p.Platform.String(), p.note()
	n.SharedWith, n.Children = slices.Clone(n.SharedWith), []*Node{}
	return &n, nil
}

// stored says what the store has of a digest, wherever it stands in the image. A blob that is not here has the size
// that its manifest says.
func (b *builder) stored(p part, m *index.Row) (n Node, err error) {
	n = Node{Digest: p.Digest, MediaType: p.MediaType, Size: p.Size, SharedWith: []string{}}
	if m != nil {
		n.MediaType, n.ArtifactType = m.MediaType, m.Artifact
	}
	blob, err := b.here(p.Digest, m)
	if err != nil {
		return n, err
	}
	if blob == nil {
		n.Foreign = p.foreign()
		n.Missing = !n.Foreign
		return n, nil
	}
	n.Size = blob.Size
	only, err := b.image.Only(p.Digest)
	if err != nil || only {
		return n, err
	}
	n.Shared = true
	n.SharedWith, n.More, err = b.others(p.Digest, m)
	return n, err
}

// here returns the row of a blob if its file is there and the repository may give it out.
func (b *builder) here(d digest.Digest, m *index.Row) (*index.Row, error) {
	blob, err := b.Row(layout.BlobKey(d))
	if err != nil || blob == nil || !blob.Placed {
		return nil, err
	}
	if m == nil {
		link, err := b.Row(layout.LayerKey(b.repo, d))
		if err != nil || link == nil || !link.Placed {
			return nil, err
		}
	}
	if b.dir != "" { // a row never proves existence
		if there, err := b.dir.Has(blob.Key); err != nil || !there {
			return nil, err
		}
	}
	return blob, nil
}

// size is what a manifest and all below it have on disk, each blob once.
func (b *builder) size(top digest.Digest) (bytes int64, err error) {
	if known, ok := b.sizes[top]; ok {
		return known, nil
	}
	bytes, err = image.Size(b, layout.ManifestKey(b.repo, top))
	b.sizes[top] = bytes
	return bytes, err
}
