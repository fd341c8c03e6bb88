package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/rule"
)

func TestTheBudgetThatDecides(t *testing.T) {
	for file, want := range map[string]rule.Budget{
		"":                {MinFree: rule.Size{Percent: 5}},
		"cache: {ttl: 0}": {},
		"cache: {ttl: 0, max_size: 500GiB, min_free: 3%}": {MaxSize: rule.Size{Bytes: 500 << 30},
			MinFree: rule.Size{Percent: 3}},
		"cache: {max_size: 80.5%, min_free: 0}": {MaxSize: rule.Size{Percent: 80.5}},
		"cache: {max_size: 1.5TB, min_free: auto}": {MaxSize: rule.Size{Bytes: 1_500_000_000_000},
			MinFree: rule.Size{Percent: 5}},
	} {
		cfg, _, err := Load(Sources{File: writeFile(t, file)})
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Cache.Budget(); got != want {
			t.Errorf("%s: %+v; want %+v", file, got, want)
		}
		again, _, err := Load(Sources{Flags: allFlags(t, "--cache.max_size", cfg.Text("cache.max_size"),
			"--cache.min_free", cfg.Text("cache.min_free"), "--cache.ttl", cfg.Text("cache.ttl"))})
		if err != nil || again.Cache.Budget() != want {
			t.Errorf("%s: by flags %+v, %v", file, again.Cache.Budget(), err)
		}
	}
}

// Only where a share is possible is it said so.
func TestAHintNamesTheShareThatASizeMayBe(t *testing.T) {
	for key, want := range map[string]bool{"max_size": true, "min_free": true, "what_if_memory": false} {
		_, _, err := Load(Sources{File: writeFile(t, "cache: {"+key+": half}")})
		e, ok := errors.AsType[*Error](err)
		if !ok || !strings.Contains(e.Hint(), sizeHint) || strings.HasSuffix(e.Hint(), "such as 80%") != want {
			t.Errorf("%s: %v", key, err)
		}
	}
}
