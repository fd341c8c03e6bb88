package config

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/jc-lab/docker-cache-server/internal/nearest"
)

// dcs reads the file from its nodes, and does not decode them into structs: only a node has its line and the text as it
// was written. The password 0123 is "0123" and not 83. The walk ends where the known keys end, so an alias that
// contains itself cannot make it endless.

// A section of the file has members: values, lists and other sections.
type section struct{ members []member }

// A member of a section is found by its whole path, since the file may spell a part of it with dots.
type member struct {
	path  string
	into  any  // what the node is read into: a pointer to a field, or a *section
	later bool // dcs does not have it yet
}

// sectionOf returns the section of all keys, which is also the one of each section in it, since paths are whole.
func sectionOf(keys []key) *section {
	s := &section{}
	for _, k := range keys {
		for i, r := range k.name {
			if path := k.name[:i]; r == '.' && s.find(path) == nil {
				s.members = append(s.members, member{path, s, false})
			}
		}
		s.members = append(s.members, member{k.name, k.field, k.later})
	}
	return s
}

// find returns what the member at a path is read into, or nil.
func (s *section) find(path string) any {
	for _, m := range s.members {
		if m.path == path {
			return m.into
		}
	}
	return nil
}

// read reads the node at a path into a section, a list or a single value.
func (l *loader) read(path string, n *yaml.Node, into any) {
	n = target(n)
	if _, isKey := l.origins[path]; isKey {
		l.origins[path] = l.file
	}
	switch s, isSection := into.(*section); {
	case isSection:
		l.readSection(path, n, s)
	case kind(into) == "list":
		l.readList(path, n, into)
	default:
		l.readValue(path, n, into)
	}
}

func (l *loader) readSection(path string, n *yaml.Node, s *section) {
	if !l.hasForm(path, n, yaml.MappingNode) {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := target(n.Content[i]), n.Content[i+1]
		child, ok := l.child(path, name)
		if !ok {
			continue
		}
		if into := s.find(child); into != nil {
			l.read(child, value, into)
		} else {
			l.mistake(child, name, "correct the line or remove it; config.example.yaml has every key",
				"is not a known key%s", s.didYouMean(child, target(value)))
		}
	}
}

// child returns the path of a name in the section at a path. False: the name is refused.
func (l *loader) child(path string, name *yaml.Node) (child string, ok bool) {
	child = strings.TrimPrefix(path+"."+name.Value, ".")
	first, twice := l.lines[child]
	switch {
	case name.Kind != yaml.ScalarNode || name.Value == "":
		l.mistake(path, name, "see config.example.yaml for the form", "has a key that is no name")
	case name.ShortTag() == "!!merge":
		l.mistake(path, name, "write the keys out", "has a merge key, which dcs does not read")
	case twice:
		l.mistake(child, name, "keep one of them", "is already given on line %d", first)
	default:
		l.lines[child] = name.Line
		return child, true
	}
	return "", false
}

// didYouMean asks for the member that an unknown path was probably meant to be: a section where the value is one.
func (s *section) didYouMean(path string, value *yaml.Node) string {
	var candidates []string
	for _, m := range s.members {
		if _, isSection := m.into.(*section); isSection == (value.Kind == yaml.MappingNode) && !m.later {
			candidates = append(candidates, inElement(m.path))
		}
	}
	if meant := nearest.Name(inElement(path), candidates); meant != "" {
		return "; did you mean " + meant + "?"
	}
	return ""
}

// inElement returns the part of a path that follows the element of a list, or the whole path.
func inElement(path string) string {
	_, name, ok := strings.Cut(path, "].")
	if !ok {
		return path
	}
	return name
}

// readList replaces a list. One with nothing in it, as when every element is commented out, is empty.
func (l *loader) readList(path string, n *yaml.Node, list any) {
	reflect.ValueOf(list).Elem().SetZero()
	if !l.hasForm(path, n, yaml.SequenceNode) {
		return
	}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		l.lines[at] = item.Line
		l.read(at, item, addElement(list, at))
	}
}

// addElement adds an element to a list, and returns what the node at its path is read into.
func addElement(list any, path string) any {
	switch p := list.(type) {
	case *[]string:
		*p = append(*p, "")
		return &(*p)[len(*p)-1]
	case *[]User:
		*p = append(*p, User{})
		return elementOf((*p)[len(*p)-1].keys(), path)
	case *[]Rule:
		*p = append(*p, Rule{})
		return elementOf((*p)[len(*p)-1].keys(), path)
	}
	panic(fmt.Sprintf("config: no element for %T", list))
}

// elementOf returns the section of the keys of an element, which is at a path.
func elementOf(keys []key, path string) *section {
	s := &section{}
	for _, k := range keys {
		s.members = append(s.members, member{path + "." + k.name, k.field, k.later})
	}
	return s
}

// readValue reads a single value. A true or false is no text: "address: false" means something that dcs would not do. A
// number is one, since its text is as it was written.
func (l *loader) readValue(path string, n *yaml.Node, field any) {
	switch {
	case isNull(n):
		l.mistake(path, n, `remove the line to have the default, or write "" for an empty text`, "has no value")
	case !l.hasForm(path, n, yaml.ScalarNode):
	case n.ShortTag() == "!!bool" && kind(field) == "string":
		l.mistake(path, n, "put it in quotes if it is meant as text", "is true or false, where text is expected")
	default:
		l.set(path, field, n.Value, l.file, n.Line)
	}
}

var forms = map[yaml.Kind]struct{ name, hint string }{
	yaml.MappingNode:  {"a section", "write its keys on lines of their own, indented"},
	yaml.SequenceNode: {"a list", "begin every element with a dash"},
	yaml.ScalarNode:   {"a single value", "write it on the line of the key"},
}

// hasForm says whether a node has this form. One that is empty has not, but is no mistake: in a section or list every
// line may be commented out.
func (l *loader) hasForm(path string, n *yaml.Node, form yaml.Kind) bool {
	if n.Kind != form && !isNull(n) {
		l.mistake(path, n, forms[form].hint, "is %s, where %s is expected", forms[n.Kind].name, forms[form].name)
	}
	return n.Kind == form
}

// mistake notes what is wrong at a path of the file.
func (l *loader) mistake(path string, n *yaml.Node, hint, format string, args ...any) {
	l.fail(&Error{Key: path, Origin: l.file, Line: n.Line, Problem: fmt.Sprintf(format, args...), hint: hint})
}

// target follows an alias to the node that it stands for.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
