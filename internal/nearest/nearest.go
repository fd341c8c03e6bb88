// Package nearest finds the name that was probably meant by a mistyped one: of a command, a flag, a key of the
// configuration, an image. It is pure: no I/O, no state.
package nearest

import "strings"

// Name returns the candidate that a mistyped name probably meant, or "" if none is near enough for a good guess.
//
// The nearest is a key with the same last part: server.port for port, and for cache.port. Then comes the candidate that
// is the fewest edits away, if these are few for the length of the name and for the length of its last part. Of two
// equally near candidates the first is returned. If none is near, the only candidate that begins with the name is
// returned.
func Name(name string, candidates []string) (meant string) {
	best := -1
	for _, c := range candidates {
		d, ok := distance(name, c)
		if ok && (best < 0 || d < best) {
			meant, best = c, d
		}
	}
	if begin := beginning(name, candidates); meant == "" && len(begin) == 1 {
		return begin[0]
	}
	return meant
}

// beginning returns the candidates that begin with a name of two letters or more.
func beginning(name string, candidates []string) (begin []string) {
	for _, c := range candidates {
		if len(name) > 1 && strings.HasPrefix(c, name) {
			begin = append(begin, c)
		}
	}
	return begin
}

// distance returns how far a name is from a candidate, and whether that is near enough.
func distance(name, candidate string) (d int, ok bool) {
	tail, last := lastPart(candidate), lastPart(name)
	if strings.EqualFold(tail, last) && tail != candidate {
		return 0, true
	}
	d = Distance(name, candidate)
	return d, len(name) > 1 && d <= most(name) && Distance(last, tail) <= most(last)
}

// most is the largest number of edits after which a name is still taken for the same word.
func most(name string) int { return min(3, (len(name)+1)/3) }

// lastPart returns what follows the last dot of a key.
func lastPart(name string) string { return name[strings.LastIndex(name, ".")+1:] }

// Distance counts the edits between two names. An edit inserts, removes or changes a byte, or swaps two neighbours
// (the optimal string alignment distance).
func Distance(a, b string) int {
	var before []int // the row above last
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			substitute := last[j]
			if a[i] != b[j] {
				substitute++
			}
			row[j+1] = min(substitute, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
