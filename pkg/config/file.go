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
func (l *loader) readFile(path string) {
	if path == "" {
		return
	}
	l.file = Origin{File, path}
	data, err := readAll(path)
	if err != nil {
		l.whole(err, "name a file that dcs may read with --config or "+fileVariable, "cannot be read")
		return
	}
	root, err := document(data)
	switch {
	case err != nil:
		l.whole(err, "see config.example.yaml for the form", "is not YAML")
	case root == nil:
	case root.Kind != yaml.MappingNode && !isNull(root):
		l.whole(nil, "begin with a section such as server:", "is %s, where sections such as server: are expected", form(root))
	case isStock(root):
		l.whole(nil, stockHint(root), "is the configuration of a stock registry, whose keys dcs does not have")
	default:
		l.section("", root)
	}
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
func (l *loader) section(path string, n *yaml.Node) {
	l.mapping(path, n, func(path, _ string, value *yaml.Node) {
		if isSection(path) {
			l.section(path, value)
			return
		}
		for _, k := range keys() {
			if k.name == path {
				l.origins[path] = l.file
				l.value(path, k.field(l.cfg), value)
				return
			}
		}
		l.unknown(path, path, candidates(value))
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

// readAll reads a file. Standard input, and what a shell makes of <(command), are pipes that somebody writes to; a pipe
// anywhere else might make a start wait for ever.
func readAll(path string) ([]byte, error) {
	if path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") {
		return os.ReadFile(path)
	}
	return disk.ReadFile(path)
}

// value reads a key, or a field of a list's element.
func (l *loader) value(path string, field any, n *yaml.Node) {
	switch p := field.(type) {
	case *[]string:
		l.words(path, n, p)
	case *[]User:
		list(l, path, n, p, (*User).fields)
	case *[]Rule:
		list(l, path, n, p, (*Rule).fields)
	default:
		l.scalar(path, field, n)
	}
}

// words reads a sequence of single values, in place of what the list holds. One with nothing in it is empty.
func (l *loader) words(path string, n *yaml.Node, into *[]string) {
	*into = nil
	l.sequence(path, n, func(at string, item *yaml.Node) {
		var word string
		l.scalar(at, &word, item)
		*into = append(*into, word)
	})
}

// list reads a sequence of mappings.
func list[T any](l *loader, path string, n *yaml.Node, into *[]T, fields func(*T) map[string]any) {
	l.sequence(path, n, func(at string, item *yaml.Node) {
		var element T
		known := fields(&element)
		l.mapping(at, item, func(path, name string, value *yaml.Node) {
			if field, ok := known[name]; ok {
				l.scalar(path, field, value)
				return
			}
			l.unknown(path, name, slices.Sorted(maps.Keys(known)))
		})
		*into = append(*into, element)
	})
}

// sequence calls visit for every element. A list with nothing in it, as when every element is commented out, is empty.
func (l *loader) sequence(path string, n *yaml.Node, visit func(at string, item *yaml.Node)) {
	n = target(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		l.at(path, n, "", problem("begin every element with a dash", "is %s, where a list is expected", form(n)))
		return
	}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		l.lines[at] = item.Line
		visit(at, item)
	}
}

// scalar reads a single value. A true or false is no text: who writes "address: false" means something that dcs would
// not do. A number is, since its text is as it was written.
func (l *loader) scalar(path string, field any, n *yaml.Node) {
	n = target(n)
	switch {
	case n.Kind != yaml.ScalarNode:
		l.at(path, n, "", problem("write it on the line of the key", "is %s, where a single value is expected", form(n)))
	case isNull(n):
		l.at(path, n, "", problem(`remove the line to have the default, or write "" for an empty text`, "has no value"))
	case n.ShortTag() == "!!bool" && kind(field) == "string":
		l.at(path, n, "", problem("put it in quotes if it is meant as text", "is true or false, where text is expected"))
	default:
		l.at(path, n, n.Value, set(field, n.Value))
	}
}

// mapping calls visit for every name under path, and sees to it that no name comes twice.
func (l *loader) mapping(path string, n *yaml.Node, visit func(path, name string, value *yaml.Node)) {
	n = target(n)
	if isNull(n) {
		return // a section of which every line is commented out
	}
	if n.Kind != yaml.MappingNode {
		l.at(path, n, "", problem("write its keys on lines of their own, indented", "is %s, where a section is expected", form(n)))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := target(n.Content[i]), n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Value == "" {
			l.at(path, name, "", problem("see config.example.yaml for the form", "has a key that is no name"))
			continue
		}
		if name.ShortTag() == "!!merge" {
			l.at(path, name, "", problem("write the keys out", "has a merge key, which dcs does not read"))
			continue
		}
		child := name.Value
		if path != "" {
			child = path + "." + child
		}
		if first, twice := l.lines[child]; twice {
			l.at(child, name, "", problem("keep one of them", "is already given on line %d", first))
			continue
		}
		l.lines[child] = name.Line
		visit(child, name.Value, value)
	}
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

// unknown notes a path that is not among the keys. name is what the known names are held against.
func (l *loader) unknown(path, name string, known []string) {
	e := &Error{
		Key: path, Origin: l.file, Line: l.lines[path], Problem: "is not a known key",
		hint: "correct the line or remove it; config.example.yaml has every key",
	}
	if meant := nearest.Name(name, known); meant != "" {
		e.Problem += "; did you mean " + meant + "?"
	}
	l.fail(e)
}

// at notes an error made by problem, if it is one, with the key, the value and the line.
func (l *loader) at(path string, n *yaml.Node, value string, err error) {
	if e, ok := errors.AsType[*Error](about(err, path, value)); ok {
		e.Origin, e.Line = l.file, n.Line
		l.fail(e)
	}
}

// whole notes what is wrong with the file as such.
func (l *loader) whole(cause error, hint, format string, args ...any) {
	e := &Error{Origin: l.file, Problem: fmt.Sprintf(format, args...), Err: cause, hint: hint}
	if cause != nil {
		e.Problem += ": " + reason(cause)
	}
	l.fail(e)
}

// reason leaves out what the message has already said: the path, and that it is about YAML.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "yaml: ")
}
