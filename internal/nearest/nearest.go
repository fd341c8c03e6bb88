// Package nearest finds what somebody probably meant who mistyped a name. It is pure, and small enough to
// need no library.
package nearest

import "strings"

// Name returns the candidate that a mistyped name probably meant, or "" when none is near enough to be a good guess.
// A key whose last part is the name (port for server.port), or has another front, is the nearest; then the one that
// is the fewest edits away, as long as these are few for the length of the name and of its last part. Of two that
// are as near the first is meant. When none is near, it is the only candidate that begins with the name.
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

// beginning returns the candidates that begin with a name, of which a single letter is none.
func beginning(name string, candidates []string) (begin []string) {
	for _, c := range candidates {
		if len(name) > 1 && strings.HasPrefix(c, name) {
			begin = append(begin, c)
		}
	}
	return begin
}

// distance says how far a name is from a candidate, and whether the one may be meant by the other.
func distance(name, candidate string) (d int, ok bool) {
	tail, last := lastPart(candidate), lastPart(name)
	if strings.EqualFold(tail, last) && tail != candidate {
		return 0, true
	}
	d = Distance(name, candidate)
	return d, len(name) > 1 && d <= most(name) && Distance(last, tail) <= most(last)
}

// most is how many edits make another word of a name.
func most(name string) int { return min(3, (len(name)+1)/3) }

// lastPart returns what follows the last dot of a key.
func lastPart(name string) string { return name[strings.LastIndex(name, ".")+1:] }

// Distance is how many edits make one name of another: a byte more, less or changed, or two neighbours swapped.
func Distance(a, b string) int {
	var before []int // the row before the last
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
