package inspect

import (
	"context"
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

// Figures sums up the store, or the repositories that were asked for. After a listing of what was used last this takes
// a pass over the store, which sees its state of now.
func (l *Listing) Figures(ctx context.Context) (Figures, error) {
	if l.figures != nil {
		return *l.figures, nil
	}
	p := newPass(l.expiry, l.options, nil)
	if err := p.run(ctx); err != nil {
		return Figures{}, err
	}
	l.figures = &p.figures
	return p.figures, nil
}

// Close removes the temporary file of a long listing.
func (l *Listing) Close() error { return l.rows.close() }

// survey finds the rows in one pass over the store.
func (l *Listing) survey(ctx context.Context) error {
	p := newPass(l.expiry, l.options, func(row Row) error { return l.rows.add(ctx, row) })
	if err := p.run(ctx); err != nil {
		return err
	}
	l.figures, l.Totals = &p.figures, p.figures.Totals
	l.rows.cut()
	return nil
}
