package inspect

import (
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// addUse says when the image was used, when it expires, and what keeps it.
func (t *Tree) addUse(r index.Reader, m index.Row, x expiry) error {
	tags, err := r.Tags(t.Repository, m.Digest)
	if err != nil {
		return err
	}
	i := index.Image{Row: m}
	for _, tag := range tags {
		i.Tags = append(i.Tags, tag.Key.Tag)
	}
	if t.Keeper, err = findKeeper(r, &i); err != nil {
		return err
	}
	row := x.imageRow(i)
	t.Tag, t.Tags, t.LastAccess, t.ExpiresAt, t.KeptBy = row.Tag, row.Tags, row.LastAccess, row.ExpiresAt, row.KeptBy
	return nil
}

// findKeeper says how another manifest keeps an image, if one does, and returns the name of one.
func findKeeper(r index.Reader, i *index.Image) (name string, err error) {
	parents, err := r.Parents(i.Key.Repository, i.Digest, 1)
	if err != nil {
		return "", err
	}
	if len(parents) > 0 {
		i.HasParent = true
		return imageName(r, parents[0])
	}
	if i.Subject == "" || i.Detached {
		return "", nil
	}
	subject, err := r.Row(layout.ManifestKey(i.Key.Repository, i.Subject))
	if err != nil || subject == nil {
		return "", err
	}
	i.HasHost = true
	return imageName(r, *subject)
}
