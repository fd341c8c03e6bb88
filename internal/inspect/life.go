package inspect

import (
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/expiry"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// due says when things go under a policy.
type due struct {
	store  index.Store
	policy index.Policy
}

func newDue(store index.Store, p index.Policy) due { return due{store, p} }

// name is when a manifest goes that was used last at a time; zero: never.
func (d due) name(used time.Time) time.Time {
	life, mortal := expiry.Life(d.policy)
	if !mortal {
		return time.Time{}
	}
	return d.store.Due(used, life)
}

// owed says whether the existence of what was used last at a time is still promised.
func (d due) owed(used time.Time) bool {
	return !d.store.Now().After(d.store.Due(used, d.policy.Grace+d.policy.Resolution))
}

// tell says when the image was used, when it goes and what keeps it, from what lies above it.
func (t *Tree) tell(r index.Reader, m index.Row, d due) error {
	tags, err := r.Tags(t.Repository, m.Digest)
	if err != nil {
		return err
	}
	var names []string
	for _, tag := range tags {
		names = append(names, tag.Key.Tag)
	}
	slices.Sort(names)
	t.Tag = strings.Join(names, " ")
	used, err := lastUse(r, m)
	if err != nil {
		return err
	}
	expires := d.name(used)
	t.LastAccess, t.ExpiresAt = stamp.Time(used), stamp.Time(expires)
	t.KeptBy, t.keeper, err = keeper(r, m)
	switch {
	case err != nil:
		return err
	case len(tags) > 0:
		t.KeptBy = KeptByTag
	case t.KeptBy != "":
	case d.owed(used):
		t.KeptBy = KeptByGrace
	case expires.IsZero() || !t.now.After(expires):
		t.KeptBy = KeptByTTL
	}
	return nil
}

// lastUse is when a manifest was used last, or a tag of it, or anything that keeps it.
func lastUse(r index.Reader, m index.Row) (used time.Time, err error) {
	seen := map[digest.Digest]bool{m.Digest: true}
	for queue := []index.Row{m}; len(queue) > 0; queue = queue[1:] {
		m := queue[0]
		tags, err := r.Tags(m.Key.Repository, m.Digest)
		if err != nil {
			return used, err
		}
		for _, row := range append(tags, m) {
			used = latest(used, row.AccessedAt)
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
	subject, err := r.Row(index.ManifestKey(m.Key.Repository, m.Subject))
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
