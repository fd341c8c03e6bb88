package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// loseIndex is what an operator does who deletes the files of the index.
func loseIndex(t *testing.T, o Opener) {
	t.Helper()
	files, err := filepath.Glob(o.Dir.Index() + "*")
	must(t, err)
	for _, f := range files {
		must(t, os.Remove(f))
	}
}

func TestThePolicyOfAServerOutlivesItsIndex(t *testing.T) {
	o := opener(t)
	keep := true
	p := promised
	p.Rules = rule.Rules{{Repository: "base/**", Keep: &keep}}
	server, err := o.Serve(t.Context(), promised)
	must(t, err)
	must(t, server.Promise(t.Context(), p))
	must(t, server.Close())
	loseIndex(t, o)
	for _, how := range []func(context.Context) (*Store, error){o.Look, o.Rehearse, o.Collect} {
		if s := open(t, how); !reflect.DeepEqual(s.Policy, p) {
			t.Errorf("%+v; want %+v", s.Policy, p)
		}
	}
}

func TestWithoutAPolicyNothingIsRemoved(t *testing.T) {
	o := opener(t)
	server, err := o.Serve(t.Context(), promised)
	must(t, err)
	must(t, server.Close())
	loseIndex(t, o)
	ttl := time.Hour
	for what, spoil := range map[string]func() error{
		"no file": func() error { return os.Remove(o.Dir.Policy()) },
		"damaged": func() error { return os.WriteFile(o.Dir.Policy(), []byte("{"), 0o644) },
		"of a newer version": func() error {
			return os.WriteFile(o.Dir.Policy(), []byte(`{"TTL":1,"Rules":[{"ttl":1,"only_if":"x"}]}`), 0o644)
		},
	} {
		must(t, spoil())
		for _, how := range []func(context.Context) (*Store, error){o.Rehearse, o.Collect} {
			var unknown *PolicyError
			if _, err := how(t.Context()); !errors.As(err, &unknown) {
				t.Errorf("%s: %v", what, err)
			}
			if _, err := os.Stat(o.Dir.Index()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: an index was made: %v", what, err) // an empty one: who looks would not see the images
			}
			asked := o
			asked.Asked.TTL = &ttl
			if s, err := asked.Rehearse(t.Context()); err != nil || s.Policy.TTL != ttl {
				t.Errorf("%s, with a ttl: %v", what, err)
			} else {
				must(t, s.Close())
			}
		}
		open(t, o.Look) // who looks needs none
	}
}
