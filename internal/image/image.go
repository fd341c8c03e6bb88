// Package image knows what an image consists of, and which of that only it refers to.
//
// Here an image is a manifest of one repository with the children and referrers that are removed with it, and the
// blobs that all of these name. Two tags of one manifest are the same image. Everything is found by point queries on
// one state of the index, so the cost follows the image, not the store, nor the images that share its layers.
package image

import (
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Image is what goes with a manifest.
type Image struct {
	r         index.Reader
	repo      string
	top       digest.Digest
	manifests map[digest.Digest]bool // that go when the image does, itself among them
	blobs     map[digest.Digest]bool // all that these name, and themselves
	only      map[digest.Digest]bool // what Only said
	part      bool                   // a manifest outside names the image, and so refers to all of it
}

// Of collects the image of a manifest. It may be used as long as the reader.
func Of(r index.Reader, manifest layout.Key) (*Image, error) {
	top := manifest.Digest
	i := &Image{r: r, repo: manifest.Repository, top: top, manifests: map[digest.Digest]bool{top: true},
		blobs: map[digest.Digest]bool{top: true},
		only:  map[digest.Digest]bool{}}
	for queue := []digest.Digest{top}; len(queue) > 0; queue = queue[1:] {
		below, err := i.below(queue[0])
		if err != nil {
			return nil, err
		}
		for _, d := range below {
			i.blobs[d] = true
			goes, err := i.goes(d)
			if err != nil {
				return nil, err
			}
			if goes {
				i.manifests[d] = true
				queue = append(queue, d)
			}
		}
	}
	outside, err := i.namedOutside(top)
	i.part = outside
	return i, err
}

// Size is the size of all blobs that an image consists of, shared or not: its manifest, its children, and
// what these name and the repository links. Referrers come and go with an image, and are not part of it.
func Size(r index.Reader, manifest layout.Key) (bytes int64, err error) {
	blobs := map[digest.Digest]bool{}
	seen := map[digest.Digest]bool{manifest.Digest: true}
	for queue := []digest.Digest{manifest.Digest}; len(queue) > 0; queue = queue[1:] {
		blobs[queue[0]] = true
		below, err := r.References(manifest.Repository, queue[0])
		if err != nil {
			return 0, err
		}
		for _, d := range below {
			link, err := r.Row(layout.LayerKey(manifest.Repository, d))
			if err != nil {
				return 0, err
			}
			if link != nil {
				blobs[d] = true
			}
			child, err := r.Row(layout.ManifestKey(manifest.Repository, d))
			if err != nil {
				return 0, err
			}
			if child != nil && !seen[d] {
				seen[d] = true
				queue = append(queue, d)
			}
		}
	}
	for d := range blobs {
		b, err := r.Row(layout.BlobKey(d))
		if err != nil {
			return 0, err
		}
		if b != nil && b.Placed {
			bytes += b.Size
		}
	}
	return bytes, nil
}

// UniqueBytes is the size of the blobs that only an image refers to: what its removal frees.
func UniqueBytes(r index.Reader, manifest layout.Key) (bytes int64, err error) {
	i, err := Of(r, manifest)
	if err != nil {
		return 0, err
	}
	return i.UniqueBytes()
}

// UniqueBytes is the size of the blobs that only the image refers to. Of an image that is a part of another
// one it is nothing.
func (i *Image) UniqueBytes() (bytes int64, err error) {
	if i.part {
		return 0, nil
	}
	for d := range i.blobs {
		only, err := i.Only(d)
		if err != nil {
			return 0, err
		}
		if !only {
			continue
		}
		b, err := i.r.Row(layout.BlobKey(d))
		if err != nil {
			return 0, err
		}
		if b != nil && b.Placed {
			bytes += b.Size
		}
	}
	return bytes, nil
}

// Top is the manifest of the image.
func (i *Image) Top() digest.Digest { return i.top }

// Part says whether the image is a part of another one, which refers to all that it refers to.
func (i *Image) Part() bool { return i.part }

// Goes says whether a manifest of the image's repository goes with it.
func (i *Image) Goes(d digest.Digest) bool { return i.manifests[d] }

// Only says whether a blob has no owner outside of the image.
func (i *Image) Only(d digest.Digest) (bool, error) {
	if i.part {
		return false, nil
	}
	only, known := i.only[d]
	if known {
		return only, nil
	}
	only, err := i.alone(d)
	i.only[d] = only
	return only, err
}

// alone says whether all owners of a blob are removed with the image.
func (i *Image) alone(d digest.Digest) (bool, error) {
	owners, err := i.r.Owners(d, 2) // in this repository there is one of each sort
	if err != nil {
		return false, err
	}
	for _, o := range owners {
		if o.Key.Repository != i.repo {
			return false, nil
		}
		if o.Key.Kind == layout.Manifest {
			if !i.manifests[d] {
				return false, nil
			}
			continue
		}
		if outside, err := i.namedOutside(d); err != nil || outside {
			return false, err
		}
	}
	return true, nil
}

// below is what a manifest names, and what refers to it.
func (i *Image) below(d digest.Digest) ([]digest.Digest, error) {
	below, err := i.r.References(i.repo, d)
	if err != nil {
		return nil, err
	}
	referrers, err := i.r.Referrers(i.repo, d)
	for _, r := range referrers {
		if !r.Detached {
			below = append(below, r.Key.Digest)
		}
	}
	return below, err
}

// goes says whether a manifest is kept by nothing but manifests that go, and is not known to go yet.
func (i *Image) goes(d digest.Digest) (bool, error) {
	if i.manifests[d] {
		return false, nil
	}
	m, err := i.r.Row(layout.ManifestKey(i.repo, d))
	if err != nil || m == nil {
		return false, err
	}
	tags, err := i.r.Tags(i.repo, d)
	if err != nil || len(tags) > 0 {
		return false, err
	}
	if outside, err := i.namedOutside(d); err != nil || outside {
		return false, err
	}
	if m.Subject == "" || m.Detached || i.manifests[m.Subject] {
		return true, nil
	}
	subject, err := i.r.Row(layout.ManifestKey(i.repo, m.Subject))
	return subject == nil, err
}

// namedOutside says whether a manifest of the repository names d that does not go with the image.
func (i *Image) namedOutside(d digest.Digest) (bool, error) {
	outside, err := i.Outside(d, 1)
	return len(outside) > 0, err
}

// Outside returns at most so many manifests of the image's repository that name d and are not part of the image. It
// reads that many more than the image has manifests: they cannot all be parts of the image.
func (i *Image) Outside(d digest.Digest, most int) ([]index.Row, error) {
	parents, err := i.r.Parents(i.repo, d, len(i.manifests)+most)
	parents = slices.DeleteFunc(parents, func(p index.Row) bool { return i.manifests[p.Key.Digest] })
	return parents[:min(len(parents), most)], err
}
