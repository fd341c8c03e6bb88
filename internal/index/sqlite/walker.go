package sqlite

import "github.com/opencontainers/go-digest"

// walker reads rows that come in the order of a digest, one ahead. Packed digests are in the same order
// as written ones.
type walker[T any] struct {
	*answer
	read func(*answer) (digest.Digest, T, error)
	at   digest.Digest // empty at the end
	head T
}

func walk[T any](q querier, read func(*answer) (digest.Digest, T, error), query string) (*walker[T], error) {
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

func (w *walker[T]) step() error {
	w.at = ""
	more, err := w.next()
	if err == nil && more {
		w.at, w.head, err = w.read(w.answer)
	}
	return err
}

// take appends the rows of d, and skips those before.
func (w *walker[T]) take(d digest.Digest, into []T) ([]T, error) {
	for w.at != "" && w.at <= d {
		if w.at == d {
			into = append(into, w.head)
		}
		if err := w.step(); err != nil {
			return into, err
		}
	}
	return into, nil
}
