package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/jc-lab/docker-cache-server/internal/disk"
)

// readFile reads the layer of the file.
func (l *loader) readFile(path string) {
	if path == "" {
		return
	}
	l.file = Origin{File, path}
	data, err := readAll(path)
	if err != nil {
		l.wholeFile(err, "name a file that dcs may read, by --config, "+fileVariable+" or dcs config check",
			"cannot be read")
		return
	}
	root, err := document(data)
	switch {
	case err != nil:
		l.notYAML(err, data)
	case root == nil || isNull(root):
	case root.Kind != yaml.MappingNode:
		l.wholeFile(nil, "begin with a section such as server:", "is %s, where sections such as server: are expected",
			forms[root.Kind].name)
	case isStock(root):
		l.wholeFile(nil, stockHint(root), "is the configuration of a stock registry, whose keys dcs does not have")
	default:
		l.read("", root, sectionOf(l.keys))
	}
}

// readAll reads a file. Standard input, and what a shell makes of <(command), are pipes with a writer. Any other pipe
// is refused, since dcs might wait forever for a writer.
func readAll(path string) ([]byte, error) {
	if path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") {
		return os.ReadFile(path)
	}
	return disk.ReadFile(path)
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

// wholeFile notes what is wrong with the file as such.
func (l *loader) wholeFile(cause error, hint, format string, args ...any) {
	e := &Error{Origin: l.file, Problem: fmt.Sprintf(format, args...), Err: cause, hint: hint}
	if cause != nil {
		e.Problem += ": " + reason(cause)
	}
	l.fail(e)
}

// bareGlob is a glob without quotes whose first character means something in YAML.
var bareGlob = regexp.MustCompile(`\b(repository|tag): *[*[]`)

// notYAML notes that the file is none. A glob is the likely cause where one begins with an asterisk or a bracket.
func (l *loader) notYAML(err error, data []byte) {
	hint := "see config.example.yaml for the form"
	if at := bareGlob.FindIndex(data); at != nil {
		line := bytes.Count(data[:at[0]], []byte("\n")) + 1
		hint = fmt.Sprintf("put a glob that begins with * or [ in quotes, as on line %d", line)
	}
	l.wholeFile(err, hint, "is not YAML")
}

// reason leaves out what the message says already: the path, and that it is about YAML.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "yaml: ")
}
