package files

import (
	"context"
	"errors"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// adopt brings the row of a key in line with the disk, in a transaction that looks again. An image is adopted with all
// that it refers to: once anything is promised of it, no expiry and no DELETE of another image removes a part of it.
// False: it does not exist any more.
func (s *Store) adopt(ctx context.Context, k layout.Key) (there bool, err error) {
	looks, err := s.looksAt(ctx, k, map[layout.Key]bool{})
	if err != nil {
		return false, err
	}
	own := looks[0]
	looks[0] = func() (a index.Adoption, ok bool, err error) {
		a, there, err = own()
		return a, there, err
	}
	if err = s.index.Adopt(ctx, looks...); err == nil && there {
		err = s.measureAbove(ctx, k)
	}
	return there && err == nil, err
}

// measureAbove records what the directories take that hold a key's file, and its blob.
func (s *Store) measureAbove(ctx context.Context, k layout.Key) error {
	dirs := layout.Above(k)
	if k.Digest != "" {
		dirs = append(dirs, layout.Above(layout.BlobKey(k.Digest))...)
	}
	return s.index.Measure(ctx, s.tree.Taken, dirs...)
}

// looksAt returns the looks at a key and at what it refers to, its own first. Images below it are adopted on the way,
// each in a transaction of its own: an image may be below thousands of others.
func (s *Store) looksAt(ctx context.Context, k layout.Key, seen map[layout.Key]bool) (looks []index.Look, err error) {
	switch k.Kind {
	case layout.Layer:
		return s.looksAtLayer(ctx, k)
	case layout.Manifest:
		seen[k] = true
		if looks, err = s.disk.LookAtManifest(ctx, k, adopt.Now); err != nil {
			return nil, err
		}
		looks = append(looks, adopt.Look(s.tree.Dir, layout.BlobKey(k.Digest), adopt.Now))
		m, err := s.read(k.Digest, content.AnyLength)
		if tree.Missing(err) || errors.Is(err, content.ErrUnreadable) {
			return looks, nil // it refers to nothing
		}
		if err != nil {
			return nil, err
		}
		parts, err := s.looksAtParts(ctx, k.Repository, m.Manifest, seen)
		return append(looks, parts...), err
	}
	return []index.Look{adopt.Look(s.tree.Dir, k, adopt.Now)}, nil
}

// looksAtParts returns the looks at the parts of a manifest that the repository has and the index does not know.
func (s *Store) looksAtParts(ctx context.Context, repo string, c *manifest.Manifest,
	seen map[layout.Key]bool) (looks []index.Look, err error) {
	keys := make([]layout.Key, 0, 2*len(c.Parts))
	for _, p := range c.Parts {
		keys = append(keys, layout.LayerKey(repo, p.Digest), layout.ManifestKey(repo, p.Digest))
	}
	states, err := s.leases.known(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if states[i].placed || seen[k] {
			continue
		}
		if there, err := s.tree.Has(k); err != nil {
			return nil, err
		} else if !there {
			continue
		}
		part, err := s.looksAt(ctx, k, seen)
		if err == nil && k.Kind == layout.Manifest {
			err = s.index.Adopt(ctx, part...)
		} else {
			looks = append(looks, part...)
		}
		if err != nil {
			return nil, err
		}
	}
	return looks, nil
}

func (s *Store) looksAtLayer(ctx context.Context, k layout.Key) ([]index.Look, error) {
	looks := []index.Look{adopt.Look(s.tree.Dir, k, adopt.Now)}
	to, err := s.readLink(k)
	if err != nil {
		return nil, err
	}
	if to != "" && to != k.Digest { // as in linked, in lookup.go
		looks = append(looks, adopt.Look(s.tree.Dir, layout.LayerKey(k.Repository, to), adopt.Now))
	} else {
		to = k.Digest
	}
	var said int64
	err = s.index.View(ctx, func(r index.Reader) error {
		row, err := r.Row(layout.BlobKey(to))
		if row != nil {
			said = row.Size
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	look, err := s.disk.LookAtBlob(ctx, to, said, adopt.Now)
	return append(looks, look), err
}
