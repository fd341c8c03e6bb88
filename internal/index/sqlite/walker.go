package sqlite

import "bytes"

// walker reads rows that come in the order of a digest, their first column, one ahead.
type walker[T any] struct {
	*answer
	read func(*answer) (T, error) // the other columns
	at   []byte                   // the digest of the next row as it is stored; empty at the end
	head T
}

// walk begins a query, whose first column is a digest and its order. The caller closes the walker.
func walk[T any](q querier, read func(*answer) (T, error), query string) (*walker[T], error) {
	a, err := q.query(query)
	if err != nil {
		return nil, err
	}
	w := &walker[T]{answer: a, read: read}
	if err := w.step(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// step reads the next row into head.
func (w *walker[T]) step() error {
	w.at = w.at[:0]
	more, err := w.next()
	if err != nil || !more {
		return err
	}
	if w.at, err = w.stored(0, w.at); err == nil {
		w.head, err = w.read(w.answer)
	}
	return err
}

// take appends the rows of a digest, and skips those before.
func (w *walker[T]) take(stored []byte, into []T) ([]T, error) {
	for len(w.at) > 0 {
		order := bytes.Compare(w.at, stored)
		if order > 0 {
			break
		}
		if order == 0 {
			into = append(into, w.head)
		}
		if err := w.step(); err != nil {
			return into, err
		}
	}
	return into, nil
}
