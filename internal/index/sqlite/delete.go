package sqlite

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// drop removes a row. What it referred to takes its last use, and may be unreferenced now.
func (t *tx) drop(r index.Row) error {
	table, cond, args := where(r.Key)
	err := t.exec("DELETE FROM "+table+" WHERE "+cond, args...)
	if err != nil {
		return err
	}
	switch r.Key.Kind {
	case layout.Blob:
		return nil
	case layout.Tag:
		err = t.noteManifest(r.Key.Repository, r.Digest) // which was used as late as its tag
	case layout.Layer:
		err = t.inheritBlob(r)
	case layout.Manifest:
		err = t.dropReferences(r)
	}
	if err != nil {
		return err
	}
	return t.leave(r.Key.Repository)
}

// inheritBlob gives the last use of a link or a manifest that is removed to its blob.
func (t *tx) inheritBlob(r index.Row) error {
	err := t.exec("UPDATE blobs SET accessed_at = max(accessed_at, ?) WHERE digest = ?", r.AccessedAt.UnixMilli(),
		packed(r.Key.Digest))
	if err != nil {
		return err
	}
	return t.noteBlob(r.Key.Digest)
}

// dropReferences forgets what a manifest named. Its links take its last use; its children, referrers and signatures
// were used as late as it.
func (t *tx) dropReferences(r index.Row) error {
	d, repo, at := packed(r.Key.Digest), repository(r.Key.Repository), r.AccessedAt.UnixMilli()
	children, err := t.children("SELECT child FROM refs WHERE parent = ? AND repo = ?", d, repo)
	if err != nil {
		return err
	}
	if err := t.exec("DELETE FROM refs WHERE parent = ? AND repo = ?", d, repo); err != nil {
		return err
	}
	delete(t.c.renewed, r.Key.Repository) // a link that it referred to is renewed as an unreferenced one from now on
	for _, child := range children {
		if err := t.exec(inheritLayer, at, repo, packed(child)); err != nil {
			return err
		}
		if err := t.noteManifest(r.Key.Repository, child); err != nil {
			return err
		}
	}
	if err := t.exec(noteReferrers, d, repo); err != nil {
		return err
	}
	return t.inheritBlob(r)
}

// inheritLayer gives last use ?1 to link ?3 of repository ?2, and says whether a manifest still refers to it.
var inheritLayer = "UPDATE layers SET accessed_at = max(accessed_at, ?1), referenced = " +
	layerReferenced("layers.digest", "layers.repo") +
	" WHERE digest = ?3 AND repo = ?2"

// DeleteTag implements index.Store.
func (s *Store) DeleteTag(ctx context.Context, repo, tag string, remove func() error) error {
	return s.begin(ctx, func(t *tx) error {
		r, err := t.row(layout.TagKey(repo, tag))
		if err != nil {
			return err
		}
		if r != nil {
			if err := t.drop(*r); err != nil {
				return err
			}
		}
		return remove()
	})
}

// DeleteManifest implements index.Store.
func (s *Store) DeleteManifest(ctx context.Context, repo string, d digest.Digest,
	remove func(tags []string) error) error {
	return s.begin(ctx, func(t *tx) error {
		k := layout.ManifestKey(repo, d)
		if err := t.mayDelete(k); err != nil {
			return err
		}
		var names []string
		tags, err := t.tags(repo, d)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			names = append(names, tag.Key.Tag)
			if err := t.drop(tag); err != nil {
				return err
			}
		}
		r, err := t.row(k)
		if err != nil {
			return err
		}
		if r != nil {
			if err := t.drop(*r); err != nil {
				return err
			}
		}
		return remove(names)
	})
}

// DeleteLayer implements index.Store.
func (s *Store) DeleteLayer(ctx context.Context, repo string, d digest.Digest, remove func() error) error {
	return s.begin(ctx, func(t *tx) error {
		k := layout.LayerKey(repo, d)
		if err := t.mayDelete(k); err != nil {
			return err
		}
		r, err := t.row(k)
		if err != nil {
			return err
		}
		if r != nil {
			if err := t.drop(*r); err != nil {
				return err
			}
		}
		return remove()
	})
}

// mayDelete refuses to delete what a manifest of the repository refers to, or may refer to as long as the index is not
// whole.
func (t *tx) mayDelete(k layout.Key) error {
	unread, err := t.gate()
	if err != nil {
		return err
	}
	if unread.Has(k.Repository) {
		return fmt.Errorf("%w: not all of repository %s could be read", index.ErrGateClosed, k.Repository)
	}
	var by packed
	referenced, err := t.one([]any{&by}, "SELECT parent FROM refs WHERE repo = ? AND child = ? LIMIT 1",
		repository(k.Repository), packed(k.Digest))
	if err != nil || !referenced {
		return err
	}
	return &index.ReferencedError{Key: k, By: digest.Digest(by)}
}
