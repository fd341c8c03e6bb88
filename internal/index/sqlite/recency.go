package sqlite

import "github.com/opencontainers/go-digest"

// The last use of a manifest or a tag is stored where it is read: no row is older than what keeps it. So a use of a
// manifest is also written to the tags that point to it, to its children and referrers, to the tags that are about one
// of these by their names (sha256-HEX.sig) and to what those point to, and so on. A row that is young enough already
// ends the way: all that lives with it is as young.

// family is a manifest whose last use was raised, and whether more may live with it than its tags.
type family struct {
	digest digest.Digest
	more   bool
}

// use records the use of a manifest at a time, if it has a row that is older.
func (t *tx) use(repo string, d digest.Digest, at int64) error {
	m := family{digest: d}
	raised, err := t.one([]any{&m.more}, `UPDATE manifests SET accessed_at = ?3 WHERE digest = ?1 AND repo = ?2 AND accessed_at < ?3
		RETURNING family`, packed(d), repository(repo), at)
	if err != nil || !raised {
		return err
	}
	return t.spread(repo, m, at)
}

// spread gives the last use of a manifest to all that lives with it.
func (t *tx) spread(repo string, m family, at int64) error {
	for queue := []family{m}; len(queue) > 0; queue = queue[1:] {
		err := t.exec("UPDATE tags INDEXED BY tags_digest SET accessed_at = ?3 WHERE digest = ?1 AND repo = ?2 AND accessed_at < ?3",
			packed(queue[0].digest), repository(repo), at)
		if err != nil {
			return err
		}
		if !queue[0].more {
			continue
		}
		for _, raise := range []string{raiseChildren, raiseReferrers} {
			raised, err := t.raise(raise, repo, queue[0].digest, at)
			if err != nil {
				return err
			}
			queue = append(queue, raised...)
		}
		signatures, err := t.children(raiseSignatures, packed(queue[0].digest), repository(repo), at)
		if err != nil {
			return err
		}
		for _, d := range signatures {
			raised, err := t.raise(raiseOne, repo, d, at)
			if err != nil {
				return err
			}
			queue = append(queue, raised...)
		}
	}
	return nil
}

// Each statement raises what lives with manifest ?1 of repository ?2 to ?3.
const (
	raiseOne      = `UPDATE manifests SET accessed_at = ?3 WHERE digest = ?1 AND repo = ?2 AND accessed_at < ?3 RETURNING digest, family`
	raiseChildren = `UPDATE manifests SET accessed_at = ?3
		WHERE digest IN (SELECT child FROM refs WHERE parent = ?1 AND repo = ?2) AND repo = ?2 AND accessed_at < ?3 RETURNING digest, family`
	raiseReferrers = `UPDATE manifests SET accessed_at = ?3
		WHERE subject = ?1 AND repo = ?2 AND detached = 0 AND accessed_at < ?3 RETURNING digest, family`
	raiseSignatures = `UPDATE tags INDEXED BY tags_subject SET accessed_at = ?3
		WHERE subject = substr(?1, 1, 33) AND repo = ?2 AND accessed_at < ?3 RETURNING digest`
)

func (t *tx) raise(statement, repo string, d digest.Digest, at int64) (raised []family, err error) {
	err = t.each(func(a *answer) error {
		var m family
		err := a.scan((*packed)(&m.digest), &m.more)
		raised = append(raised, m)
		return err
	}, statement, packed(d), repository(repo), at)
	return raised, err
}

// latest returns the last use of a manifest, 0 if it has no row.
func (t *tx) latest(repo string, d digest.Digest) (at int64, err error) {
	_, err = t.one([]any{&at}, "SELECT accessed_at FROM manifests WHERE digest = ? AND repo = ?", packed(d), repository(repo))
	return at, err
}
