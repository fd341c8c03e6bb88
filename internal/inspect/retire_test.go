package inspect

import (
	"context"

	"github.com/jc-lab/docker-cache-server/internal/expiry"
	"github.com/jc-lab/docker-cache-server/internal/index"
)

// retire offers everything, level by level, until nothing goes any more.
func (w *world) retire(p index.Policy) {
	ctx := context.Background()
	cut := expiry.Cutoffs(p, w.Back)
	for _, kind := range []index.Kind{index.Tag, index.Manifest, index.Layer, index.Blob} {
		for again := true; again; {
			again = false
			var keys []index.Key
			w.must(w.View(ctx, func(r index.Reader) error {
				return r.Each(kind, func(row index.Row) error {
					keys = append(keys, row.Key)
					return nil
				})
			}))
			for _, k := range keys {
				rows, err := w.Retire(ctx, k, cut, func([]index.Row) error { return nil })
				w.must(err)
				again = again || len(rows) > 0
			}
		}
	}
}
