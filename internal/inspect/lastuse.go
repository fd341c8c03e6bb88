package inspect

import (
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// tell says when the image was used, when it goes and what keeps it, from what lies above it.
func (t *Tree) tell(r index.Reader, m index.Row, l expiry) error {
	tags, err := r.Tags(t.Repository, m.Digest)
	if err != nil {
		return err
	}
	used, err := lastUse(r, m)
	if err != nil {
		return err
	}
	how, name, err := keeper(r, m)
	if err != nil {
		return err
	}
	expires := l.imageDue(used)
	row := imageRow(m, tags, used, expires)
	t.Tag, t.Tags, t.LastAccess, t.ExpiresAt, t.Keeper = row.Tag, row.Tags, row.LastAccess, row.ExpiresAt, name
	t.KeptBy = l.keptBy(used, expires, hold{tagged: len(tags) > 0, parent: how == KeptByParent, subject: how == KeptBySubject})
	return nil
}

// lastUse is when a manifest was used last, or a tag of it, or anything that keeps it.
func lastUse(r index.Reader, m index.Row) (used int64, err error) {
	seen := map[digest.Digest]bool{m.Digest: true}
	for queue := []index.Row{m}; len(queue) > 0; queue = queue[1:] {
		m := queue[0]
		tags, err := r.Tags(m.Key.Repository, m.Digest)
		if err != nil {
			return used, err
		}
		for _, row := range append(tags, m) {
			used = max(used, row.AccessedAt.UnixMilli())
		}
		above, err := keepers(r, m, 0)
		if err != nil {
			return used, err
		}
		for _, k := range above {
			if !seen[k.Digest] {
				seen[k.Digest] = true
				queue = append(queue, k)
			}
		}
	}
	return used, nil
}

// keepers are the manifests that keep a manifest: those that name it (at most so many, 0 for all), and
// its subject.
func keepers(r index.Reader, m index.Row, most int) ([]index.Row, error) {
	rows, err := r.Parents(m.Key.Repository, m.Digest, most)
	if err != nil || m.Subject == "" {
		return rows, err
	}
	subject, err := r.Row(layout.ManifestKey(m.Key.Repository, m.Subject))
	if subject != nil {
		rows = append(rows, *subject)
	}
	return rows, err
}

// keeper says how another manifest keeps m, if one does, and gives the name of one.
func keeper(r index.Reader, m index.Row) (how, name string, err error) {
	above, err := keepers(r, m, 1)
	if err != nil || len(above) == 0 {
		return "", "", err
	}
	how = KeptByParent
	if len(above) == 1 && above[0].Digest == m.Subject {
		how = KeptBySubject
	}
	n := namer{Reader: r}
	name, err = n.name(above[0])
	return how, name, err
}
