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

// Load reads the layers, the strongest last, and validates the result. On an error, which is an Errors, there is no
// configuration.
func Load(src Sources) (*Config, Origins, error) {
	l := &loader{cfg: DefaultConfig(), origins: Origins{}, lines: map[string]int{}}
	for _, k := range keys() {
		l.origins[k.name] = Origin{}
	}
	l.readFile(src.File)
	l.readEnv(src.Env)
	l.readFlags(src.Flags)
	l.validate()
	if len(l.errs) > 0 {
		return nil, nil, l.errs
	}
	return l.cfg, l.origins, nil
}

// loader gathers one configuration.
type loader struct {
	cfg     *Config
	origins Origins
	file    Origin
	lines   map[string]int // where the file has a path such as "auth.users[1].password"
	errs    Errors         // found so far
}

// fail notes an error made by problem, if it is one.
func (l *loader) fail(err error) { l.errs = append(l.errs, collect(err)...) }

// validate looks at the result. What could not be read has its error already, and is no second one for being empty.
func (l *loader) validate() {
	read := l.errs
	for _, e := range l.cfg.mistakes() {
		placed := l.placed(e)
		told := func(other *Error) bool { return other.Origin == placed.Origin && isIn(other.Key, placed.Key) }
		if !slices.ContainsFunc(read, told) {
			l.errs = append(l.errs, placed)
		}
	}
}

// isIn says whether a path is a key, or in the element of a list that the key is in.
func isIn(path, key string) bool {
	if end := strings.IndexByte(key, ']'); end >= 0 {
		key = key[:end+1]
	}
	rest, within := strings.CutPrefix(path, key)
	return within && (rest == "" || strings.ContainsAny(rest[:1], ".["))
}

func (l *loader) readEnv(env []string) {
	given := variables(env)
	for _, k := range keys() {
		value, ok := given[k.env()]
		if !ok {
			continue
		}
		l.fail(hintServiceLink(l.set(k, value, Origin{Env, k.env()}), value))
	}
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

func (l *loader) readFlags(fs *pflag.FlagSet) {
	if fs == nil {
		return
	}
	for _, k := range keys() {
		if f := fs.Lookup(k.name); f != nil && f.Changed {
			l.fail(l.set(k, f.Value.String(), Origin{Flag, k.name}))
		}
	}
}

// set gives a key the value that a variable or flag has.
func (l *loader) set(k key, value string, from Origin) error {
	l.origins[k.name] = from
	e, ok := errors.AsType[*Error](about(set(k.field(l.cfg), value), k.name, value))
	if !ok {
		return nil
	}
	return l.placed(e)
}

// placed adds to an error that knows its key where the value of that key came from.
func (l *loader) placed(e *Error) *Error {
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
	var known, offered, unknown []string
	for _, k := range keys() {
		known = append(known, k.env())
		if !k.later {
			offered = append(offered, k.env())
		}
	}
	given := variables(env)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if name == fileVariable || slices.Contains(known, name) {
			continue
		}
		if meant := meantEnv(name, offered); meant != "" && !strings.HasPrefix(given[name], "tcp://") {
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
	return nearest.Name(name, known)
}
