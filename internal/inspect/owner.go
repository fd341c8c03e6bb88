package inspect

import (
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// addUse says when the image was used, when it expires, and what owns it.
func (t *Tree) addUse(r index.Reader, m index.Row, x expiry) error {
	tags, err := r.Tags(t.Repository, m.Digest)
	if err != nil {
		return err
	}
	i := index.Image{Row: m}
	for _, tag := range tags {
		i.Tags = append(i.Tags, tag.Key.Tag)
	}
	owner, err := ownerOf(r, m)
	if err != nil {
		return err
	}
	if owner != nil {
		i.HasHost = m.Subject == owner.Digest
		i.HasParent = !i.HasHost
		if t.Owner, err = imageName(r, *owner); err != nil {
			return err
		}
	}
	j, err := x.judge(r)
	if err == nil {
		err = j.row(m)
	}
	if err != nil {
		return err
	}
	row := x.imageRow(i)
	t.Tag, t.Tags, t.LastAccess, t.ExpiresAt, t.KeptBy = row.Tag, row.Tags, row.LastAccess, row.ExpiresAt, row.KeptBy
	return nil
}

// ownerOf returns a manifest that owns another one: one that names it, or else its subject; nil if there is neither.
func ownerOf(r index.Reader, m index.Row) (*index.Row, error) {
	parents, err := r.Parents(m.Key.Repository, m.Digest, 1)
	if err != nil {
		return nil, err
	}
	if len(parents) > 0 {
		return &parents[0], nil
	}
	if m.Subject == "" || m.Detached {
		return nil, nil
	}
	return r.Row(layout.ManifestKey(m.Key.Repository, m.Subject))
}
