package users

import "strings"

// A table is an htpasswd file, line by line. Its text is exactly what was parsed.
type table []line

// A line without a name is a comment, blank, or malformed.
type line struct {
	raw       string // as in the file, with its line ending
	name      string
	hash      string
	malformed bool
}

// parse never fails. It keeps a line that it does not understand as it is.
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

// hashes returns the hash of each name. The last line of a name counts, as in distribution: a file that a stock
// registry served must not change its meaning here, though Apache takes the first line.
func (t table) hashes() map[string]string {
	hashes := make(map[string]string, len(t))
	for _, l := range t {
		if l.name != "" {
			hashes[l.name] = l.hash
		}
	}
	return hashes
}

// set gives name this hash, in place of its first line, or at the end. It removes the other lines of that name, so that
// readers which treat duplicates differently see the same hash.
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

// ending returns how lines of this file end, which is how the first one does.
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
