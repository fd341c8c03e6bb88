package reconcile

import (
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// adoption is an object whose row differs from the disk.
type adoption struct {
	key    layout.Key
	looks  []index.Look // the object's own, and of a manifest those at parts of another size than it states
	exists bool         // as of its own look in the last transaction
	unread error        // of that look: the row stays as it is
}

// look looks at the object itself, and remembers the outcome. The row of a file that cannot be read stays.
func (a *adoption) look() (index.Adoption, bool, error) {
	found, exists, err := a.looks[0]()
	a.exists, a.unread = exists, err
	if err != nil {
		err = index.ErrSkip
	}
	return found, exists, err
}

// orSkip leaves the row of a file that cannot be read as it is. The walk reports the file.
func orSkip(look index.Look) index.Look {
	return func() (index.Adoption, bool, error) {
		a, exists, err := look()
		if tree.OfOnePath(err) {
			err = index.ErrSkip
		}
		return a, exists, err
	}
}

// flush adopts those of the keys whose rows differ from the disk.
func (r *rebuild) flush() error {
	differ, err := r.differing()
	r.keys = r.keys[:0]
	if err != nil || len(differ) == 0 {
		return err
	}
	if err := r.hold(differ); err != nil {
		return err
	}
	var looks []index.Look
	for i := range differ {
		looks = append(looks, differ[i].look)
		for _, part := range differ[i].looks[1:] {
			looks = append(looks, orSkip(part))
		}
	}
	if err := r.Index.Adopt(r.ctx, looks...); err != nil {
		return err
	}
	for _, a := range differ {
		if err := r.count(a); err != nil {
			return err
		}
	}
	return nil
}

// hold tells the index to hold before the first tag or manifest is adopted. A rebuild that is killed in between must
// not leave rows behind that are as old as their files and not held.
func (r *rebuild) hold(differ []adoption) error {
	named := slices.ContainsFunc(differ, func(a adoption) bool { return isName(a.key.Kind) })
	if r.Hold == 0 || r.held || !named {
		return nil
	}
	r.held = true
	return r.Index.Hold(r.ctx, r.Hold)
}

// isName is true for the kinds that are adopted with NameAge.
func isName(k layout.Kind) bool { return k == layout.Tag || k == layout.Manifest }

func (r *rebuild) age(k layout.Kind) adopt.Age {
	if isName(k) {
		return r.NameAge
	}
	return adopt.Now
}

// differing returns those of the keys whose rows differ from the disk. What cannot be read is left to the walk.
func (r *rebuild) differing() (differ []adoption, err error) {
	rows, err := r.rows()
	if err != nil {
		return nil, err
	}
	for i, k := range r.keys {
		looks, err := r.looks(k, rows[i])
		if err != nil {
			err = r.walk.Pass(k.Repository, err)
		}
		if err != nil {
			return nil, err
		}
		if len(looks) > 0 {
			differ = append(differ, adoption{key: k, looks: looks})
		}
	}
	return differ, nil
}

// rows returns the row of each key, nil for a key without one.
func (r *rebuild) rows() ([]*index.Row, error) {
	rows := make([]*index.Row, len(r.keys))
	if r.blank {
		return rows, nil
	}
	err := r.Index.View(r.ctx, func(ix index.Reader) (err error) {
		for i, k := range r.keys {
			if rows[i], err = ix.Row(k); err != nil {
				return err
			}
		}
		return nil
	})
	return rows, err
}

// looks returns how to adopt an object, and none if its row is as the disk has it. It reads manifests and damaged blobs
// here, before the transaction, for which others wait.
func (r *rebuild) looks(k layout.Key, row *index.Row) ([]index.Look, error) {
	look := adopt.Look(r.Dir, k, r.age(k.Kind))
	same, err := r.same(row, look)
	switch {
	case same || err != nil:
		return nil, err
	case k.Kind == layout.Manifest:
		return r.disk.LookAtManifest(r.ctx, k, r.NameAge)
	case k.Kind == layout.Blob && row != nil:
		look, err = r.disk.LookAtBlob(r.ctx, k.Digest, row.Size, adopt.Now)
	}
	return []index.Look{look}, err
}

// same says that a row is as the disk has it. A placed link or manifest always is: all that its row has follows from
// its digest.
func (r *rebuild) same(row *index.Row, look index.Look) (bool, error) {
	if row == nil || !row.Placed {
		return false, nil
	}
	if row.Key.Kind == layout.Layer || row.Key.Kind == layout.Manifest {
		return true, nil
	}
	now, exists, err := look()
	if err == nil && !exists && row.Key.Kind == layout.Blob {
		exists, err = r.Dir.Has(row.Key) // an empty file is no blob, and yet there
	}
	if err != nil || !exists {
		return !exists, err // removed since the walk met it: missing finds it
	}
	if row.Key.Kind == layout.Tag {
		return now.Digest == row.Digest && now.Disk == row.Disk, nil
	}
	return now.Size == row.Size && now.Disk == row.Disk, nil
}

// count counts what was adopted, and removes the empty directory of an object without a file.
func (r *rebuild) count(a adoption) error {
	if a.unread != nil {
		return r.walk.Pass(a.key.Repository, a.unread)
	}
	if a.exists {
		r.res.Adopted++
		return nil
	}
	r.res.Hollow++
	exists, err := r.Dir.Has(a.key) // the link of a manifest may be there without its blob
	if err != nil {
		return r.walk.Pass(a.key.Repository, err)
	}
	if !exists && r.Prune != nil {
		r.Prune(a.key)
	}
	return nil
}
