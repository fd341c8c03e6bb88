package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/nearest"
)

// readFile reads the YAML layer. The document is walked as nodes, not decoded into maps, because only a node knows its
// line and the text as it was written: the password 0123 is "0123" and not 83.
func (l *loader) readFile(path string) error {
	if path == "" {
		return nil
	}
	l.file = Origin{File, path}
	data, err := disk.ReadFile(path)
	if err != nil {
		return l.whole(err, "name a file that dcs may read with --config or "+fileVariable, "cannot be read")
	}
	root, err := document(data)
	switch {
	case err != nil:
		return l.whole(err, "see config.example.yaml for the form", "is not YAML")
	case root == nil:
		return nil
	case root.Kind != yaml.MappingNode && !isNull(root):
		return l.whole(nil, "begin with a section such as server:", "is %s, where sections such as server: are expected", form(root))
	}
	return l.section("", root)
}

// document returns the root of the only document, or nil when there is none.
func document(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := dec.Decode(&second); err == nil {
		return nil, fmt.Errorf("a second document begins near line %d", second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return target(doc.Content[0]), nil
}

// section reads the keys and sections under path; "" is the root.
func (l *loader) section(path string, n *yaml.Node) error {
	return l.mapping(path, n, func(path, _ string, value *yaml.Node) error {
		if isSection(path) {
			return l.section(path, value)
		}
		for _, k := range keys() {
			if k.name == path {
				l.origins[path] = l.file
				return l.value(path, k.field(l.cfg), value)
			}
		}
		return l.unknown(path, candidates(value))
	})
}

func isSection(path string) bool { return slices.Contains(sections(), path) }

// sections returns every proper prefix of a key: server, server.tls, storage and so on.
func sections() []string {
	var found []string
	for _, name := range Keys() {
		for i, r := range name {
			if r == '.' && !slices.Contains(found, name[:i]) {
				found = append(found, name[:i])
			}
		}
	}
	return found
}

// candidates returns what an unknown name in front of the value could have meant.
func candidates(value *yaml.Node) []string {
	if target(value).Kind == yaml.MappingNode {
		return sections()
	}
	return Keys()
}

// value reads a key, or a field of a list's element.
func (l *loader) value(path string, field any, n *yaml.Node) error {
	switch p := field.(type) {
	case *[]string:
		return l.words(path, n, p)
	case *[]User:
		return list(l, path, n, p, (*User).fields)
	case *[]Rule:
		return list(l, path, n, p, (*Rule).fields)
	default:
		return l.scalar(path, field, n)
	}
}

// words reads a sequence of single values, in place of what the list holds. One with nothing in it is empty.
func (l *loader) words(path string, n *yaml.Node, into *[]string) error {
	*into = nil
	return l.sequence(path, n, func(at string, item *yaml.Node) error {
		var word string
		err := l.scalar(at, &word, item)
		*into = append(*into, word)
		return err
	})
}

// sequence calls visit for every element. A list with nothing in it, as when every element is commented out, is empty.
func (l *loader) sequence(path string, n *yaml.Node, visit func(at string, item *yaml.Node) error) error {
	n = target(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return l.at(path, n, "", problem("begin every element with a dash", "is %s, where a list is expected", form(n)))
	}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		l.lines[at] = item.Line
		if err := visit(at, item); err != nil {
			return err
		}
	}
	return nil
}

// list reads a sequence of mappings.
func list[T any](l *loader, path string, n *yaml.Node, into *[]T, fields func(*T) map[string]any) error {
	return l.sequence(path, n, func(at string, item *yaml.Node) error {
		var element T
		known := fields(&element)
		err := l.mapping(at, item, func(path, name string, value *yaml.Node) error {
			if field, ok := known[name]; ok {
				return l.scalar(path, field, value)
			}
			return l.unknown(path, slices.Sorted(maps.Keys(known)))
		})
		*into = append(*into, element)
		return err
	})
}

// scalar reads a single value. A true or false is no text: who writes "address: false" means something that dcs would
// not do. A number is, since its text is as it was written.
func (l *loader) scalar(path string, field any, n *yaml.Node) error {
	n = target(n)
	switch {
	case n.Kind != yaml.ScalarNode:
		return l.at(path, n, "", problem("write it on the line of the key", "is %s, where a single value is expected", form(n)))
	case isNull(n):
		return l.at(path, n, "", problem(`remove the line to have the default, or write "" for an empty text`, "has no value"))
	case n.ShortTag() == "!!bool" && kind(field) == "string":
		return l.at(path, n, "", problem("put it in quotes if it is meant as text", "is true or false, where text is expected"))
	}
	return l.at(path, n, n.Value, set(field, n.Value))
}

// mapping calls visit for every name under path, and sees to it that no name comes twice.
func (l *loader) mapping(path string, n *yaml.Node, visit func(path, name string, value *yaml.Node) error) error {
	n = target(n)
	if isNull(n) {
		return nil // a section of which every line is commented out
	}
	if n.Kind != yaml.MappingNode {
		return l.at(path, n, "", problem("write its keys on lines of their own, indented", "is %s, where a section is expected", form(n)))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := target(n.Content[i]), n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Value == "" {
			return l.at(path, name, "", problem("see config.example.yaml for the form", "has a key that is no name"))
		}
		if name.ShortTag() == "!!merge" {
			return l.at(path, name, "", problem("write the keys out", "has a merge key, which dcs does not read"))
		}
		child := name.Value
		if path != "" {
			child = path + "." + child
		}
		if first, twice := l.lines[child]; twice {
			return l.at(child, name, "", problem("keep one of them", "is already given on line %d", first))
		}
		l.lines[child] = name.Line
		if err := visit(child, name.Value, value); err != nil {
			return err
		}
	}
	return nil
}

// target follows an alias to what it stands for. Aliases cannot make the walk endless, because the known keys end.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// form names the form of a node to people.
func form(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// unknown is the error for a path that is not among the keys.
func (l *loader) unknown(path string, known []string) error {
	meant, _ := nearest.Name(path, known)
	return &Error{
		Key: path, Origin: l.file, Line: l.lines[path],
		Problem: fmt.Sprintf("is not a known key; did you mean %s?", meant),
		hint:    "correct the line or remove it; config.example.yaml has every key",
	}
}

// at adds the key, the value and the line to an error made by problem. A nil error stays nil.
func (l *loader) at(path string, n *yaml.Node, value string, err error) error {
	e, ok := errors.AsType[*Error](about(err, path, value))
	if !ok {
		return err
	}
	e.Origin, e.Line = l.file, n.Line
	return e
}

// whole is the error for the file as such.
func (l *loader) whole(cause error, hint, format string, args ...any) error {
	e := &Error{Origin: l.file, Problem: fmt.Sprintf(format, args...), Err: cause, hint: hint}
	if cause != nil {
		e.Problem += ": " + reason(cause)
	}
	return e
}

// reason leaves out what the message has already said: the path, and that it is about YAML.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "yaml: ")
}
