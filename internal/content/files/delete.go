package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// DeleteLayer takes a layer from a repository. content.ErrUnknown, *index.ReferencedError, index.ErrGateClosed.
func (s *Store) DeleteLayer(ctx context.Context, repo string, d digest.Digest) error {
	k := layout.LayerKey(repo, d)
	link := s.dir.File(k.Path())
	return s.deleted(link, s.index.DeleteLayer(ctx, repo, d, func() error { return unlink(link) }), k)
}

// DeleteTag takes a name away. content.ErrUnknown.
func (s *Store) DeleteTag(ctx context.Context, repo, tag string) error {
	dir := s.tagDir(repo, tag)
	return s.deleted(dir, s.index.DeleteTag(ctx, repo, tag, func() error { return s.trash(dir) }), layout.TagKey(repo, tag))
}

// DeleteManifest takes a manifest from a repository, with all its tags, which it returns, as one. content.ErrUnknown,
// *index.ReferencedError, index.ErrGateClosed.
func (s *Store) DeleteManifest(ctx context.Context, repo string, d digest.Digest) (tags []string, err error) {
	keys := []layout.Key{layout.ManifestKey(repo, d)}
	link := s.dir.File(keys[0].Path())
	err = s.index.DeleteManifest(ctx, repo, d, func(all []string) error {
		tags = all
		for _, tag := range tags {
			keys = append(keys, layout.TagKey(repo, tag))
			if err := s.trash(s.tagDir(repo, tag)); err != nil && !errors.Is(err, content.ErrUnknown) {
				return err
			}
		}
		return unlink(link)
	})
	if err == nil && len(keys) > 1 {
		tags := s.dir.File(layout.Path{Kind: layout.TagsDir, Repository: repo})
		err = disk.SyncDir(tags)
		s.prune(tags)
	}
	return tags, s.deleted(link, err, keys...)
}

func (s *Store) tagDir(repo, tag string) string {
	return s.dir.File(layout.Path{Kind: layout.TagDir, Repository: repo, Tag: tag})
}

// unlink removes a link. It runs inside an index transaction, so it does not sync.
func unlink(link string) error {
	failpoint.Step()
	err := os.Remove(link)
	if errors.Is(err, fs.ErrNotExist) {
		return content.ErrUnknown
	}
	return err
}

func (s *Store) trash(path string) error {
	moved, err := s.tree.Trash(path)
	if err == nil && !moved {
		return content.ErrUnknown
	}
	return err
}

// deleted makes the removal of a name durable.
func (s *Store) deleted(native string, err error, keys ...layout.Key) error {
	if err != nil {
		return err
	}
	s.leases.forget(keys...)
	err = disk.SyncDir(filepath.Dir(native))
	s.prune(filepath.Dir(native))
	return err
}

// prune removes the directories that a removal left empty.
func (s *Store) prune(native string) { s.tree.Prune(native, string(s.dir)) }
