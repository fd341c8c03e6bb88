package sqlite

import (
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// The last use of a manifest or a tag is stored where it is read: no row is older than what keeps it. So a use of a
// manifest is also written to the tags that point to it, to its children and referrers, to the tags that are about one
// of these by their names (sha256-HEX.sig) and to what those point to, and so on. A row that is young enough already
// ends the way: all that lives with it is as young.

// raisedManifest is a manifest whose last use was raised, and what is known of the rows that live with it.
type raisedManifest struct {
	digest    digest.Digest
	hasFamily bool // it may have parts, referrers or signatures, not only tags
	settled   bool // nothing that lives with it is older: it has no family, and no tag points to it
}

// use records the use of a manifest at a time, if it has a row that is older.
func (t *tx) use(repo string, d digest.Digest, at int64) error {
	m := raisedManifest{digest: d}
	raised, err := t.one([]any{&m.hasFamily}, `UPDATE manifests SET accessed_at = ?3 WHERE digest = ?1
		AND repo = ?2 AND accessed_at < ?3
		RETURNING family`, packed(d), repository(repo), at)
	if err != nil || !raised {
		return err
	}
	return t.spread(repo, m, at)
}

// spread gives the last use of a manifest to all that lives with it.
func (t *tx) spread(repo string, m raisedManifest, at int64) error {
	if m.settled {
		return nil
	}
	reached, _, err := t.spreadIn(repo, m, at)
	if err != nil {
		return err
	}
	return t.spreadElsewhere(reached, at)
}

// spreadIn does so in one repository. It returns the manifests that may have signatures, and how many rows it wrote.
func (t *tx) spreadIn(repo string, m raisedManifest, at int64) (reached []raisedManifest, rows int, err error) {
	for queue := []raisedManifest{m}; len(queue) > 0; queue = queue[1:] {
		rows++
		err := t.exec("UPDATE tags INDEXED BY tags_digest SET accessed_at = ?3 WHERE digest = ?1 "+
			"AND repo = ?2 AND accessed_at < ?3",
			packed(queue[0].digest), repository(repo), at)
		if err != nil {
			return nil, rows, err
		}
		rows += t.c.Changes()
		if !queue[0].hasFamily {
			continue
		}
		reached = append(reached, queue[0])
		for _, raise := range []string{raiseChildren, raiseReferrers} {
			raised, err := t.raise(raise, repo, queue[0].digest, at)
			if err != nil {
				return nil, rows, err
			}
			queue = append(queue, raised...)
		}
		signatures, err := t.children(raiseSignatures, packed(queue[0].digest), repository(repo), at)
		if err != nil {
			return nil, rows, err
		}
		rows += len(signatures)
		for _, d := range signatures {
			raised, err := t.raise(raiseOne, repo, d, at)
			if err != nil {
				return nil, rows, err
			}
			queue = append(queue, raised...)
		}
	}
	return reached, rows, nil
}

// What one use writes in other repositories. Any client may push tags that are about an image, and each costs writes
// whenever the image is used. What is over these bounds waits for the next use.
const (
	maxTagsElsewhere = 100
	// maxRowsElsewhere is after how many rows no tag follows. The last one may exceed it, by what lives with one image.
	maxRowsElsewhere = 500
)

// spreadElsewhere gives the last use of manifests to the tags of other repositories that are about them by their names.
// That is recency and no more: such a tag holds nothing, and what it points to is used in its own repository only.
// What was used longest ago is first, so that no number of such tags keeps the use from another one for ever. Those of
// the manifests' own repository are as young already.
func (t *tx) spreadElsewhere(reached []raisedManifest, at int64) error {
	var next []index.Row // of each manifest the tag that was used longest ago
	var about []digest.Digest
	for _, m := range reached {
		g, err := t.oldestAbout(m.digest, at)
		if err != nil {
			return err
		}
		if g != nil {
			next, about = append(next, *g), append(about, m.digest)
		}
	}
	for tags, rows := 0, 0; len(next) > 0 && tags < maxTagsElsewhere && rows < maxRowsElsewhere; tags++ {
		i := 0
		for j := range next {
			if next[j].AccessedAt.Before(next[i].AccessedAt) {
				i = j
			}
		}
		raised, err := t.useTag(next[i], at)
		if err != nil {
			return err
		}
		rows += raised
		g, err := t.oldestAbout(about[i], at)
		switch {
		case err != nil:
			return err
		case g == nil:
			next, about = slices.Delete(next, i, i+1), slices.Delete(about, i, i+1)
		default:
			next[i] = *g
		}
	}
	return nil
}

// oldestAbout returns the tag about a manifest that was used longest ago, if that was before a time.
func (t *tx) oldestAbout(d digest.Digest, at int64) (*index.Row, error) {
	return t.first(layout.Tag, `FROM tags m INDEXED BY tags_about
		WHERE m.subject = substr(?1, 1, 33) AND m.accessed_at < +?2 ORDER BY m.accessed_at LIMIT 1`, packed(d), at)
}

// useTag records a use of a tag, and of what it points to in its repository. It returns how many rows it wrote.
func (t *tx) useTag(g index.Row, at int64) (rows int, err error) {
	err = t.exec("UPDATE tags SET accessed_at = max(accessed_at, ?3) WHERE repo = ?1 AND name = ?2",
		repository(g.Key.Repository), g.Key.Tag, at)
	if err != nil {
		return 0, err
	}
	raised, err := t.raise(raiseOne, g.Key.Repository, g.Digest, at)
	if err != nil || len(raised) == 0 {
		return 1, err
	}
	_, rows, err = t.spreadIn(g.Key.Repository, raised[0], at)
	return 1 + rows, err
}

// Each statement raises what lives with manifest ?1 of repository ?2 to ?3.
const (
	raiseOne = `UPDATE manifests SET accessed_at = ?3 WHERE digest = ?1 AND repo = ?2
		AND accessed_at < ?3 RETURNING digest, family`
	raiseChildren = `UPDATE manifests SET accessed_at = ?3
		WHERE digest IN (SELECT child FROM refs WHERE parent = ?1 AND repo = ?2) AND repo = ?2
		AND accessed_at < ?3 RETURNING digest, family`
	raiseReferrers = `UPDATE manifests SET accessed_at = ?3
		WHERE subject = ?1 AND repo = ?2 AND detached = 0 AND accessed_at < ?3 RETURNING digest, family`
	raiseSignatures = `UPDATE tags INDEXED BY tags_subject SET accessed_at = ?3
		WHERE subject = substr(?1, 1, 33) AND repo = ?2 AND accessed_at < ?3 RETURNING digest`
)

// raise runs one of these statements, and returns the manifests that were older until then. The caller goes on with
// those: what lives with any other one is as young.
func (t *tx) raise(statement, repo string, d digest.Digest, at int64) (raised []raisedManifest, err error) {
	err = t.each(func(a *answer) error {
		var m raisedManifest
		err := a.scan((*packed)(&m.digest), &m.hasFamily)
		raised = append(raised, m)
		return err
	}, statement, packed(d), repository(repo), at)
	return raised, err
}
