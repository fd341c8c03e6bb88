package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// envPrefix begins the name of every environment variable of dcs.
const envPrefix = "DCS_"

// key is one thing that can be configured. The table of keys drives the file, the environment, the flags and Text.
type key struct {
	name  string
	field func(*Config) any // points at the value: *string, *bool, *int, *int64 (a size), *time.Duration, or a list
	usage string
	later bool // of a version to come: nobody is told of it, and whoever sets it is told that it is not there yet
}

// keys returns every key, in the order of the documentation.
func keys() []key {
	return []key{
		{"server.address", func(c *Config) any { return &c.Server.Address }, "`address` to listen on", false},
		{"server.port", func(c *Config) any { return &c.Server.Port }, "`port` to listen on, 0 = any free one", false},
		{"server.tls.certificate", func(c *Config) any { return &c.Server.TLS.Certificate }, "PEM `file` of the certificate chain; reloaded when it changes", false},
		{"server.tls.key", func(c *Config) any { return &c.Server.TLS.Key }, "PEM `file` of the private key; reloaded when it changes", false},
		{"server.trusted_proxies", func(c *Config) any { return &c.Server.TrustedProxies }, "networks of proxies that may name the client", false},
		{"server.drain_timeout", func(c *Config) any { return &c.Server.DrainTimeout }, "how long transfers in flight may go on after SIGTERM", false},
		{"storage.directory", func(c *Config) any { return &c.Storage.Directory }, "`directory` of the data root", false},
		{"auth.enabled", func(c *Config) any { return &c.Auth.Enabled }, "ask for Basic authentication", false},
		{"auth.users", func(c *Config) any { return &c.Auth.Users }, "users beside those of the htpasswd file", false},
		{"auth.htpasswd", func(c *Config) any { return &c.Auth.Htpasswd }, "`file` that dcs users edits (default <storage.directory>/.metadata/htpasswd)", false},
		{"auth.anonymous_pull", func(c *Config) any { return &c.Auth.AnonymousPull }, "reads need no login", true},
		{"cache.ttl", func(c *Config) any { return &c.Cache.TTL }, "an image is removed when nobody used it for so long, 0 = never", false},
		{"cache.cleanup_interval", func(c *Config) any { return &c.Cache.CleanupInterval }, "time between two runs of the built-in cleaner, 0 = off", false},
		{"cache.grace", func(c *Config) any { return &c.Cache.Grace }, "how long content stays after a client pushed it or asked for it; set it longer than the slowest push", false},
		{"cache.adopt_age", func(c *Config) any { return &c.Cache.AdoptAge }, "last use of images that dcs did not know, mtime is the date of their files: `now|mtime`", false},
		{"cache.max_size", func(c *Config) any { return &c.Cache.MaxSize }, "disk budget, 0 = none", true},
		{"cache.rules", func(c *Config) any { return &c.Cache.Rules }, "exceptions to the ttl", true},
		{"limits.manifest_size", func(c *Config) any { return &c.Limits.ManifestSize }, "largest manifest that is taken", false},
		{"limits.uploads_per_client", func(c *Config) any { return &c.Limits.UploadsPerClient }, "`number` of unfinished uploads that one client may have, 0 = no limit", false},
		{"limits.header_size", func(c *Config) any { return &c.Limits.HeaderSize }, "largest header of a request", false},
		{"limits.header_timeout", func(c *Config) any { return &c.Limits.HeaderTimeout }, "how long a client may take to send a header", false},
		{"limits.stall_timeout", func(c *Config) any { return &c.Limits.StallTimeout }, "how long a client may neither send nor take a byte of a body, 0 = no limit", false},
		{"debug.address", func(c *Config) any { return &c.Debug.Address }, "`host:port` of metrics and health, empty = off", false},
		{"log.level", func(c *Config) any { return &c.Log.Level }, "lowest `level` to log: trace, debug, info, warn, error", false},
		{"log.format", func(c *Config) any { return &c.Log.Format }, "form of the log: `text|json`", false},
		{"log.access", func(c *Config) any { return &c.Log.Access }, "write a line for every request", false},
	}
}

// fields returns what the elements of auth.users are made of.
func (u *User) fields() map[string]any {
	return map[string]any{"username": &u.Username, "password": &u.Password}
}

// fields returns what the elements of cache.rules are made of.
func (r *Rule) fields() map[string]any {
	return map[string]any{"repository": &r.Repository, "tag": &r.Tag, "ttl": &r.TTL, "keep": &r.Keep}
}

// env is the key's third spelling. Keys contain underscores, so the way back is a comparison, never a split.
func (k key) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// isList tells whether only the file can give the key.
func (k key) isList() bool {
	return kind(k.field(&Config{})) == "list"
}

// kind names the type of a field, as the usage of a flag prints it.
func kind(field any) string {
	switch field.(type) {
	case *string:
		return "string"
	case *bool:
		return "bool"
	case *int:
		return "int"
	case *int64:
		return "size"
	case *time.Duration:
		return "duration"
	default:
		return "list"
	}
}

// set gives a field the value that text stands for, or leaves it alone and says what is wrong with the text.
func set(field any, text string) error {
	kind := kind(field)
	if kind == "list" {
		return problem("give it in the configuration file", "is a list, which flags and variables cannot give")
	}
	if text == "" && kind != "string" {
		return problem("remove it to have the default", "is empty, where a value is needed")
	}
	switch p := field.(type) {
	case *string:
		*p = text
	case *bool:
		return assign(p, text, parseBool)
	case *int:
		return assign(p, text, parseInt)
	case *int64:
		return assign(p, text, parseSize)
	case *time.Duration:
		return assign(p, text, parseDuration)
	}
	return nil
}

func assign[T any](p *T, text string, parse func(string) (T, error)) error {
	v, err := parse(text)
	if err == nil {
		*p = v
	}
	return err
}

func parseBool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, problem("write true or false", "is neither true nor false")
	}
	return b, nil
}

func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, problem("write decimal digits", "is not a whole number")
	}
	return n, nil
}

// text is the reverse of set. Of a list it tells the names only, so passwords stay in.
func text(field any) string {
	switch p := field.(type) {
	case *string:
		return *p
	case *time.Duration:
		return FormatDuration(*p)
	case *[]string:
		return strings.Join(*p, ", ")
	case *[]User:
		return join(*p, func(u User) string { return u.Username })
	case *[]Rule:
		return join(*p, func(r Rule) string { return r.Repository })
	case *bool:
		return strconv.FormatBool(*p)
	case *int:
		return strconv.Itoa(*p)
	case *int64:
		return FormatSize(*p)
	}
	panic(fmt.Sprintf("config: no text for %T", field))
}

func join[T any](list []T, name func(T) string) string {
	names := make([]string, len(list))
	for i, v := range list {
		names[i] = name(v)
	}
	return strings.Join(names, ", ")
}

// Keys returns the name of every key that can be set, in the order of the documentation.
func Keys() []string {
	var names []string
	for _, k := range keys() {
		if !k.later {
			names = append(names, k.name)
		}
	}
	return names
}

// Differs returns the keys whose value is another one than in other, in the order of the documentation.
func (c *Config) Differs(other *Config) []string {
	var names []string
	for _, k := range keys() {
		if !reflect.DeepEqual(k.field(c), k.field(other)) {
			names = append(names, k.name)
		}
	}
	return names
}

// Take gives the named keys the values that they have in other. Lists are shared with it.
func (c *Config) Take(other *Config, names ...string) {
	for _, k := range keys() {
		if slices.Contains(names, k.name) {
			reflect.ValueOf(k.field(c)).Elem().Set(reflect.ValueOf(k.field(other)).Elem())
		}
	}
}

// Text returns the value of a key as a file or a flag would spell it, or "" for a key that is unknown. Of a list it
// returns the names of the elements, so it never holds a secret.
func (c *Config) Text(name string) string {
	for _, k := range keys() {
		if k.name == name {
			return text(k.field(c))
		}
	}
	return ""
}
