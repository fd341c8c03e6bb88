package reconcile

import (
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// measureAtOnce is how many directories one transaction measures: other writers wait for it.
const measureAtOnce = 1000

// measure has the directories of a repository measured, with those of others.
func (r *rebuild) measure(repo string) error {
	r.unmeasured = append(r.unmeasured, layout.RepositoryDirs(repo)...)
	if len(r.unmeasured) < measureAtOnce {
		return nil
	}
	return r.measureAll()
}

// measureAll measures what is left of that.
func (r *rebuild) measureAll() error {
	dirs := r.unmeasured
	r.unmeasured = r.unmeasured[:0]
	for some := range slices.Chunk(dirs, measureAtOnce) {
		if err := r.Index.Measure(r.ctx, r.Dir.Taken, some...); err != nil {
			return err
		}
	}
	return nil
}

// directories measures those of the blobs, and forgets those that do not exist any more.
func (r *rebuild) directories() error {
	r.unmeasured = append(r.unmeasured, layout.BlobDirs()...)
	err := r.Index.View(r.ctx, func(ix index.Reader) error {
		return ix.EachDirectory(func(path string) error {
			if _, there := r.Dir.Taken(path); !there {
				r.unmeasured = append(r.unmeasured, path)
			}
			return r.ctx.Err()
		})
	})
	if err != nil {
		return err
	}
	return r.measureAll()
}
