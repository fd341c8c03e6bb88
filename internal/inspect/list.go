package inspect

import (
	"context"
	"fmt"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// Listing is what Write writes, as values. With a limit only so many rows are in memory, about.
type Listing struct {
	Totals index.Totals // of the store; of the repositories that were asked for
	Rows   []Row        // of the kind, in order
}

// List lists what a store holds, as it would live under a policy.
func List(ctx context.Context, store index.Store, p index.Policy, o Options) (list Listing, err error) {
	if err := o.Check(); err != nil {
		return list, err
	}
	o.setDefaults()
	l, err := newLifetimes(ctx, store, p)
	if err != nil {
		return list, err
	}
	err = store.View(ctx, func(r index.Reader) (err error) {
		if o.isRecent() {
			if list.Totals, err = r.Totals(); err == nil {
				list.Rows, err = findRecent(ctx, r, l, o)
			}
			return err
		}
		kept := shortlist{Options: o}
		s, err := surveyRows(ctx, r, l, o, kept.add)
		if err == nil {
			list = Listing{s.figures.Totals, kept.sorted()}
		}
		return err
	})
	if err != nil {
		return Listing{}, fmt.Errorf("read the index: %w", err)
	}
	return list, nil
}

// surveyRows calls add with each row that was asked for.
func surveyRows(ctx context.Context, r index.Reader, l lifetimes, o Options, add func(Row) error) (*survey, error) {
	s, err := takeSurvey(ctx, r, l, o, func(s *survey, b *blobUse) error {
		if o.Kind != Blobs {
			return nil
		}
		return add(s.row(b))
	})
	if err != nil {
		return nil, err
	}
	switch o.Kind {
	case Images:
		err = s.accounts.imageRows(r, add)
	case Tags:
		err = s.accounts.tagRows(r, add)
	}
	return s, err
}

// shortlist keeps the first rows of an order.
type shortlist struct {
	Options
	rows []Row
}

func (k *shortlist) add(row Row) error {
	if k.rows = append(k.rows, row); k.Limit > 0 && len(k.rows) >= 2*k.Limit {
		k.rows = k.sorted() // twice the limit, so that sorting costs little a row
	}
	return nil
}

func (k *shortlist) sorted() []Row {
	slices.SortFunc(k.rows, func(a, b Row) int { return k.compare(a.rank(k.Sort), b.rank(k.Sort), a.name(), b.name()) })
	if k.Limit > 0 && len(k.rows) > k.Limit {
		clear(k.rows[k.Limit:])
		return k.rows[:k.Limit]
	}
	return k.rows
}
