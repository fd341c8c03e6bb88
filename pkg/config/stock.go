package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// stockKeys are the keys of a stock registry's configuration that dcs has under another name.
var stockKeys = []struct{ stock, dcs string }{
	{"http.addr", "server.address and server.port"},
	{"http.tls.certificate", "server.tls.certificate"},
	{"http.tls.key", "server.tls.key"},
	{"http.draintimeout", "server.drain_timeout"},
	{"http.debug.addr", "debug.address"},
	{"storage.filesystem.rootdirectory", "storage.directory"},
	{"auth.htpasswd.path", "auth.htpasswd"},
	{"log.level", "log.level"},
	{"log.formatter", "log.format"},
	{"log.accesslog.disabled", "log.access"},
}

// isStock says whether a file is the configuration of a stock registry: it has a section that dcs does not have, or the
// version number of that format.
func isStock(root *yaml.Node) bool {
	for _, path := range []string{"http", "storage.filesystem"} {
		if key, _ := descend(root, path); key != nil {
			return true
		}
	}
	_, version := descend(root, "version")
	return version != nil && version.Value == "0.1"
}

// stockHint says what dcs calls the keys of that file, each with its line.
func stockHint(root *yaml.Node) string {
	var renamed []string
	for _, k := range stockKeys {
		if n, _ := descend(root, k.stock); n != nil {
			renamed = append(renamed, fmt.Sprintf("%s (line %d) is %s", k.stock, n.Line, k.dcs))
		}
	}
	hint := "docs/migrating.md says how to move"
	if len(renamed) > 0 {
		hint += "; in dcs " + strings.Join(renamed, ", ")
	}
	return hint
}

// descend returns the key at a path and its value, or nil.
func descend(n *yaml.Node, path string) (key, value *yaml.Node) {
	name, rest, deeper := strings.Cut(path, ".")
	n = target(n)
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch key := target(n.Content[i]); {
		case key.Value != name:
		case deeper:
			return descend(n.Content[i+1], rest)
		default:
			return key, target(n.Content[i+1])
		}
	}
	return nil, nil
}
