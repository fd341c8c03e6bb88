package inspect

import (
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

const (
	// sharers is how many of those that share a blob are looked at. Thousands may share a base layer.
	sharers = 8
	// climb is how far up a tag is looked for.
	climb = 8
)

// imageName is a tag of a manifest, or of one that owns it, or else its own digest.
func imageName(r index.Reader, m index.Row) (string, error) {
	at := &m
	for steps := 0; at != nil && steps < climb; steps++ {
		tags, err := r.Tags(m.Key.Repository, at.Digest)
		if err != nil {
			return "", err
		}
		if len(tags) > 0 {
			return m.Key.Repository + ":" + tags[0].Key.Tag, nil
		}
		if at, err = ownerOf(r, *at); err != nil {
			return "", err
		}
	}
	return byDigest(m.Key.Repository, m.Digest), nil
}

// imageNames names manifests, each once.
func imageNames(r index.Reader, manifests []index.Row) (names []string, err error) {
	for _, m := range manifests {
		name, err := imageName(r, m)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// others names some owners that a blob has besides the image, and says whether there are more.
func (b *builder) others(d digest.Digest, m *index.Row) (names []string, more bool, err error) {
	// Manifests of this repository that name the blob, and are not of the image.
	outside, err := b.image.Outside(d, sharers)
	if err != nil {
		return nil, false, err
	}
	// What only the image holds is shared all the same with what holds the whole image.
	if len(outside) == 0 && b.image.Part() {
		outside, err = b.image.Outside(b.image.Top(), sharers)
		if err != nil {
			return nil, false, err
		}
	}
	if names, err = imageNames(b, outside); err != nil {
		return nil, false, err
	}
	// A manifest may stay for a tag of its own, or for a subject that stays.
	if m != nil && !b.image.Goes(d) {
		tags, err := b.Tags(b.repo, d)
		if err != nil {
			return nil, false, err
		}
		if len(tags) > 0 {
			names = append(names, b.repo+":"+tags[0].Key.Tag)
		} else if m.Subject != "" && !m.Detached && !b.image.Goes(m.Subject) {
			names = append(names, byDigest(b.repo, m.Subject))
		}
	}
	// Other repositories keep the bytes. Their names are enough: which of their images do so is not asked for.
	owners, err := b.Owners(d, sharers)
	if err != nil {
		return nil, false, err
	}
	for _, o := range owners {
		if repo := o.Key.Repository; repo != b.repo && !slices.Contains(names, repo) {
			names = append(names, repo)
		}
	}
	more = len(names) > suggestions || len(outside) >= sharers || len(owners) >= sharers
	return names[:min(len(names), suggestions)], more, nil
}
