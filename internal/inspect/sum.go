package inspect

import (
	"context"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// Sum sums up a store as it would live under a policy, in one pass over it.
func Sum(ctx context.Context, store index.Store, p index.Policy) (f Figures, err error) {
	l, err := newLifetimes(ctx, store, p)
	if err != nil {
		return f, err
	}
	err = store.View(ctx, func(r index.Reader) error {
		s, err := takeSurvey(ctx, r, l, Options{Kind: Blobs}, func(*survey, *blobUse) error { return nil })
		if err == nil {
			f = s.figures
		}
		return err
	})
	return f, err
}
