package sqlite

import (
	"fmt"
	"strings"
)

// setSize is how many keys a statement of a set is asked for at most.
const setSize = 16

// set is a statement for several keys at once: in place of %s it has a tuple of parameters for each key. A missing key
// is NULL, which equals nothing. So there are two texts of each, which stay prepared: for one key and for setSize.
type set struct {
	width     int // of a tuple
	one, many string
}

// newSet makes a set of a statement in which %s is the tuples of its keys.
func newSet(width int, statement string) set {
	tuples := func(n int) string {
		tuple := "(" + strings.Repeat(", ?", width)[2:] + ")"
		return "VALUES " + strings.Repeat(", "+tuple, n)[2:]
	}
	return set{width, fmt.Sprintf(statement, tuples(1)), fmt.Sprintf(statement, tuples(setSize))}
}

// tuples are the parameters of a set, one key after the other.
type tuples []any

// parts calls f with the statement and the parameters of each setSize keys.
func (s set) parts(all tuples, f func(statement string, args []any) error) error {
	for size := s.width * setSize; len(all) > 0; {
		statement, args := s.many, all[:min(size, len(all))]
		all = all[len(args):]
		if len(args) == s.width {
			statement = s.one
		} else {
			args = append(args[:len(args):len(args)], missing[:size-len(args)]...)
		}
		if err := f(statement, args); err != nil {
			return err
		}
	}
	return nil
}

// missing are the parameters of keys that there are not.
var missing = make(tuples, 10*setSize)

// execSet runs a statement for all keys of a set.
func (q querier) execSet(s set, all tuples) error {
	return s.parts(all, func(statement string, args []any) error { return q.exec(statement, args...) })
}

// eachSet calls f for every row of the results.
func (q querier) eachSet(s set, all tuples, f func(*answer) error) error {
	return s.parts(all, func(statement string, args []any) error { return q.each(f, statement, args...) })
}
