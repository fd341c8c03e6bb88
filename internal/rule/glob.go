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
	return glob == "" || matchParts(strings.Split(glob, "/"), strings.Split(name, "/"))
}

// matchParts matches the parts between slashes. It goes back to the last ** only, so it costs at most the product of
// the two lengths.
func matchParts(globs, parts []string) bool {
	star, from := -1, 0 // the last **, and where the parts after it begin
	for g, p := 0, 0; ; {
		switch {
		case g < len(globs) && globs[g] == "**":
			star, from = g, p
			g++
		case p == len(parts) && g == len(globs):
			return true
		case p < len(parts) && g < len(globs) && matchPart(globs[g], parts[p]):
			g, p = g+1, p+1
		case star >= 0 && from < len(parts):
			from++
			g, p = star+1, from
		default:
			return false
		}
	}
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
