package users

import (
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// A table is an htpasswd file, line by line. Its text is exactly what was parsed.
type table []line

// A line without a name is a comment, blank, or malformed.
type line struct {
	raw       string // as it stands in the file, with its line ending
	name      string
	hash      string
	malformed bool
}

// parse never fails: a line that it does not understand is kept, and harms only itself.
func parse(text string) table {
	var t table
	for raw := range strings.Lines(text) {
		t = append(t, parseLine(raw))
	}
	return t
}

// parseLine reads a line as distribution does: spaces around it do not count, the first colon ends the name.
func parseLine(raw string) line {
	trimmed := strings.TrimSpace(raw)
	if trimmed == "" || trimmed[0] == '#' {
		return line{raw: raw}
	}
	name, hash, found := strings.Cut(trimmed, ":")
	if !found || name == "" {
		return line{raw: raw, malformed: true}
	}
	return line{raw: raw, name: name, hash: hash}
}

func newLine(name, hash, ending string) line {
	return line{raw: name + ":" + hash + ending, name: name, hash: hash}
}

func (t table) text() string {
	var b strings.Builder
	for _, l := range t {
		b.WriteString(l.raw)
	}
	return b.String()
}

// names returns every user once, in the order of the file.
func (t table) names() []string {
	var names []string
	seen := map[string]bool{}
	for _, l := range t {
		if l.name != "" && !seen[l.name] {
			seen[l.name] = true
			names = append(names, l.name)
		}
	}
	return names
}

// hashes returns what counts for each name: its last line, as in distribution. (Apache takes the first; a
// file that was served by a stock registry must not change its meaning here.)
func (t table) hashes() map[string]string {
	hashes := make(map[string]string, len(t))
	for _, l := range t {
		if l.name != "" {
			hashes[l.name] = l.hash
		}
	}
	return hashes
}

// set gives name this hash: in place of its first line, or at the end. Its other lines go, so that no reader's
// way with duplicates matters.
func (t table) set(name, hash string) (out table, replaced bool) {
	for _, l := range t {
		switch {
		case !l.is(name):
			out = append(out, l)
		case !replaced:
			out = append(out, newLine(name, hash, l.ending()))
			replaced = true
		}
	}
	if replaced {
		return out, true
	}
	return out.add(name, hash), false
}

func (t table) add(name, hash string) table {
	ending := t.ending()
	if last := len(t) - 1; last >= 0 && t[last].ending() == "" {
		t[last].raw += ending
	}
	return append(t, newLine(name, hash, ending))
}

// remove drops every line of name.
func (t table) remove(name string) (out table, found bool) {
	for _, l := range t {
		if l.is(name) {
			found = true
			continue
		}
		out = append(out, l)
	}
	return out, found
}

// ending returns how lines of this file end: as the first does.
func (t table) ending() string {
	if len(t) > 0 && t[0].ending() == "\r\n" {
		return "\r\n"
	}
	return "\n"
}

func (l line) ending() string {
	for _, ending := range []string{"\r\n", "\n"} {
		if strings.HasSuffix(l.raw, ending) {
			return ending
		}
	}
	return ""
}

func (l line) is(name string) bool { return name != "" && l.name == name }

// bcryptHash matches what begins with a whole bcrypt hash. What follows is ignored by distribution and, after
// a colon, by Apache.
var bcryptHash = regexp.MustCompile(`^\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}`)

func isBcrypt(hash string) bool { return bcryptHash.MatchString(hash) }

// costOf returns the cost of a hash for which isBcrypt holds.
func costOf(hash string) int {
	cost, err := strconv.Atoi(hash[4:6])
	if err != nil {
		return bcrypt.DefaultCost
	}
	return cost
}
