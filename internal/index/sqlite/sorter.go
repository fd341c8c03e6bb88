package sqlite

import (
	"context"
	"errors"

	"zombiezen.com/go/sqlite"
)

// Sorter puts texts in order that are too many for memory. They are in a temporary file of SQLite's, in the directory
// that SQLITE_TMPDIR or TMPDIR names, which is removed when the sorter is closed or the process ends. A Sorter is for
// one goroutine.
type Sorter struct{ q querier }

// sorterCache is how much of the file stays in memory, in KiB.
const sorterCache = "8192"

// NewSorter makes an empty sorter. Work ends when ctx does, with an error.
func NewSorter(ctx context.Context) (*Sorter, error) {
	c, err := connect("", sqlite.OpenReadWrite|sqlite.OpenCreate, "journal_mode = OFF", "synchronous = OFF",
		"cache_size = -"+sorterCache)
	if err != nil {
		return nil, err
	}
	c.SetInterrupt(ctx.Done())
	s := &Sorter{querier{c}}
	// A text is stored as a BLOB: it may have any bytes.
	if err := errors.Join(s.q.exec("CREATE TABLE rows (rank INTEGER, name BLOB, text BLOB)"),
		s.q.exec("BEGIN")); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return s, nil
}

// Add adds a text. The larger rank comes first, and of equal ranks the smaller name, byte by byte.
func (s *Sorter) Add(rank int64, name, text string) error {
	return s.q.exec("INSERT INTO rows VALUES (?, ?, ?)", rank, []byte(name), []byte(text))
}

// Each calls f with each text in order, or in the reverse order.
func (s *Sorter) Each(reverse bool, f func(text string) error) error {
	order := " ORDER BY rank DESC, name"
	if reverse {
		order = " ORDER BY rank, name DESC"
	}
	return s.q.each(func(a *answer) error {
		text := make([]byte, a.st.ColumnLen(0))
		a.st.ColumnBytes(0, text)
		return f(string(text))
	}, "SELECT text FROM rows"+order)
}

// Close removes the temporary file.
func (s *Sorter) Close() error { return s.q.c.Close() }
