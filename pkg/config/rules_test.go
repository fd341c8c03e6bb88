package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// loadRules returns the rules of a file.
func loadRules(t *testing.T, file string) []Rule {
	t.Helper()
	cfg, _, err := Load(Sources{File: writeFile(t, file)})
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Cache.Rules
}

// everySetting has a rule for each setting, and for each value that could be taken for none.
const everySetting = `
cache:
  rules:
    - repository: "base/**"
      tag: "v*"
      keep: true
    - {repository: "base/[^x]", tag: "", keep: false}
    - {ttl: 2d}
    - {repository: ci/**, ttl: 0}
    - {untagged_ttl: 1d}
    - {untagged_ttl: 0}
    - {keep_last: 10, ttl: 1w}
    - {keep_last: 0}
`

func TestLoadReadsRules(t *testing.T) {
	yes, no, none, ten, forever := true, false, 0, 10, time.Duration(0)
	twoDays, oneDay, aWeek := 2*day, day, week
	want := []Rule{
		{Repository: "base/**", Tag: "v*", Keep: &yes},
		{Repository: "base/[^x]", Keep: &no},
		{TTL: &twoDays},
		{Repository: "ci/**", TTL: &forever},
		{UntaggedTTL: &oneDay},
		{UntaggedTTL: &forever},
		{KeepLast: &ten, TTL: &aWeek},
		{KeepLast: &none},
	}
	if got := loadRules(t, everySetting); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	for _, file := range []string{"cache: {rules: }", "cache: {rules: []}", "cache: {}"} {
		if got := loadRules(t, file); got != nil {
			t.Errorf("%s: got %v", file, got)
		}
	}
}

func TestARuleSurvivesItsText(t *testing.T) {
	rules := loadRules(t, everySetting)
	cfg := DefaultConfig()
	cfg.Cache.Rules = rules
	if got := loadRules(t, "cache: {rules: ["+cfg.Text("cache.rules")+"]}"); !reflect.DeepEqual(got, rules) {
		t.Errorf("%s\nbecame\n%v", cfg.Text("cache.rules"), got)
	}
	if got, want := rules[0].String(), `{repository: "base/**", tag: "v*", keep: true}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWhatDecidesHasEverySettingOfARule(t *testing.T) {
	yes, ttl, untagged, last := true, day, week, 3
	c := Cache{Rules: []Rule{{"a/*", "v*", &yes, &ttl, &untagged, &last, nil}, {}}}
	want := rule.Rules{{Repository: "a/*", Tag: "v*", Keep: &yes, TTL: &ttl, UntaggedTTL: &untagged, KeepLast: &last}, {}}
	if got := c.RuleSet(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	decided := reflect.TypeFor[rule.Rule]()
	for i := range decided.NumField() {
		if reflect.ValueOf(want[0]).Field(i).IsZero() {
			t.Errorf("this test does not know the setting %s", decided.Field(i).Name)
		}
	}
}

// Two files are read into other pointers, of which the values count.
func TestRulesDifferByTheirValues(t *testing.T) {
	load := func(file string) *Config {
		cfg, _, err := Load(Sources{File: writeFile(t, file)})
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	one := load(everySetting)
	if got := one.Differs(load(everySetting)); got != nil {
		t.Errorf("the same file: %v", got)
	}
	for old, changed := range map[string]string{"ttl: 2d": "ttl: 3d", "keep: false": "keep: true", "v*": "w*",
		"keep_last: 0": "keep_last: 1", "untagged_ttl: 0": "untagged_ttl: 1ms"} {
		other := load(strings.Replace(everySetting, old, changed, 1))
		if got := one.Differs(other); !reflect.DeepEqual(got, []string{"cache.rules"}) {
			t.Errorf("%s: %v", changed, got)
		}
	}
}

func TestLoadRefusesRules(t *testing.T) {
	tests := []refusal{
		{"a glob without an end", "cache:\n  rules:\n    - repository: 'a/[b'\n      keep: true", nil,
			`cache.rules[0].repository: "a/[b" is not a glob: a bracket or a backslash has no end (file FILE, line 3)`,
			"base/**"},
		{"stars beside letters", "cache: {rules: [{repository: 'base**', keep: true}]}", nil,
			`cache.rules[0].repository: "base**" has ** beside other characters: between two slashes it stands alone ` +
				`(file FILE, line 1)`, ""},
		{"a repository with its tag", "cache: {rules: [{repository: 'app:v1', keep: true}]}", nil,
			`cache.rules[0].repository: "app:v1" has ':', which no repository has (file FILE, line 1)`, "without host and tag"},
		{"a repository in capitals", "cache: {rules: [{repository: 'Base/**', keep: true}]}", nil,
			`cache.rules[0].repository: "Base/**" has 'B', which no repository has (file FILE, line 1)`, "small letters"},
		{"a slash at the end", "cache: {rules: [{repository: base/, keep: true}]}", nil,
			`cache.rules[0].repository: "base/" has a slash at an end, or two together, which no repository has ` +
				`(file FILE, line 1)`, ""},
		{"a tag with a slash", "cache: {rules: [{tag: 'team/*', keep: true}]}", nil,
			`cache.rules[0].tag: "team/*" has '/', which no tag has (file FILE, line 1)`, "v*"},
		{"a negative ttl", "cache:\n  rules:\n    - repository: a\n      ttl: -1h", nil,
			`cache.rules[0].ttl: "-1h" is negative (file FILE, line 4)`, "0"},
		{"a negative untagged_ttl", "cache: {rules: [{untagged_ttl: -1h}]}", nil,
			`cache.rules[0].untagged_ttl: "-1h" is negative (file FILE, line 1)`, "0"},
		{"a negative number of tags", "cache: {rules: [{keep_last: -1}]}", nil,
			`cache.rules[0].keep_last: "-1" is negative (file FILE, line 1)`, "0"},
		{"half a tag", "cache: {rules: [{keep_last: 1.5}]}", nil,
			`cache.rules[0].keep_last: "1.5" is not a whole number (file FILE, line 1)`, ""},
		{"yes", "cache: {rules: [{keep: yes}]}", nil,
			`cache.rules[0].keep: "yes" is neither true nor false (file FILE, line 1)`, ""},
		{"nothing set", "cache:\n  rules:\n    - keep: true\n    - repository: a\n      tag: b", nil,
			`cache.rules[1] sets nothing (file FILE, line 4)`, "keep_last"},
		{"nothing at all", "cache:\n  rules:\n    - ~", nil, `cache.rules[0] sets nothing (file FILE, line 3)`, ""},
		{"a tag for what has none", "cache:\n  rules:\n    - tag: v*\n      untagged_ttl: 1d", nil,
			`cache.rules[0].untagged_ttl: "1d" has no effect beside tag: what has no tag does not match (file FILE, line 4)`,
			"a rule without tag"},
		{"a misspelt key", "cache: {rules: [{repo: a, keep_lats: 1}]}", nil,
			"cache.rules[0].repo is not a known key; did you mean repository? (file FILE, line 1)\n" +
				"cache.rules[0].keep_lats is not a known key; did you mean keep_last? (file FILE, line 1)", ""},
		{"several mistakes in one rule, one of which keeps it from setting anything",
			"cache: {rules: [{repository: A, ttl: 1y}]}", nil,
			`cache.rules[0].ttl: "1y" has the unknown unit "y" (file FILE, line 1)` + "\n" +
				`cache.rules[0].repository: "A" has 'A', which no repository has (file FILE, line 1)`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.check)
	}
}

func TestARuleIsExplained(t *testing.T) {
	want := []string{
		"images base/** tagged v*: kept",
		"images base/[^x]: not kept by a later rule",
		"all images: removed when unused for 2d",
		"images ci/**: never removed for being unused",
		"all images: without a tag removed when unused for 1d",
		"all images: without a tag never removed for being unused",
		"all images: removed when unused for 7d; the last used 10 tags of each repository kept",
		"all images: no tags kept by keep_last of a later rule",
	}
	for i, r := range loadRules(t, everySetting) {
		if got := r.Explain(); got != want[i] {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
	}
	r := Rule{Tag: "v*", KeepLast: new(int)}
	if got := r.Explain(); !strings.HasPrefix(got, "images tagged v*: ") {
		t.Errorf("got %s", got)
	}
}

func TestCheckSaysWhatHasNoEffect(t *testing.T) {
	path := writeFile(t, `cache:
  ttl: 30m
  rules:
    - repository: base/**
      keep: true
    - repository: base/go
      untagged_ttl: 5m
      ttl: 0
    - keep_last: 10
    - {repository: a, keep_last: 5, ttl: 7d}
`)
	checked, err := Check(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`cache.ttl: "30m" is shorter than cache.grace, so 1h counts in its place (file FILE, line 2)`,
		`cache.rules[1].untagged_ttl has no effect: cache.rules[0] keeps all that matches (file FILE, line 7)`,
		`cache.rules[1].untagged_ttl: "5m" is shorter than cache.grace, so 1h counts in its place (file FILE, line 7)`,
		`cache.rules[1].ttl has no effect: cache.rules[0] keeps all that matches (file FILE, line 8)`,
		`cache.rules[3].keep_last has no effect: cache.rules[2] decides it for all that matches (file FILE, line 10)`,
	}
	if got := strings.ReplaceAll(checked.Warnings.Error(), path, "FILE"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if got, want := checked.Rules[3], "rule 4 (line 10): images a: removed when unused for 7d; "; !strings.HasPrefix(got,
		want) {
		t.Errorf("got %s", got)
	}
	if _, _, err := Load(Sources{File: path}); err != nil {
		t.Errorf("a start refuses what has no effect: %v", err)
	}
}

func TestCheckTellsMistakesInTheOrderOfTheirLines(t *testing.T) {
	_, err := Check(writeFile(t, "cache:\n  grace: 0\nlog:\n  level: 1\n  lvl: 2\n"))
	var lines []int
	for _, e := range err.(Errors) {
		lines = append(lines, e.Line)
	}
	if !reflect.DeepEqual(lines, []int{2, 4, 5}) {
		t.Errorf("the mistakes are on the lines %v: %v", lines, err)
	}
}
