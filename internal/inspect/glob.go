package inspect

import (
	"path"
	"strings"
)

// glob is a pattern of repository names, one element for each component. An element ** stands for any
// number of components, none too; the others are patterns of path.Match, which do not cross a slash.
type glob []string

// compileGlob returns an error for a pattern that path.Match does not take.
func compileGlob(pattern string) (glob, error) {
	_, err := path.Match(pattern, "")
	return strings.Split(pattern, "/"), err
}

// match says whether a repository has a name of this pattern.
func (g glob) match(name string) bool { return g.matchParts(strings.Split(name, "/")) }

// matchParts compares component by component. An element ** tries every number of components that is left.
func (g glob) matchParts(parts []string) bool {
	for ; len(g) > 0; g, parts = g[1:], parts[1:] {
		if g[0] == "**" {
			for skip := range len(parts) + 1 {
				if g[1:].matchParts(parts[skip:]) {
					return true
				}
			}
			return false
		}
		if len(parts) == 0 {
			return false
		}
		if ok, err := path.Match(g[0], parts[0]); !ok || err != nil {
			return false
		}
	}
	return len(parts) == 0
}
