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

// key is one setting. The table of keys drives the file, the environment, the flags and Text.
type key struct {
	name  string
	field any // points at the value: *string, *bool, *int, *int64, *Size, *time.Duration, a pointer to one, or a list
	usage string
	later bool // dcs does not have it yet: help and hints leave it out, and Validate refuses all but the default
}

// keys returns every key with its field in c, in the order of the documentation.
func (c *Config) keys() []key {
	return []key{
		{"server.address", &c.Server.Address, "`address` to listen on", false},
		{"server.port", &c.Server.Port, "`port` to listen on, 0 = any free one", false},
		{"server.tls.certificate", &c.Server.TLS.Certificate,
			"PEM `file` of the certificate chain; reloaded when it changes", false},
		{"server.tls.key", &c.Server.TLS.Key, "PEM `file` of the private key; reloaded when it changes", false},
		{"server.trusted_proxies", &c.Server.TrustedProxies, "networks of proxies that may name the client", false},
		{"server.drain_timeout", &c.Server.DrainTimeout,
			"how long running transfers may continue after SIGTERM", false},
		{"storage.directory", &c.Storage.Directory, "the data `directory`", false},
		{"auth.enabled", &c.Auth.Enabled, "ask for Basic authentication", false},
		{"auth.users", &c.Auth.Users, "users beside those of the htpasswd file", false},
		{"auth.htpasswd", &c.Auth.Htpasswd,
			"`file` that dcs users edits (default <storage.directory>/.metadata/htpasswd)", false},
		{"auth.anonymous_pull", &c.Auth.AnonymousPull, "reads need no login", true},
		{"cache.ttl", &c.Cache.TTL, "remove images unused for this long, 0 = never", false},
		{"cache.cleanup_interval", &c.Cache.CleanupInterval,
			"time between two runs of the built-in cleaner, 0 = off", false},
		{"cache.grace", &c.Cache.Grace,
			"how long content stays after a client pushed it or asked for it; " +
				"set it longer than the slowest push", false},
		{"cache.adopt_age", &c.Cache.AdoptAge,
			"last use of images that dcs finds on disk, mtime is the date of their files: `now|mtime`", false},
		{"cache.what_if_memory", &c.Cache.WhatIfMemory,
			"memory of the sample for dcs inspect --what-if, 0 = off", false},
		{"cache.gone_for", &c.Cache.GoneFor,
			"remember removed images, clean-ups and pulls for this long, 0 = not at all", false},
		{"cache.max_size", &c.Cache.MaxSize,
			"disk budget, a size or 80% of the file system: above it images unused for longest go, 0 = none", false},
		{"cache.min_free", &c.Cache.MinFree,
			"a size, or a share of the file system, that stays free; auto = 5%, or 0 where cache.ttl is 0", false},
		{"cache.rules", &c.Cache.Rules, "which images stay for how long, in place of the ttl", false},
		{"limits.manifest_size", &c.Limits.ManifestSize, "largest manifest that a client may push", false},
		{"limits.uploads_per_client", &c.Limits.UploadsPerClient,
			"`number` of unfinished uploads that one client may have, 0 = no limit", false},
		{"limits.header_size", &c.Limits.HeaderSize, "largest header of a request", false},
		{"limits.header_timeout", &c.Limits.HeaderTimeout, "how long a client may take to send a header", false},
		{"limits.stall_timeout", &c.Limits.StallTimeout,
			"how long a client may neither send nor take a byte of a body, 0 = no limit", false},
		{"debug.address", &c.Debug.Address, "`host:port` of metrics and health, empty = off", false},
		{"log.level", &c.Log.Level, "lowest `level` to log: trace, debug, info, warn, error", false},
		{"log.format", &c.Log.Format, "form of the log: `text|json`", false},
		{"log.access", &c.Log.Access, "write a line for every request", false},
	}
}

// keys returns the keys of a user, each with its field in u.
func (u *User) keys() []key {
	return []key{
		{"username", &u.Username, "name to log in with", false},
		{"password", &u.Password, "the password, or a bcrypt hash in single quotes", false},
	}
}

// keys returns the keys of a rule, each with its field in r.
func (r *Rule) keys() []key {
	return []key{
		{"repository", &r.Repository, "glob that the repository must match; default: every repository", false},
		{"tag", &r.Tag, "glob that the tag must match; default: every tag, and no tag", false},
		{"keep", &r.Keep, "what matches stays; false takes it out of a later rule that keeps it", false},
		{"ttl", &r.TTL, "remove what matches if it is unused for this long, 0 = never", false},
		{"untagged_ttl", &r.UntaggedTTL, "the ttl of what matches and has no tag, 0 = never; not beside tag", false},
		{"keep_last", &r.KeepLast, "this many tags of each repository stay, those that were used last", false},
		{"max_size", &r.MaxSize, "share of the disk budget", true},
	}
}

// env is the key's third spelling. Keys contain underscores, so the way back is a comparison, never a split.
func (k key) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// isList says whether only the file can give the key.
func (k key) isList() bool { return kind(k.field) == "list" }

// kind names the type of a field, as the usage of a flag prints it.
func kind(field any) string {
	switch field.(type) {
	case *string:
		return "string"
	case *bool, **bool:
		return "bool"
	case *int, **int:
		return "int"
	case *int64, **int64, *Size, **Size:
		return "size"
	case *time.Duration, **time.Duration:
		return "duration"
	default:
		return "list"
	}
}

// set gives a field the value that a text stands for. On an error, which problem made, the field keeps its value.
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
	case *Size:
		return assign(p, text, parseShare)
	case **Size:
		if text == auto {
			*p = nil
			return nil
		}
		return assignNew(p, text, parseShare)
	case *time.Duration:
		return assign(p, text, parseDuration)
	case **bool:
		return assignNew(p, text, parseBool)
	case **int:
		return assignNew(p, text, parseInt)
	case **int64:
		return assignNew(p, text, parseSize)
	case **time.Duration:
		return assignNew(p, text, parseDuration)
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

// assignNew is assign for a value that may be unset, which nil stands for.
func assignNew[T any](p **T, text string, parse func(string) (T, error)) error {
	v := new(T)
	err := assign(v, text, parse)
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

// text is the reverse of set. Of users it returns the names only, so it never holds a password.
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
		return join(*p, Rule.String)
	case *bool:
		return strconv.FormatBool(*p)
	case *int:
		return strconv.Itoa(*p)
	case *int64:
		return FormatSize(*p)
	case *Size:
		return p.String()
	case **Size:
		if *p == nil {
			return auto
		}
		return text(*p)
	case **bool:
		return text(*p)
	case **int:
		return text(*p)
	case **int64:
		return text(*p)
	case **time.Duration:
		return text(*p)
	}
	panic(fmt.Sprintf("config: no text for %T", field))
}

func join[T any](list []T, text func(T) string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = text(v)
	}
	return strings.Join(texts, ", ")
}

// Keys returns the name of every key that can be set, in the order of the documentation.
func Keys() []string {
	var names []string
	for _, k := range new(Config).keys() {
		if !k.later {
			names = append(names, k.name)
		}
	}
	return names
}

// Differs returns the keys whose values in c and in other differ, in the order of the documentation.
func (c *Config) Differs(other *Config) []string {
	var names []string
	theirs := other.keys()
	for i, k := range c.keys() {
		if !reflect.DeepEqual(k.field, theirs[i].field) {
			names = append(names, k.name)
		}
	}
	return names
}

// Take gives the named keys the values that they have in other. Lists are shared with it.
func (c *Config) Take(other *Config, names ...string) {
	theirs := other.keys()
	for i, k := range c.keys() {
		if slices.Contains(names, k.name) {
			reflect.ValueOf(k.field).Elem().Set(reflect.ValueOf(theirs[i].field).Elem())
		}
	}
}

// Text returns the value of a key as a file or a flag spells it, or "" for an unknown key. Of users it returns the
// names, so it never holds a secret.
func (c *Config) Text(name string) string {
	for _, k := range c.keys() {
		if k.name == name {
			return text(k.field)
		}
	}
	return ""
}
