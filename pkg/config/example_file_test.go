package config

import (
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
	l := newLoader()
	l.readFile(writeFile(t, file))
	l.validate()
	if len(l.errs) > 0 {
		t.Fatal(l.errs)
	}
	if len(l.cfg.Auth.Users) != 2 {
		t.Errorf("got %d users", len(l.cfg.Auth.Users))
	}
}
