package inspect

import (
	"context"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/policy"
)

// retire offers everything, level by level, until nothing goes any more.
func (w *world) retire(p index.Policy) {
	ctx := context.Background()
	cutoffs := policy.NewCutoffs(p, w.Back)
	for _, kind := range []layout.Kind{layout.Tag, layout.Manifest, layout.Layer, layout.Blob} {
		for again := true; again; {
			again = false
			var keys []layout.Key
			w.Must(w.View(ctx, func(r index.Reader) error {
				return r.Each(kind, func(row index.Row) error {
					keys = append(keys, row.Key)
					return nil
				})
			}))
			for _, k := range keys {
				row, err := indextest.Retire(ctx, w, k, cutoffs.Victim, func(index.Row) (index.Removed,
					error) {
					return index.Removed{}, nil
				})
				w.Must(err)
				again = again || row != nil
			}
		}
	}
}
