package config

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/jc-lab/docker-cache-server/internal/nearest"
)

// fileVariable names the configuration file. It is the caller's affair, and no key.
const fileVariable = envPrefix + "CONFIG"

// Sources are the layers above the defaults. The zero value has none.
type Sources struct {
	File  string         // path of the YAML file; "" reads none
	Env   []string       // NAME=value, as os.Environ returns it; other names than DCS_... are ignored
	Flags *pflag.FlagSet // only flags that were given and are called like a key count; may be nil
}

// Load reads the layers, the strongest last, and validates the result. On an error, which is an *Error, there is no
// configuration.
func Load(src Sources) (*Config, Origins, error) {
	l := &loader{cfg: DefaultConfig(), origins: Origins{}, lines: map[string]int{}}
	for _, k := range keys() {
		l.origins[k.name] = Origin{}
	}
	if err := l.load(src); err != nil {
		return nil, nil, err
	}
	return l.cfg, l.origins, nil
}

// loader gathers one configuration.
type loader struct {
	cfg     *Config
	origins Origins
	file    Origin
	lines   map[string]int // where the file has a path such as "auth.users[1].password"
}

func (l *loader) load(src Sources) error {
	if err := l.readFile(src.File); err != nil {
		return err
	}
	if err := l.readEnv(src.Env); err != nil {
		return err
	}
	if err := l.readFlags(src.Flags); err != nil {
		return err
	}
	return l.placed(l.cfg.Validate())
}

func (l *loader) readEnv(env []string) error {
	given := variables(env)
	for _, k := range keys() {
		value, ok := given[k.env()]
		if !ok {
			continue
		}
		if err := l.set(k, value, Origin{Env, k.env()}); err != nil {
			return hintServiceLink(err, value)
		}
	}
	return nil
}

// hintServiceLink explains a variable that nobody set: Kubernetes gives every pod DCS_SERVER_PORT=tcp://10.0.0.1:5000
// when there is a service called dcs-server.
func hintServiceLink(err error, value string) error {
	if e, ok := errors.AsType[*Error](err); ok && strings.HasPrefix(value, "tcp://") {
		e.hint = "Kubernetes sets it for a service of that name: put enableServiceLinks: false into the pod, or rename the service"
	}
	return err
}

// variables returns the DCS_ part of an environment. Of a name given twice the first counts, as it does for os.Getenv.
func variables(env []string) map[string]string {
	given := map[string]string{}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if _, twice := given[name]; !twice && strings.HasPrefix(name, envPrefix) {
			given[name] = value
		}
	}
	return given
}

func (l *loader) readFlags(fs *pflag.FlagSet) error {
	if fs == nil {
		return nil
	}
	for _, k := range keys() {
		if f := fs.Lookup(k.name); f != nil && f.Changed {
			if err := l.set(k, f.Value.String(), Origin{Flag, k.name}); err != nil {
				return err
			}
		}
	}
	return nil
}

// set gives a key the value that a variable or flag has.
func (l *loader) set(k key, value string, from Origin) error {
	l.origins[k.name] = from
	return l.placed(about(set(k.field(l.cfg), value), k.name, value))
}

// placed adds to an error that knows its key where the value of that key came from.
func (l *loader) placed(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	name, _, _ := strings.Cut(e.Key, "[")
	placed := *e
	placed.Origin = l.origins[name]
	if placed.Origin.Kind == File {
		placed.Line = l.line(e.Key)
	}
	return &placed
}

// line returns where the file has a path, or what the path is part of.
func (l *loader) line(path string) int {
	if line := l.lines[path]; line > 0 || !strings.Contains(path, ".") {
		return line
	}
	return l.line(path[:strings.LastIndex(path, ".")])
}

// UnknownEnv returns the variables that begin with DCS_ and mean nothing to dcs, sorted, each with the variable that
// was perhaps meant. Load ignores them, because container platforms set such names by themselves; a server may warn.
func UnknownEnv(env []string) []string {
	var known, unknown []string
	for _, k := range keys() {
		known = append(known, k.env())
	}
	given := variables(env)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if name == fileVariable || slices.Contains(known, name) {
			continue
		}
		if meant := meantEnv(name, known); meant != "" && !strings.HasPrefix(given[name], "tcp://") {
			name += " (did you mean " + meant + "?)"
		}
		unknown = append(unknown, name)
	}
	return unknown
}

// meantEnv returns the variable that a misspelt one was perhaps meant to be, or "". Who leaves out the section writes
// DCS_TTL for DCS_CACHE_TTL.
func meantEnv(name string, known []string) string {
	for _, k := range known {
		if strings.HasSuffix(k, strings.TrimPrefix(name, strings.TrimSuffix(envPrefix, "_"))) {
			return k
		}
	}
	if meant, edits := nearest.Name(name, known); edits <= 2 {
		return meant
	}
	return ""
}
