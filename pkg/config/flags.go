package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags adds the flags of the keys that a command uses. Each argument is a key ("storage.directory") or a prefix
// that ends in ".*" ("cache.*"). Lists are left out, since only the file can give them. A key that dcs does not have
// yet is hidden; Load refuses it by name. An argument that names no key is a mistake in the program and panics.
func AddFlags(fs *pflag.FlagSet, keys ...string) {
	for _, pattern := range keys {
		matched := false
		for _, k := range match(pattern) {
			matched = true
			if !k.isList() {
				addFlag(fs, k)
			}
		}
		if !matched {
			panic(fmt.Sprintf("config: no key matches %q", pattern))
		}
	}
}

func match(pattern string) []key {
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	var matched []key
	for _, k := range DefaultConfig().keys() {
		if k.name == pattern || isPrefix && strings.HasPrefix(k.name, prefix) {
			matched = append(matched, k)
		}
	}
	return matched
}

func addFlag(fs *pflag.FlagSet, k key) {
	flag := fs.VarPF(&flagValue{field: k.field, text: text(k.field)}, k.name, "", k.usage)
	flag.Hidden = k.later
	if kind(k.field) == "bool" {
		flag.NoOptDefVal = "true"
	}
}

// flagValue is a pflag.Value that keeps the text as it was given, and accepts only what Load will.
type flagValue struct {
	field any
	text  string
}

// Set implements pflag.Value. pflag adds the flag and the value to its error.
func (v *flagValue) Set(text string) error {
	if err := set(v.field, text); err != nil {
		return err
	}
	v.text = text
	return nil
}

// String implements pflag.Value.
func (v *flagValue) String() string { return v.text }

// Type implements pflag.Value.
func (v *flagValue) Type() string { return kind(v.field) }
