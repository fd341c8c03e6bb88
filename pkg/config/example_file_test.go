package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
)

const exampleFile = "../../config.example.yaml"

func TestTheExampleFileIsTheDefault(t *testing.T) {
	cfg, origins, err := Load(Sources{File: exampleFile})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg, DefaultConfig()) {
		t.Errorf("got %+v, want %+v", cfg, DefaultConfig())
	}
	for _, k := range DefaultConfig().keys() {
		if !k.isList() && origins.Explicit(k.name) == k.later {
			t.Errorf("%s: mentioned %v, of a later version %v", k.name, !k.later, k.later)
		}
	}
}

// Prose in the file begins with "# "; what may be put into force begins with "#" alone, or with more blanks.
func TestTheListsOfTheExampleFileAreGoodWhenUncommented(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile(`(?m)^( *)#(\S|  )`).ReplaceAllString(string(text), "$1$2")
	for _, file := range []string{string(text), file} {
		if err := schemaSays(t, file); err != nil {
			t.Error(err)
		}
	}
	l := newLoader()
	l.readFile(writeFile(t, file))
	l.validate()
	if len(l.errs) > 0 {
		t.Fatal(l.errs)
	}
	if len(l.cfg.Auth.Users) != 2 || len(l.cfg.Cache.Rules) != 3 {
		t.Errorf("got %d users, %d rules", len(l.cfg.Auth.Users), len(l.cfg.Cache.Rules))
	}
	if idle := l.cfg.Cache.idle(); len(idle) > 0 {
		t.Error(idle)
	}
}

// Every block of YAML in a page is a configuration of dcs that can be copied.
func TestTheExamplesOfThePagesAreGood(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := map[string]int{}
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
			examples[filepath.Base(page)]++
			checked, err := Check(writeFile(t, block[1]))
			if err != nil {
				t.Errorf("%s: %v\n%s", page, err, block[1])
			} else if len(checked.Warnings) > 0 {
				t.Errorf("%s: %v\n%s", page, checked.Warnings, block[1])
			}
			if err := schemaSays(t, block[1]); err != nil {
				t.Errorf("%s: %v\n%s", page, err, block[1])
			}
		}
	}
	if examples["expiry.md"] < 3 || examples["operations.md"] < 1 {
		t.Errorf("only these examples were found: %v", examples)
	}
}
