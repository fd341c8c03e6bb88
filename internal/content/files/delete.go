package files

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// DeleteLayer takes a layer from a repository. content.ErrUnknown, *index.ReferencedError, index.ErrGateClosed. A layer
// that has to wait for its name cannot be deleted: index.ErrBusy.
func (s *Store) DeleteLayer(ctx context.Context, repo string, d digest.Digest) error {
	k, change := layout.LayerKey(repo, d), s.tree.Begin()
	if err := errors.Join(s.settled(ctx, k), s.waiting.Forget()); err != nil {
		return describeFailure("delete", k, err)
	}
	err := s.index.DeleteLayer(ctx, repo, d, func() error { return removeName(change, k) })
	return describeFailure("delete", k, s.commitRemoval(change, err, k))
}

// DeleteTag removes a tag. content.ErrUnknown, index.ErrBusy.
func (s *Store) DeleteTag(ctx context.Context, repo, tag string) error {
	k, change := layout.TagKey(repo, tag), s.tree.Begin()
	if err := s.Flush(ctx); err != nil {
		return describeFailure("delete", k, err)
	}
	err := s.index.DeleteTag(ctx, repo, tag, func() error { return removeName(change, k) })
	return describeFailure("delete", k, s.commitRemoval(change, err, k))
}

// DeleteManifest takes a manifest from a repository, with all its tags, which it returns, as one. content.ErrUnknown,
// *index.ReferencedError, *index.PinnedError, index.ErrGateClosed, index.ErrBusy.
func (s *Store) DeleteManifest(ctx context.Context, repo string, d digest.Digest) (tags []string, err error) {
	k, change := layout.ManifestKey(repo, d), s.tree.Begin()
	keys := []layout.Key{k}
	if err := s.Flush(ctx); err != nil {
		return nil, describeFailure("delete", k, err)
	}
	err = s.index.DeleteManifest(ctx, repo, d, func(all []string) error {
		tags = all
		for _, tag := range tags {
			t := layout.TagKey(repo, tag)
			keys = append(keys, t)
			if err := removeName(change, t); err != nil && !errors.Is(err, content.ErrUnknown) {
				return err
			}
		}
		return removeName(change, k)
	})
	return tags, describeFailure("delete", k, s.commitRemoval(change, err, keys...))
}

func removeName(change *tree.Change, k layout.Key) error {
	_, err := change.Remove(k)
	if tree.Missing(err) {
		return content.ErrUnknown
	}
	return err
}

// commitRemoval makes the removal of names durable if the index has recorded it.
func (s *Store) commitRemoval(change *tree.Change, err error, keys ...layout.Key) error {
	if err != nil {
		change.Abandon()
		return err
	}
	s.leases.forget(keys...)
	return change.Commit()
}
