package config

import (
	"errors"
	"os"
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
	for _, k := range keys() {
		if !k.isList() && !origins.Explicit(k.name) {
			t.Errorf("%s is not mentioned", k.name)
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
	l := &loader{cfg: DefaultConfig(), origins: Origins{}, lines: map[string]int{}}
	if err := l.readFile(writeFile(t, file)); err != nil {
		t.Fatal(err)
	}
	if len(l.cfg.Auth.Users) != 2 || len(l.cfg.Cache.Rules) != 2 {
		t.Errorf("got %d users and %d rules", len(l.cfg.Auth.Users), len(l.cfg.Cache.Rules))
	}
	if e, ok := errors.AsType[*Error](l.cfg.Validate()); !ok || e.Key != "cache.rules" {
		t.Errorf("only the rules may be refused, got %v", e)
	}
}
