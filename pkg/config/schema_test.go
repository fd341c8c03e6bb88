package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/jc-lab/docker-cache-server/internal/reuse"
)

const schemaFile = "../../docs/config.schema.json"

var update = flag.Bool("update", false, "write docs/config.schema.json")

// schema is a part of a JSON schema of draft 7, which most editors know best.
type schema map[string]any

// Patterns, in what JavaScript and Go have in common.
const (
	number          = `(?:[0-9]+\.?[0-9]*|\.[0-9]+)`
	durationPattern = `^\+?(?:0|(?:` + number + `(?:w|d|h|m|s|ms|us|µs|μs|ns))+)$`
	sizePattern     = `^` + number + ` *(?:[kmgtpeKMGTPE][iI]?)?[bB]?$`
	sharePattern    = `^(?:0*(?:100(?:\.0*)?|[0-9]{1,2}(?:\.[0-9]*)?|\.[0-9]+)%|` + number + ` *(?:[kmgtpeKMGTPE][iI]?)?[bB]?)$`
	wholePattern    = `^\+?[0-9]+$`
)

// globPattern is of globs for names of these letters. In the set of a bracket are letters and ranges of letters.
func globPattern(letters, moreParts string) string {
	item := `[` + letters + `](?:-[` + letters + `])?`
	one := `(?:[-` + letters + `?]|\[\^?(?:` + item + `)+\])`
	part := `(?:\*\*|\*|(?:\*?` + one + `)+\*?)`
	return `^(?:` + part + moreParts + `)?$`
}

var (
	tagPattern        = globPattern(`A-Za-z0-9._`, ``)
	onePart           = strings.TrimSuffix(strings.TrimPrefix(globPattern(`a-z0-9._`, ``), `^(?:`), `)?$`)
	repositoryPattern = globPattern(`a-z0-9._`, `(?:/`+onePart+`)*`)
)

// details are what the schema says of a key beside its kind, by the bounds that Validate has. They go before the kind.
var details = map[string]schema{
	"server.port": {"maximum": 65535},
	"server.trusted_proxies": {"items": schema{"type": "string",
		"pattern": `^[0-9a-fA-F:.]+(?:/[0-9]{1,3})?$`}},
	"storage.directory":     {"minLength": 1},
	"auth.users[]":          {"required": []string{"username", "password"}},
	"auth.users[].username": {"minLength": 1, "maxLength": 255, "pattern": `^[^#:][^:]*$`},
	"auth.users[].password": {"minLength": 1, "maxLength": 72},
	"cache.grace":           {"type": "string"}, // a bare 0 is too short
	"cache.rules[]": {
		"anyOf": []schema{{"required": []string{"keep"}}, {"required": []string{"ttl"}},
			{"required": []string{"untagged_ttl"}}, {"required": []string{"keep_last"}}},
		"not": schema{"required": []string{"tag", "untagged_ttl"},
			"properties": schema{"tag": schema{"minLength": 1}}},
	},
	"cache.what_if_memory": {"maximum": reuse.MostMemory,
		"not": schema{"type": "integer", "minimum": 1, "maximum": reuse.LeastMemory - 1}},
	"cache.rules[].repository": {"pattern": repositoryPattern},
	"cache.rules[].tag":        {"pattern": tagPattern},
	"cache.max_size":           {"pattern": sharePattern},
	"cache.min_free":           {"pattern": strings.TrimSuffix(sharePattern, ")$") + "|auto)$"},
	"limits.manifest_size":     {"minimum": minManifestSize, "maximum": maxManifestSize},
	"limits.header_size":       {"minimum": minHeaderSize, "maximum": maxHeaderSize},
	"limits.header_timeout":    {"type": "string"},
	"log.level":                {"enum": []string{"trace", "debug", "info", "warn", "error", "fatal", "panic"}},
}

// wordsOf finds the words that a key takes in its usage: `now|mtime`.
var wordsOf = regexp.MustCompile("`(\\w+(?:\\|\\w+)+)`")

// schemaOfSection is of the keys whose names begin with a prefix.
func schemaOfSection(prefix string, keys []key) schema {
	properties := schema{}
	for _, k := range keys {
		rest, within := strings.CutPrefix(k.name, prefix)
		name, _, deeper := strings.Cut(rest, ".")
		switch {
		case !within || k.later || properties[name] != nil:
		case deeper:
			properties[name] = schemaOfSection(prefix+name+".", keys)
		default:
			properties[name] = schemaOfKey(k)
		}
	}
	return schema{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
}

func schemaOfKey(k key) schema {
	s := schema{"description": strings.ReplaceAll(k.usage, "`", "")}
	switch kind := kind(k.field); kind {
	case "list":
		s["type"] = []string{"array", "null"}
		s["items"] = schemaOfElement(k)
	case "bool":
		s["type"] = "boolean"
	case "string": // dcs reads a number as it is written
		s["type"] = []string{"string", "number"}
		if words := wordsOf.FindStringSubmatch(k.usage); words != nil {
			s["enum"] = strings.Split(words[1], "|")
		}
	default:
		s["type"] = []string{"integer", "string"}
		s["minimum"] = 0
		s["pattern"] = map[string]string{"int": wholePattern, "size": sizePattern, "duration": durationPattern}[kind]
		if kind == "duration" {
			s["maximum"] = 0 // more needs a unit
		}
	}
	maps.Copy(s, details[k.name])
	if reflect.ValueOf(k.field).Elem().IsZero() {
		return s // an element, or no default
	}
	switch p := k.field.(type) {
	case *bool, *int, *[]string:
		s["default"] = p
	default:
		s["default"] = text(p)
	}
	return s
}

// schemaOfElement is of what is in a list of sections.
func schemaOfElement(k key) schema {
	var keys []key
	switch k.field.(type) {
	case *[]User:
		keys = new(User).keys()
	case *[]Rule:
		keys = new(Rule).keys()
	}
	for i := range keys {
		keys[i].name = k.name + "[]." + keys[i].name
	}
	s := schemaOfSection(k.name+"[].", keys)
	s["type"] = "object"
	maps.Copy(s, details[k.name+"[]"])
	return s
}

func TestTheSchemaIsCurrent(t *testing.T) {
	s := schemaOfSection("", DefaultConfig().keys())
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "Configuration of dcs"
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, want.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(schemaFile); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("docs/config.schema.json is not what the keys say (%v): run make docs", err)
	}
}

// schemaSays is what the schema says of a file: nil, or what is wrong.
func schemaSays(t *testing.T, file string) error {
	t.Helper()
	compiled, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := yaml.Unmarshal([]byte(file), &document); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return compiled.Validate(value)
}

func TestTheSchemaRefusesWhatLoadRefuses(t *testing.T) {
	for _, file := range []string{
		"cache: {tll: 1d}", "port: 1", "server: {tsl: {key: k}}", "server: {tls: {keys: k}}", "cache: 30d", "cache: [ttl]", "- a", "hello",
		"auth: {users: admin}", "auth: {users: {admin: a}}", "auth: {users: [admin]}", "auth: {users: [~]}",
		"auth: {users: [{username: a}]}", "auth: {users: [{password: a}]}", "auth: {users: [{username: a, pasword: b}]}",
		"auth: {users: [{username: 'a:b', password: c}]}", "auth: {users: [{username: '#a', password: c}]}",
		"auth: {users: [{username: '', password: c}]}", "auth: {users: [{username: a, password: ''}]}",
		"auth: {users: [{username: a, password: true}]}", "auth: {enabled: maybe}", "auth: {enabled: yes}", "auth: {anonymous_pull: true}",
		"server: {port: abc}", "server: {port: ''}", "server: {port: 65536}", "server: {port: -1}", "server: {port: 1.5}",
		"server: {port: [1]}", "server: {port: }", "server: {address: true}", "server: {trusted_proxies: [ten]}",
		"server: {trusted_proxies: 10.0.0.1}", "server: {trusted_proxies: [10.0.0.1/x]}", "storage: {directory: ''}",
		"server: {drain_timeout: 30}", "server: {drain_timeout: -1s}", "cache: {ttl: 5}", "cache: {ttl: 5y}", "cache: {ttl: never}", "cache: {ttl: ''}", "cache: {ttl: 1d5}",
		"cache: {ttl: -1h}", "cache: {ttl: true}", "cache: {ttl: 1 d}", "cache: {grace: 0}", "cache: {adopt_age: ctime}",
		"cache: {what_if_memory: 1000}", "cache: {what_if_memory: 67108865}", "cache: {what_if_memory: -1}",
		"cache: {ttl: -1h}", "cache: {ttl: true}", "cache: {ttl: 1 d}", "cache: {grace: 0}", "cache: {adopt_age: ctime}", "cache: {max_size: 500%}", "cache: {max_size: '%'}", "cache: {max_size: auto}",
		"cache: {min_free: never}", "cache: {min_free: 100.5%}", "cache: {min_free: -1}", "cache: {min_free: 1 %}",
		"limits: {manifest_size: 5 apples}", "limits: {manifest_size: 1}", "limits: {manifest_size: 4194305}", "limits: {manifest_size: 1iB}",
		"limits: {header_size: -5}", "limits: {header_timeout: 0}", "limits: {uploads_per_client: -1}", "limits: {uploads_per_client: many}",
		"log: {level: loud}", "log: {level: [info]}", "log: {format: xml}", "log: {format: ''}", "debug: {address: false}",
		"cache: {rules: {ttl: 1d}}", "cache: {rules: [~]}", "cache: {rules: [keep]}", "cache: {rules: [{repository: a}]}",
		"cache: {rules: [{ttl: 5}]}", "cache: {rules: [{ttl: -5s}]}", "cache: {rules: [{keep: yes}]}", "cache: {rules: [{keep_last: -1}]}",
		"cache: {rules: [{keep_last: 1.5}]}", "cache: {rules: [{keep_last: ten}]}", "cache: {rules: [{tag: v*, untagged_ttl: 1d}]}",
		"cache: {rules: [{keep: true, max_size: 1GB}]}", "cache: {rules: [{keep: true, repo: a}]}", "cache: {rules: [{keep: }]}",
		"cache: {rules: [{keep: true, repository: a**}]}", "cache: {rules: [{keep: true, repository: '[a'}]}",
		"cache: {rules: [{keep: true, repository: '[]'}]}", "cache: {rules: [{keep: true, repository: A}]}",
		"cache: {rules: [{keep: true, repository: a/}]}", "cache: {rules: [{keep: true, repository: 'a:b'}]}",
		"cache: {rules: [{keep: true, tag: a/b}]}", "cache: {rules: [{keep: true, tag: '**a'}]}",
	} {
		if _, _, err := Load(Sources{File: writeFile(t, file)}); err == nil {
			t.Errorf("Load takes %s", file)
		}
		if schemaSays(t, file) == nil {
			t.Errorf("the schema takes %s", file)
		}
	}
}

func TestTheSchemaTakesWhatPeopleWrite(t *testing.T) {
	for _, file := range []string{
		"", "~", "cache:\nserver: {port: 1}", "auth: {users: }", "auth: {users: []}", `server: {port: "7"}`, "server: {port: 0}",
		"cache: {ttl: 0}", "cache: {ttl: 1w2d3h}", "cache: {ttl: 1.5d}", "cache: {ttl: '0'}", "storage: {directory: 007}",
		"server: {trusted_proxies: [10.0.0.0/8, '::1', 192.0.2.1]}", "server: {trusted_proxies: }", `server: {address: ""}`,
		"server: {tls: {certificate: a.pem, key: b.pem}}", "server: {tls: }", `debug: {address: ""}`,
		"auth: {users: [{username: 1, password: 0123}]}", "limits: {manifest_size: 65536, header_size: 64 kib}",
		"limits: {manifest_size: 1.5MB}", "limits: {uploads_per_client: 0, stall_timeout: 0}", everySetting,
		"cache: {rules: [{repository: '', tag: '', untagged_ttl: 1d}]}", "cache: {rules: [{repository: '**/a-[b-dx]?/*', keep_last: '3'}]}",
		"cache: {rules: [{tag: 'RC_[^0-9]*', keep: false}]}",
		"cache: {max_size: 500GiB, min_free: 5%}", "cache: {max_size: 80.5%, min_free: auto}", "cache: {max_size: 0, min_free: '0'}",
		"cache: {max_size: 1048576, min_free: 100%}",
	} {
		if _, _, err := Load(Sources{File: writeFile(t, file)}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := schemaSays(t, file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestThePatternsOfTheSchemaAreWhatIsParsed feeds both with noise of the letters that matter.
func TestThePatternsOfTheSchemaAreWhatIsParsed(t *testing.T) {
	set := regexp.MustCompile(`\[\^?[-\w./]*\]`)
	// Marks in a set, and those of a set outside of one, say nothing, and no pattern has them.
	odd := func(s string) bool { return strings.ContainsAny(set.ReplaceAllString(s, ""), "[]^") }
	for _, c := range []struct {
		name, pattern, letters string
		parse                  func(string) error
		skip                   func(string) bool
	}{
		{"duration", durationPattern, "0019.+dwhmsun ",
			func(s string) error { _, err := parseDuration(s); return err },
			func(s string) bool {
				_, err := parseDuration(s)
				return err != nil && strings.Contains(err.Error(), "292 years")
			}},
		{"size", sizePattern, "019. kMiIbBx",
			func(s string) error { _, err := parseSize(s); return err },
			func(string) bool { return false }},
		{"share", sharePattern, "0019. kMiIbB%%x",
			func(s string) error { _, err := parseShare(s); return err },
			func(string) bool { return false }},
		{"repository", repositoryPattern, "aab/*?[]^-A",
			func(s string) error { return checkGlob(s, "repository", repositoryLetters) }, odd},
		{"tag", tagPattern, "aab/*?[]^-A",
			func(s string) error { return checkGlob(s, "tag", tagLetters) }, odd},
	} {
		seed := uint64(time.Now().UnixNano())
		random := rand.New(rand.NewPCG(seed, 0))
		pattern, taken := regexp.MustCompile(c.pattern), 0
		for range 200_000 {
			noise := make([]byte, random.IntN(8))
			for i := range noise {
				noise[i] = c.letters[random.IntN(len(c.letters))]
			}
			text := string(noise)
			err := c.parse(text)
			switch matches := pattern.MatchString(text); {
			case matches == (err == nil):
				if matches {
					taken++
				}
			case !c.skip(text):
				t.Fatalf("seed %d: %s %q: matches %v; %v", seed, c.name, text, matches, err)
			}
		}
		if taken < 1_000 {
			t.Errorf("%s: only %d of the noise can be read", c.name, taken)
		}
	}
}
