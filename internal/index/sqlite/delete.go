package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// drop removes rows of one kind of which none refers to another. What they referred to takes their last use, and may
// be unreferenced now.
func (t *tx) drop(rows ...index.Row) error {
	if err := t.dropRows(rows); err != nil {
		return err
	}
	return t.leaveAll(rows)
}

// leaveAll takes back the numbers of the repositories of rows, of those that have nothing any more.
func (t *tx) leaveAll(rows []index.Row) error {
	left := map[string]bool{"": true} // of blobs
	for _, r := range rows {
		if repo := r.Key.Repository; !left[repo] {
			left[repo] = true
			if err := t.leave(repo); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropRows is drop that leaves the numbers of repositories as they are.
func (t *tx) dropRows(rows []index.Row) error {
	if len(rows) == 0 {
		return nil
	}
	kind := rows[0].Key.Kind
	keys := make(tuples, 0, 2*len(rows))
	for _, r := range rows {
		_, _, args := where(r.Key)
		keys = append(keys, args...)
	}
	if err := t.execSet(deleteRows[kind], keys); err != nil {
		return err
	}
	switch kind {
	case layout.Tag: // their manifests were used as late as they
		pointed := make(tuples, 0, 2*len(rows))
		for _, r := range rows {
			pointed = append(pointed, packed(r.Digest), repository(r.Key.Repository))
		}
		return t.execSet(noteManifests, pointed)
	case layout.Layer:
		return t.inheritBlobs(rows)
	case layout.Manifest:
		return t.dropReferences(rows, keys)
	}
	return nil
}

// deleteRows removes the rows of keys of a kind.
var deleteRows = [...]set{
	layout.Blob:     newSet(1, "DELETE FROM blobs WHERE digest IN (%s)"),
	layout.Layer:    newSet(2, "DELETE FROM layers WHERE (digest, repo) IN (%s)"),
	layout.Manifest: newSet(2, "DELETE FROM manifests WHERE (digest, repo) IN (%s)"),
	layout.Tag:      newSet(2, "DELETE FROM tags WHERE (repo, name) IN (%s)"),
}

// inheritBlobs gives the last use of links or manifests that are removed to their blobs. Several may have one blob.
func (t *tx) inheritBlobs(rows []index.Row) error {
	last := map[digest.Digest]int64{}
	for _, r := range rows {
		last[r.Key.Digest] = max(last[r.Key.Digest], r.AccessedAt.UnixMilli())
	}
	all := make(tuples, 0, 2*len(last))
	for d, at := range last {
		all = append(all, packed(d), at)
	}
	return t.execSet(inheritBlobs, all)
}

var inheritBlobs = newSet(2, "UPDATE blobs SET accessed_at = max(accessed_at, gone.column2), referenced = "+
	blobReferenced("blobs.digest")+" FROM (%s) gone WHERE blobs.digest = gone.column1")

// dropReferences forgets what manifests named. Their links take their last use, as their own; their children, referrers
// and signatures were used as late as they. keys are those of the manifests.
func (t *tx) dropReferences(rows []index.Row, keys tuples) error {
	named := make(tuples, 0, 3*len(rows))
	for i, r := range rows {
		named = append(named, i, packed(r.Key.Digest), repository(r.Key.Repository))
		delete(t.c.renewed, r.Key.Repository) // its links are renewed as unreferenced ones from now on
	}
	last := map[layout.Key]int64{}
	err := t.eachSet(namedBy, named, func(a *answer) error {
		var i int
		var child packed
		err := a.scan(&i, &child)
		if err == nil {
			k := layout.LayerKey(rows[i].Key.Repository, digest.Digest(child))
			last[k] = max(last[k], rows[i].AccessedAt.UnixMilli())
		}
		return err
	})
	if err != nil {
		return err
	}
	links, children := make(tuples, 0, 3*len(last)), make(tuples, 0, 2*len(last))
	for k, at := range last {
		links = append(links, packed(k.Digest), repository(k.Repository), at)
		children = append(children, packed(k.Digest), repository(k.Repository))
	}
	for _, change := range []struct {
		of  set
		all tuples
	}{{deleteReferences, keys}, {inheritLayers, links}, {noteManifests, children}, {noteAllReferrers, keys}} {
		if err := t.execSet(change.of, change.all); err != nil {
			return err
		}
	}
	return t.inheritBlobs(rows)
}

var (
	namedBy = newSet(3, "SELECT gone.column1, f.child FROM (%s) gone "+
		"CROSS JOIN refs f ON f.parent = gone.column2 AND f.repo = gone.column3")
	deleteReferences = newSet(2, "DELETE FROM refs WHERE (parent, repo) IN (%s)")
	inheritLayers    = newSet(3, "UPDATE layers SET accessed_at = max(accessed_at, gone.column3), "+
		"own_at = CASE WHEN gone.column3 <= accessed_at THEN max(own_at, gone.column3) END, referenced = "+
		layerReferenced("layers.digest", "layers.repo")+
		" FROM (%s) gone WHERE layers.digest = gone.column1 AND layers.repo = gone.column2")
	noteManifests = newSet(2, "UPDATE manifests SET referenced = "+manifestReferenced("manifests")+
		" WHERE (digest, repo) IN (%s)")
	noteAllReferrers = newSet(2, "UPDATE manifests SET referenced = "+manifestReferenced("manifests")+
		" WHERE (digest, repo) IN (SELECT r.digest, r.repo FROM (%s) gone "+
		"CROSS JOIN manifests r ON r.subject = gone.column1 AND r.repo = gone.column2)")
)

// DeleteTag implements index.Store.
func (s *Store) DeleteTag(ctx context.Context, repo, tag string, remove func() error) error {
	return s.begin(ctx, func(t *tx) error {
		if err := s.mayUnname(t, layout.TagKey(repo, tag)); err != nil {
			return err
		}
		r, err := t.row(layout.TagKey(repo, tag))
		if err != nil {
			return err
		}
		if r != nil {
			if err := errors.Join(t.rememberRow(*r, index.ReasonDeleted), t.drop(*r)); err != nil {
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
		if err := s.mayUnname(t, k); err != nil {
			return err
		}
		var names []string
		tags, err := t.tags(repo, d)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			names = append(names, tag.Key.Tag)
			if err := errors.Join(t.rememberRow(tag, index.ReasonDeleted), t.drop(tag)); err != nil {
				return err
			}
		}
		r, err := t.row(k)
		if err != nil {
			return err
		}
		if r != nil && r.Placed && len(tags) == 0 {
			err = t.rememberRow(*r, index.ReasonDeleted)
		}
		if r != nil && err == nil {
			err = t.drop(*r)
		}
		if err != nil {
			return err
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
