package inspect

import (
	"bufio"
	"container/heap"
	"encoding/gob"
	"errors"
	"io"
	"os"
	"slices"
)

// SortError says that the temporary file in which a long listing is sorted does not work.
type SortError struct{ err error }

func (e *SortError) Error() string { return "sort in a temporary file: " + e.err.Error() }
func (e *SortError) Unwrap() error { return e.err }

// line is a row on its way to the output.
type line struct {
	Rank int64
	Name string // decides between equal ranks, A to Z
	Text []byte // as its printer rendered it
}

// spool puts lines in order. What is too much for memory waits in a temporary file, in sorted runs.
type spool struct {
	limit   int // 0: all
	compare func(a, b *line) int
	stays   func(*line) // called with each line that is not cut off
	lines   []line
	bytes   int // of text in memory
	most    int // of them
	file    *os.File
	runs    []int64 // where each begins in the file, and the end of the last
}

// spoolSize is how much text stays in memory. More would make the merge a little faster.
const spoolSize = 8 << 20

func newSpool(o Options, stays func(*line)) *spool {
	return &spool{limit: o.Limit, most: spoolSize, stays: stays, compare: func(a, b *line) int { return o.compare(a.Rank, b.Rank, a.Name, b.Name) }}
}

func (s *spool) add(l line) error {
	s.lines = append(s.lines, l)
	s.bytes += len(l.Text)
	switch {
	case s.limit > 0 && len(s.lines) >= 2*s.limit:
		s.cut() // twice the limit, so that sorting costs little a line
	case s.limit == 0:
		s.stays(&l)
		if s.bytes > s.most {
			return s.spill()
		}
	}
	return nil
}

// settle ends adding.
func (s *spool) settle() {
	s.cut()
	if s.limit > 0 {
		for i := range s.lines {
			s.stays(&s.lines[i])
		}
	}
}

func (s *spool) sort() { slices.SortFunc(s.lines, func(a, b line) int { return s.compare(&a, &b) }) }

func (s *spool) cut() {
	s.sort()
	if s.limit > 0 && len(s.lines) > s.limit {
		clear(s.lines[s.limit:])
		s.lines = s.lines[:s.limit]
	}
}

// spill writes what is in memory to the file, as a run.
func (s *spool) spill() error {
	if err := s.open(); err != nil {
		return &SortError{err}
	}
	s.sort()
	buffered := bufio.NewWriterSize(s.file, 1<<16)
	enc := gob.NewEncoder(buffered)
	for i := range s.lines {
		if err := enc.Encode(&s.lines[i]); err != nil {
			return &SortError{err}
		}
	}
	if err := buffered.Flush(); err != nil {
		return &SortError{err}
	}
	end, err := s.file.Seek(0, io.SeekCurrent)
	s.runs = append(s.runs, end)
	clear(s.lines)
	s.lines, s.bytes = s.lines[:0], 0
	return err
}

// open makes the file, which has no name any more: it goes with the process, whatever happens.
func (s *spool) open() (err error) {
	if s.file != nil {
		return nil
	}
	if s.file, err = os.CreateTemp("", "dcs-inspect-*"); err != nil {
		return err
	}
	s.runs = []int64{0}
	return os.Remove(s.file.Name())
}

// close gives the file back.
func (s *spool) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// deliver calls f with the lines in order.
func (s *spool) deliver(f func(*line) error) error {
	if s.file == nil {
		for i := range s.lines {
			if err := f(&s.lines[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return s.merge(f)
}

// merge reads the runs side by side.
func (s *spool) merge(f func(*line) error) error {
	if err := s.spill(); err != nil { // the rest is a run too
		return err
	}
	m := merger{compare: s.compare}
	for i, from := range s.runs[:len(s.runs)-1] {
		section := io.NewSectionReader(s.file, from, s.runs[i+1]-from)
		r := &runReader{dec: gob.NewDecoder(bufio.NewReaderSize(section, 1<<16))}
		if ok, err := r.next(); err != nil {
			return err
		} else if ok {
			m.runs = append(m.runs, r)
		}
	}
	heap.Init(&m)
	for m.Len() > 0 {
		first := m.runs[0]
		if err := f(&first.head); err != nil {
			return err
		}
		if ok, err := first.next(); err != nil {
			return err
		} else if ok {
			heap.Fix(&m, 0)
		} else {
			heap.Pop(&m)
		}
	}
	return nil
}

// runReader reads a run, one line ahead.
type runReader struct {
	dec  *gob.Decoder
	head line
}

func (r *runReader) next() (bool, error) {
	r.head = line{}
	err := r.dec.Decode(&r.head)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, &SortError{err}
	}
	return true, nil
}

// merger is a heap of runs by their next line.
type merger struct {
	runs    []*runReader
	compare func(a, b *line) int
}

func (m *merger) Len() int           { return len(m.runs) }
func (m *merger) Less(i, j int) bool { return m.compare(&m.runs[i].head, &m.runs[j].head) < 0 }
func (m *merger) Swap(i, j int)      { m.runs[i], m.runs[j] = m.runs[j], m.runs[i] }
func (m *merger) Push(r any)         { m.runs = append(m.runs, r.(*runReader)) }
func (m *merger) Pop() any {
	last := m.runs[len(m.runs)-1]
	m.runs = m.runs[:len(m.runs)-1]
	return last
}
