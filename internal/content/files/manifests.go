package files

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Manifest finds a manifest of a repository by tag or by digest. One of more than most bytes is not read.
// content.ErrUnknown, content.ErrUnreadable, *content.LargeError, *content.LeaseError.
func (s *Store) Manifest(ctx context.Context, repo, reference string, use content.Use,
	most int64) (*content.Manifest, error) {
	l := &lookup{Store: s, ctx: ctx, use: use}
	d := digest.Digest(reference)
	if !strings.Contains(reference, ":") {
		k := layout.TagKey(repo, reference)
		var err error
		if d, err = l.tag(k); err != nil {
			return nil, describeFailure("find", k, err)
		}
	}
	k := layout.ManifestKey(repo, d)
	m, err := l.manifest(k, most)
	return m, describeFailure("find", k, err)
}

// manifest finds and reads a manifest. content.ErrUnknown.
func (l *lookup) manifest(k layout.Key, most int64) (*content.Manifest, error) {
	was, err := l.lease(k)
	if err != nil {
		return nil, err
	}
	linked, err := l.tree.Has(k)
	if err != nil {
		return nil, err
	}
	if !linked {
		return nil, l.correct(k, was, false, 0)
	}
	m, err := l.read(k.Digest, most)
	if tree.Missing(err) {
		return nil, l.correct(k, was, false, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := l.correct(k, was, true, int64(len(m.Data))); err != nil {
		return nil, err
	}
	return m, nil
}

// cachedManifests is how many manifests are kept in memory, each of content.MaxCached at most: 32 MiB in all.
// largeReaders is how many longer ones are read at a time, since that takes several times their length.
const (
	cachedManifests = 1024
	largeReaders    = 2
)

// cached is a manifest in memory, with the file that it was read from.
type cached struct {
	*content.Manifest
	file disk.Version
}

// read reads a manifest of at most so many bytes, once as long as its file stays the same. Its bytes have its digest.
func (s *Store) read(d digest.Digest, most int64) (*content.Manifest, error) {
	now, err := s.tree.Version(layout.BlobKey(d))
	if err != nil {
		return nil, err
	}
	if c, ok := s.manifests.Get(d); ok && c.file == now {
		return c.Manifest, nil
	}
	if now.Size() > most {
		return nil, &content.LargeError{Size: now.Size()}
	}
	if now.Size() > content.MaxCached {
		s.large <- struct{}{}
		defer func() { <-s.large }()
	}
	data, err := s.tree.ReadManifest(d)
	if err != nil {
		return nil, err
	}
	m := &content.Manifest{Digest: d, Data: data}
	if d.Algorithm().FromBytes(data) != d {
		err = fmt.Errorf("its content is that of %s", d.Algorithm().FromBytes(data))
	} else if m.Manifest, err = manifest.Parse(data); err == nil && m.MediaType == manifest.SchemaOne {
		err = errors.New("it is of schema 1")
	}
	if err != nil {
		s.log.WithError(err).WithField("digest", d).Error("a manifest cannot be read; dcs inspect --check says why")
		return nil, content.ErrUnreadable
	}
	if len(data) <= content.MaxCached {
		s.manifests.Add(d, cached{m, now})
	}
	return m, nil
}
