package config

import "fmt"

// OriginKind is a layer of the configuration. The value of a higher one wins.
type OriginKind int

// The layers, from the weakest to the strongest.
const (
	Default OriginKind = iota
	File
	Env
	Flag
)

// String returns default, file, env or flag.
func (k OriginKind) String() string {
	switch k {
	case Default:
		return "default"
	case File:
		return "file"
	case Env:
		return "env"
	case Flag:
		return "flag"
	}
	return fmt.Sprintf("OriginKind(%d)", int(k))
}

// Origin says where a value came from. The zero value is the default.
type Origin struct {
	Kind OriginKind
	Name string // the path of the file, the name of the variable, or the name of the flag without its dashes
}

// String is for people: "default", "file /etc/dcs.yaml", "env DCS_CACHE_TTL", "flag --cache.ttl".
func (o Origin) String() string {
	switch o.Kind {
	case Default:
		return "default"
	case Flag:
		return "flag --" + o.Name
	default:
		return o.Kind.String() + " " + o.Name
	}
}

// Origins says for every key where its value came from.
type Origins map[string]Origin

// Explicit says whether the operator chose the value, in the file, a variable or a flag. It is false for an unknown
// key.
func (o Origins) Explicit(key string) bool { return o[key].Kind != Default }

// HasFile says whether a configuration file set any value.
func (o Origins) HasFile() bool {
	for _, origin := range o {
		if origin.Kind == File {
			return true
		}
	}
	return false
}
