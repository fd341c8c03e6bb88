package inspect

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
)

// SortError says that the temporary file in which a long listing is sorted does not work.
type SortError struct{ err error }

func (e *SortError) Error() string { return "sort in a temporary file: " + e.err.Error() }
func (e *SortError) Unwrap() error { return e.err }

// sorted puts rows in order. With a limit only the first of them stay, in memory. Without one all are in a temporary
// file, so that memory stays flat.
type sorted struct {
	Options
	first []Row
	file  *sqlite.Sorter // nil: there is a limit, or no row yet
}

// add takes a row. Rows need not come in any order.
func (s *sorted) add(ctx context.Context, row Row) (err error) {
	if s.Limit > 0 {
		s.first = append(s.first, row)
		if len(s.first) >= 2*s.Limit { // twice the limit, so that sorting costs little a row
			s.cut()
		}
		return nil
	}
	if s.file == nil {
		if s.file, err = sqlite.NewSorter(ctx); err != nil {
			return &SortError{err}
		}
	}
	if err := s.file.Add(row.rank(s.Sort), row.name(), row.pack()); err != nil {
		return sortFailed(ctx, err)
	}
	return nil
}

// sortFailed returns why a sort failed: the caller has gone, or the temporary file does not work, as on a full disk.
func sortFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // SQLite says that it was interrupted
	}
	return &SortError{err}
}

// cut sorts the rows in memory, and drops those that the limit leaves out.
func (s *sorted) cut() {
	slices.SortFunc(s.first, s.compare)
	if s.Limit > 0 && len(s.first) > s.Limit {
		clear(s.first[s.Limit:])
		s.first = s.first[:s.Limit]
	}
}

// errStop ends the reading of rows early.
var errStop = errors.New("no more rows are wanted")

// all reads the rows in order. After an error there are no more.
func (s *sorted) all(ctx context.Context) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, row := range s.first {
			if !yield(row, nil) {
				return
			}
		}
		if s.file == nil {
			return
		}
		err := s.file.Each(s.Reverse, func(text string) error {
			row, err := unpack(s.Kind, text)
			if err != nil {
				return err
			}
			if !yield(row, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, sortFailed(ctx, err))
		}
	}
}

// close removes the temporary file.
func (s *sorted) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
