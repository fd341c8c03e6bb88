package gc

import (
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// UniqueBytes is the size of the blobs that only an image holds: its manifest with the children and
// referrers that would go with it, their configs and layers. Tags do not matter: two tags of one
// manifest are one image.
func UniqueBytes(r index.Reader, manifest index.Key) (bytes int64, err error) {
	u := image{Reader: r, repo: manifest.Repository, manifests: map[digest.Digest]bool{manifest.Digest: true}}
	if err := u.close(manifest.Digest); err != nil {
		return 0, err
	}
	for d := range u.blobs {
		only, err := u.only(d)
		if err != nil {
			return 0, err
		}
		if !only {
			continue
		}
		b, err := r.Row(index.BlobKey(d))
		if err != nil {
			return 0, err
		}
		if b != nil && b.Placed {
			bytes += b.Size
		}
	}
	return bytes, nil
}

type image struct {
	index.Reader
	repo      string
	manifests map[digest.Digest]bool // that go when the image does
	blobs     map[digest.Digest]bool
}

// close collects what goes with the top manifest.
func (u *image) close(top digest.Digest) error {
	u.blobs = map[digest.Digest]bool{top: true}
	for queue := []digest.Digest{top}; len(queue) > 0; queue = queue[1:] {
		children, err := u.References(queue[0])
		if err != nil {
			return err
		}
		referrers, err := u.Referrers(u.repo, queue[0])
		if err != nil {
			return err
		}
		for _, r := range referrers {
			children = append(children, r.Key.Digest)
		}
		for _, d := range children {
			u.blobs[d] = true
			goes, err := u.goes(d)
			if err != nil {
				return err
			}
			if goes {
				u.manifests[d] = true
				queue = append(queue, d)
			}
		}
	}
	return nil
}

// goes says whether a manifest is kept by nothing but manifests that go.
func (u *image) goes(d digest.Digest) (bool, error) {
	m, err := u.Row(index.ManifestKey(u.repo, d))
	if err != nil || m == nil || u.manifests[d] {
		return false, err
	}
	tags, err := u.Tags(u.repo, d)
	if err != nil || len(tags) > 0 {
		return false, err
	}
	parents, err := u.Parents(u.repo, d, u.enough())
	if err != nil || !u.all(parents) {
		return false, err
	}
	if m.Subject == "" || u.manifests[m.Subject] {
		return true, nil
	}
	subject, err := u.Row(index.ManifestKey(u.repo, m.Subject))
	return subject == nil, err
}

// enough is how many manifests cannot all be part of the image.
func (u *image) enough() int { return len(u.manifests) + 1 }

func (u *image) all(parents []index.Row) bool {
	for _, p := range parents {
		if !u.manifests[p.Key.Digest] {
			return false
		}
	}
	return true
}

// only says whether nothing outside the image holds a blob.
func (u *image) only(d digest.Digest) (bool, error) {
	holders, err := u.Holders(d, 2) // in this repository there is one of each sort
	if err != nil {
		return false, err
	}
	for _, h := range holders {
		if h.Key.Repository != u.repo {
			return false, nil
		}
		if h.Key.Kind == index.Manifest {
			if !u.manifests[d] {
				return false, nil
			}
			continue
		}
		parents, err := u.Parents(u.repo, d, u.enough())
		if err != nil || !u.all(parents) {
			return false, err
		}
	}
	return true, nil
}
