package reconcile

import (
	"errors"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// maxMissing is how many keys are kept in memory at once. All rows may be without a file, where a disk was not mounted.
const maxMissing = 50_000

// missing marks the rows whose files are missing. A row that was marked is not found again.
func (r *rebuild) missing() error {
	for _, kind := range []layout.Kind{layout.Blob, layout.Layer, layout.Manifest, layout.Tag} {
		for more := true; more; {
			keys, err := r.findMissing(kind)
			if err != nil {
				return err
			}
			if err := r.mark(keys); err != nil {
				return err
			}
			r.res.Missing += len(keys)
			more = len(keys) == maxMissing
		}
	}
	return nil
}

// mark has the index look at the files of keys once more.
func (r *rebuild) mark(keys []layout.Key) error {
	for part := range slices.Chunk(keys, batch) {
		var looks []index.Look
		for _, k := range part {
			a := adoption{key: k, looks: []index.Look{adopt.Look(r.Dir, k, r.age(k.Kind))}}
			looks = append(looks, a.look)
		}
		if err := r.Index.Adopt(r.ctx, looks...); err != nil {
			return err
		}
	}
	return nil
}

var errEnough = errors.New("enough were found")

// findMissing returns keys of a kind, maxMissing at most, that are placed and have no file. A file that cannot be read
// may exist: the walk reports it.
func (r *rebuild) findMissing(kind layout.Kind) (keys []layout.Key, err error) {
	err = r.Index.View(r.ctx, func(ix index.Reader) error {
		return ix.Each(kind, func(row index.Row) error {
			if !row.Placed {
				return r.ctx.Err()
			}
			exists, err := r.Dir.Has(row.Key)
			if err != nil && !tree.OfOnePath(err) {
				return err
			}
			if err == nil && !exists {
				keys = append(keys, row.Key)
			}
			if len(keys) == maxMissing {
				return errEnough
			}
			return r.ctx.Err()
		})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return keys, err
}
