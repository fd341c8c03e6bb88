package inspect

import (
	"context"
	"fmt"

	"github.com/jc-lab/docker-cache-server/internal/image"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// mostLatest is how many rows are found without a pass over the store: each takes several small queries, and a pass
// less than one for each row.
const mostLatest = 1000

// isLatest says whether the rows are those that were used last, and few enough to be found directly.
func (o Options) isLatest() bool {
	return o.Sort == ByAccess && !o.Reverse && o.Limit > 0 && o.Limit <= mostLatest && o.Repository == "" &&
		o.Expiring == nil && o.Kind != Repositories
}

// findLatest finds what was used last. The index may give some rows more than the limit, those of the same time as the
// last one, so the rows are sorted and cut like those of a pass.
func (l *Listing) findLatest(ctx context.Context) error {
	err := l.expiry.store.View(ctx, func(r index.Reader) (err error) {
		if l.Totals, err = r.Totals(); err != nil {
			return err
		}
		add := func(row Row) error {
			l.rows.first = append(l.rows.first, row)
			return ctx.Err()
		}
		s := sizes{r, map[layout.Key][2]int64{}}
		j, err := l.expiry.judge(r)
		if err != nil {
			return err
		}
		switch l.Kind {
		case Images:
			return r.ListImages(l.options.Limit, func(i index.Image) error {
				if err := j.row(i.Row); err != nil {
					return err
				}
				row := l.expiry.imageRow(i)
				row.Size, row.UniqueBytes, err = s.of(i.Key)
				if err != nil {
					return err
				}
				return add(row)
			})
		case Tags:
			return r.ListTags(l.options.Limit, func(t index.Image) error {
				if err := j.row(t.Row); err != nil {
					return err
				}
				row := l.expiry.tagRow(t)
				if !t.Absent {
					row.Size, row.UniqueBytes, err = s.of(layout.ManifestKey(t.Key.Repository, t.Digest))
				}
				if err != nil {
					return err
				}
				return add(row)
			})
		}
		return l.latestBlobs(r, j, add)
	})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	l.rows.cut()
	return nil
}

// latestBlobs adds the blobs that were used last, and judges what owns them.
func (l *Listing) latestBlobs(r index.Reader, j *judge, add func(Row) error) error {
	var blobs []index.Blob
	err := r.ListBlobs(index.BlobListing{Latest: l.options.Limit, Owners: j != nil}, func(b index.Blob) error {
		blobs = append(blobs, b)
		return nil
	})
	if err != nil {
		return err
	}
	for _, b := range blobs {
		for _, o := range b.Owners {
			if err := j.key(r, o.Key); err != nil {
				return err
			}
		}
		if err := add(l.expiry.blobRow(b)); err != nil {
			return err
		}
	}
	return nil
}

// sizes measures images, each once: a thousand tags may point to one.
type sizes struct {
	r     index.Reader
	known map[layout.Key][2]int64
}

// of returns the size of an image with everything it consists of, and what only it holds.
func (s sizes) of(manifest layout.Key) (size, unique int64, err error) {
	if known, ok := s.known[manifest]; ok {
		return known[0], known[1], nil
	}
	if size, err = image.Size(s.r, manifest); err != nil {
		return 0, 0, err
	}
	if unique, err = image.UniqueBytes(s.r, manifest); err != nil {
		return 0, 0, err
	}
	s.known[manifest] = [2]int64{size, unique}
	return size, unique, nil
}
