package rule

import (
	"errors"
	"path"
	"strings"
)

// Match says whether a glob matches a whole name, as in a shell: * and ? stand for characters but a slash, [a-z] for
// one of a set. A part of the name that is ** stands for any number of parts, none included. An empty glob matches
// every name, one that Check refuses none.
func Match(glob, name string) bool {
	if glob == "" || glob == "**" {
		return true
	}
	// It goes back to the last ** only, so it costs at most the product of the two lengths.
	var star, from parts // what follows the last **, and the name from where that begins
	var back bool
	for g, n := (parts{glob, true}), (parts{name, true}); ; {
		pattern, afterPattern := g.next()
		part, afterPart := n.next()
		switch {
		case g.left && pattern == "**":
			back, star, from = true, afterPattern, n
			g = afterPattern
		case !g.left && !n.left:
			return true
		case g.left && n.left && matchPart(pattern, part):
			g, n = afterPattern, afterPart
		case back && from.left:
			_, from = from.next()
			g, n = star, from
		default:
			return false
		}
	}
}

// parts are what is left of a text, of which slashes separate the parts.
type parts struct {
	text string
	left bool // false: no part is
}

func (p parts) next() (part string, after parts) {
	part, text, left := strings.Cut(p.text, "/")
	return part, parts{text, left}
}

func matchPart(glob, part string) bool {
	ok, err := path.Match(glob, part)
	return err == nil && ok
}

// Check says what is wrong with a glob. The error continues the sentence that the glob begins.
func Check(glob string) error {
	for part := range strings.SplitSeq(glob, "/") {
		if _, err := path.Match(part, ""); err != nil {
			return errors.New("is not a glob: a bracket or a backslash has no end")
		}
		if part != "**" && strings.Contains(part, "**") {
			return errors.New("has ** beside other characters: between two slashes it stands alone")
		}
	}
	return nil
}
