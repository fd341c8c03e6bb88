package config

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/jc-lab/docker-cache-server/internal/nearest"
)

// fileVariable names the configuration file. The caller reads it; it is no key.
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
	l := newLoader()
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
	keys    []key // of cfg
	origins Origins
	file    Origin
	lines   map[string]int // where the file has a path such as "auth.users[1].password"
	errs    Errors         // found so far
}

func newLoader() *loader {
	cfg := DefaultConfig()
	l := &loader{cfg: cfg, keys: cfg.keys(), origins: Origins{}, lines: map[string]int{}}
	for _, k := range l.keys {
		l.origins[k.name] = Origin{}
	}
	return l
}

func (l *loader) fail(e *Error) { l.errs = append(l.errs, e) }

// set gives the field at a path the value that a layer has for it. line is 0 outside of the file.
func (l *loader) set(path string, field any, value string, from Origin, line int) {
	e, ok := errors.AsType[*Error](about(set(field, value), path, value))
	if !ok {
		return
	}
	e.Origin, e.Line = from, line
	if kind(field) == "list" {
		e.Value = "" // of auth.users it may be a password
	}
	if from.Kind == Env && strings.HasPrefix(value, "tcp://") {
		// Kubernetes gives every pod DCS_SERVER_PORT=tcp://10.0.0.1:5000 when there is a service called dcs-server.
		e.hint = "Kubernetes sets it for a service of that name: put enableServiceLinks: false into the pod, " +
			"or rename the service"
	}
	l.fail(e)
}

func (l *loader) readEnv(env []string) {
	given := variables(env)
	for _, k := range l.keys {
		if value, ok := given[k.env()]; ok {
			l.origins[k.name] = Origin{Env, k.env()}
			l.set(k.name, k.field, value, l.origins[k.name], 0)
		}
	}
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
	for _, k := range l.keys {
		if f := fs.Lookup(k.name); f != nil && f.Changed {
			l.origins[k.name] = Origin{Flag, k.name}
			l.set(k.name, k.field, f.Value.String(), l.origins[k.name], 0)
		}
	}
}

// validate adds what is wrong with the result. What could not be read has its error already, and gets no second one. In
// the element of a list it may be missing under another name, so nothing in it gets one for being empty.
func (l *loader) validate() {
	read := l.errs
	for _, e := range l.cfg.mistakes() {
		l.locate(e)
		known := func(other *Error) bool {
			return other.Origin == e.Origin &&
				(isIn(other.Key, e.Key) || e.Value == "" && isIn(other.Key, element(e.Key)))
		}
		if !slices.ContainsFunc(read, known) {
			l.fail(e)
		}
	}
}

// locate gives an error the place that the value of its key came from.
func (l *loader) locate(e *Error) {
	name, _, _ := strings.Cut(e.Key, "[")
	e.Origin = l.origins[name]
	if e.Origin.Kind == File {
		e.Line = l.line(e.Key)
	}
}

// isIn says whether a path is a key, or in it.
func isIn(path, key string) bool {
	rest, within := strings.CutPrefix(path, key)
	return within && (rest == "" || strings.ContainsAny(rest[:1], ".["))
}

// element returns the path of the element of a list that a key is in, or the key.
func element(key string) string {
	if end := strings.IndexByte(key, ']'); end >= 0 {
		return key[:end+1]
	}
	return key
}

// line returns the line of a path in the file, or of what the path is part of.
func (l *loader) line(path string) int {
	if line := l.lines[path]; line > 0 || !strings.Contains(path, ".") {
		return line
	}
	return l.line(path[:strings.LastIndex(path, ".")])
}

// UnknownEnv returns the variables that begin with DCS_ and belong to no key, sorted, each with the variable that was
// perhaps meant. Load ignores them, because container platforms set such names by themselves. A server may warn.
func UnknownEnv(env []string) []string {
	var known, offered, unknown []string
	for _, k := range new(Config).keys() {
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

// meantEnv returns the variable that a misspelt one was perhaps meant to be, or "". DCS_TTL, which lacks the section,
// is meant to be DCS_CACHE_TTL.
func meantEnv(name string, known []string) string {
	for _, k := range known {
		if strings.HasSuffix(k, strings.TrimPrefix(name, strings.TrimSuffix(envPrefix, "_"))) {
			return k
		}
	}
	return nearest.Name(name, known)
}
