package inspect

import (
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

const (
	// sharers is how many of those that share something are looked at. Thousands may share a base layer.
	sharers = 8
	// climb is how far up a tag is looked for that names a manifest.
	climb = 8
)

// namer gives manifests the names by which people know them.
type namer struct {
	index.Reader
	names map[layout.Key]string
}

// name is the tag of a manifest, or of one that keeps it, or else its digest.
func (n *namer) name(m index.Row) (string, error) {
	if known, ok := n.names[m.Key]; ok {
		return known, nil
	}
	name := byDigest(m.Key.Repository, m.Digest)
	for at, steps := []index.Row{m}, 0; len(at) > 0 && steps < climb; steps++ {
		tags, err := n.Tags(m.Key.Repository, at[0].Digest)
		if err != nil {
			return "", err
		}
		if len(tags) > 0 {
			name = tags[0].Key.Repository + ":" + tags[0].Key.Tag
			break
		}
		if at, err = keepers(n, at[0], 1); err != nil {
			return "", err
		}
	}
	if n.names == nil {
		n.names = map[layout.Key]string{}
	}
	n.names[m.Key] = name
	return name, nil
}

// images names the images to which manifests belong, each once.
func (n *namer) images(manifests []index.Row) (names []string, err error) {
	for _, m := range manifests {
		name, err := n.name(m)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// others names some of what holds a blob besides the image, and says whether there is more.
func (b *builder) others(d digest.Digest, m *index.Row) (names []string, more bool, err error) {
	outside, err := b.image.Outside(d, sharers)
	if err != nil {
		return nil, false, err
	}
	if len(outside) == 0 && b.image.Part() {
		outside, err = b.image.Outside(b.image.Top(), sharers)
		if err != nil {
			return nil, false, err
		}
	}
	if names, err = b.images(outside); err != nil {
		return nil, false, err
	}
	if m != nil && !b.image.Goes(d) {
		tags, err := b.Tags(b.repo, d)
		if err != nil {
			return nil, false, err
		}
		if len(tags) > 0 {
			names = append(names, b.repo+":"+tags[0].Key.Tag)
		} else if m.Subject != "" && !b.image.Goes(m.Subject) {
			names = append(names, byDigest(b.repo, m.Subject))
		}
	}
	holders, err := b.Holders(d, sharers)
	if err != nil {
		return nil, false, err
	}
	for _, h := range holders {
		if repo := h.Key.Repository; repo != b.repo && !slices.Contains(names, repo) {
			names = append(names, repo)
		}
	}
	more = len(names) > suggestions || len(outside) >= sharers || len(holders) >= sharers
	return names[:min(len(names), suggestions)], more, nil
}
