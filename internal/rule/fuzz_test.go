package rule

import (
	"strings"
	"testing"
)

// matches is Match as it is defined: ** stands for no part, or for one and ** once more.
func matches(globs, parts []string) bool {
	switch {
	case len(globs) == 0:
		return len(parts) == 0
	case globs[0] == "**":
		return matches(globs[1:], parts) || len(parts) > 0 && matches(globs, parts[1:])
	}
	return len(parts) > 0 && matchPart(globs[0], parts[0]) && matches(globs[1:], parts[1:])
}

// Match returns what its definition says, and a glob that covers another one matches all that it matches.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][3]string{{"", "a/b", "a"}, {"base/**", "base/go", "base/go"}, {"**/a/**/b", "a/x/a/b", "**"},
		{"[a-c]?", "bx", "[a-c]?"}, {"a**", `\`, "["}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, glob, name, other string) {
		if strings.Count(glob, "**") > 6 || len(name) > 200 {
			return // its definition takes too long
		}
		got := Match(glob, name)
		if want := glob == "" || matches(strings.Split(glob, "/"), strings.Split(name, "/")); got != want {
			t.Errorf("Match(%q, %q) = %v", glob, name, got)
		}
		if covers(glob, other) && Check(other) == nil && Match(other, name) && !got {
			t.Errorf("%q covers %q, and does not match %q", glob, other, name)
		}
	})
}
