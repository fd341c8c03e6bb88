// Package nearest finds what somebody probably meant who mistyped a name. It is pure, and small enough to
// need no library.
package nearest

import "strings"

// Name returns the candidate that a mistyped name probably meant, and how many edits away it is; -1 when there
// are no candidates. Leaving out the front of a key (port for server.port), or writing another one, counts as one edit.
func Name(name string, candidates []string) (meant string, edits int) {
	edits = -1
	for _, c := range candidates {
		d := Distance(name, c)
		if tail := lastPart(c); strings.EqualFold(tail, lastPart(name)) && tail != c {
			d = min(d, 1)
		}
		if edits < 0 || d < edits {
			meant, edits = c, d
		}
	}
	return meant, edits
}

// lastPart returns what follows the last dot of a key.
func lastPart(name string) string { return name[strings.LastIndex(name, ".")+1:] }

// Distance is the Levenshtein distance in bytes.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
