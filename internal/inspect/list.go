package inspect

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// Listing is the rows that were asked for, in order, and what sums them up.
type Listing struct {
	Kind     Kind
	Complete bool         // the index knows all that is on disk; else a server is still scanning it
	Now      time.Time    // when the store was read
	Totals   index.Totals // of the store; with Options.Repository of the repositories that match

	options Options
	expiry  expiry
	rows    sorted
	figures *Figures // nil: a pass over the store has not been made
}

// Rows reads the rows in order. It may be called again. After an error there are no more rows.
func (l *Listing) Rows(ctx context.Context) iter.Seq2[Row, error] { return l.rows.all(ctx) }

// All returns the rows as a slice.
func (l *Listing) All(ctx context.Context) (rows []Row, err error) {
	for row, err := range l.Rows(ctx) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Figures sums up the store, or the repositories that were asked for. After a listing of what was used last this takes a
// pass over the store, which sees its state of now.
func (l *Listing) Figures(ctx context.Context) (Figures, error) {
	if l.figures != nil {
		return *l.figures, nil
	}
	var f Figures
	err := l.expiry.store.View(ctx, func(r index.Reader) error {
		s, err := takeSurvey(ctx, r, l.expiry, l.options, func(*survey, *blobUse) error { return nil })
		if err == nil {
			f = s.figures
		}
		return err
	})
	if err != nil {
		return f, err
	}
	f.Rows = map[Kind]int64{Blobs: f.Blobs, Images: f.Images, Tags: f.Tags}[l.Kind]
	l.figures = &f
	return f, nil
}

// Close removes the temporary file of a long listing.
func (l *Listing) Close() error { return l.rows.close() }

// findRecent finds what was used last.
func (l *Listing) findRecent(ctx context.Context) error {
	err := l.expiry.store.View(ctx, func(r index.Reader) (err error) {
		if l.Totals, err = r.Totals(); err == nil {
			l.rows.first, err = findRecent(ctx, r, l.expiry, l.options)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	return nil
}

// survey finds the rows in one pass over the store.
func (l *Listing) survey(ctx context.Context) error {
	var listed int64
	err := l.expiry.store.View(ctx, func(r index.Reader) error {
		s, err := surveyRows(ctx, r, l.expiry, l.options, func(row Row) error {
			if !l.options.lists(row, l.expiry.now) {
				return nil
			}
			listed++
			return l.rows.add(ctx, row)
		})
		if err == nil {
			l.figures, l.Totals = &s.figures, s.figures.Totals
			l.figures.Rows = listed
		}
		return err
	})
	if err != nil {
		return err
	}
	l.rows.cut()
	return nil
}

// surveyRows calls add with each row that was asked for.
func surveyRows(ctx context.Context, r index.Reader, x expiry, o Options, add func(Row) error) (*survey, error) {
	s, err := takeSurvey(ctx, r, x, o, func(s *survey, b *blobUse) error {
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
	case Repositories:
		err = s.repositoryRows(add)
	}
	return s, err
}
