package config

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestAddFlagsAddsWhatACommandUses(t *testing.T) {
	tests := []struct {
		name string
		keys []string
		want []string
	}{
		{"one key", []string{"storage.directory"}, []string{"storage.directory"}},
		{"a key and a section without its lists", []string{"storage.directory", "cache.*"},
			[]string{"cache.adopt_age", "cache.cleanup_interval", "cache.gone_for", "cache.grace", "cache.max_size",
				"cache.min_free", "cache.ttl", "cache.what_if_memory", "storage.directory"}},
		{"a nested section", []string{"server.tls.*"}, []string{"server.tls.certificate", "server.tls.key"}},
		{"a list alone is no flag", []string{"auth.users"}, nil},
		{"nothing", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flags := pflag.NewFlagSet("dcs", pflag.ContinueOnError)
			AddFlags(flags, tt.keys...)
			var got []string
			flags.VisitAll(func(f *pflag.Flag) {
				got = append(got, f.Name)
				if f.Usage == "" {
					t.Errorf("--%s has no usage", f.Name)
				}
			})
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAddFlagsPanicsOnAKeyThatThereIsNot(t *testing.T) {
	for _, key := range []string{"cache.ttll", "cach.*", ""} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q: no panic", key)
				}
			}()
			AddFlags(pflag.NewFlagSet("dcs", pflag.ContinueOnError), key)
		}()
	}
}

func TestFlagsHaveTypesAndDefaults(t *testing.T) {
	flags := allFlags(t)
	AddFlags(flags, "limits.*")
	usage := flags.FlagUsages()
	for _, want := range []string{
		"--cache.ttl duration ", "(default 30d)", "--server.port port ", "(default 5000)",
		"--limits.manifest_size size ", "(default 4MiB)",
		"--log.format text|json ", "--auth.enabled  ", "(default true)", `--storage.directory directory `,
	} {
		if !strings.Contains(usage, want) {
			t.Errorf("%q is not in the usage:\n%s", want, usage)
		}
	}
}

func TestFlagsRefuseWhatLoadWould(t *testing.T) {
	for _, arg := range []string{
		"--cache.ttl=5", "--cache.ttl=", "--cache.max_size=much", "--server.port=abc", "--log.access=maybe",
		"--auth.enabled=",
	} {
		flags := pflag.NewFlagSet("dcs", pflag.ContinueOnError)
		flags.SetOutput(io.Discard)
		AddFlags(flags, "cache.*", "server.*", "log.*", "auth.*")
		err := flags.Parse([]string{arg})
		if e, ok := errors.AsType[*Error](err); !ok || e.Hint() == "" {
			t.Errorf("%s: error %v", arg, err)
		}
	}
}

func TestLoadReadsFlags(t *testing.T) {
	cfg, origins, err := Load(Sources{Flags: allFlags(t, "--cache.ttl=1w", "--log.access=false", "--auth.enabled",
		"--server.port", "0",
		"--debug.address=")})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Cache.TTL != 7*24*time.Hour || cfg.Log.Access || !cfg.Auth.Enabled || cfg.Server.Port != 0 ||
		cfg.Debug.Address != "" {
		t.Errorf("got %+v", cfg)
	}
	for key, want := range map[string]bool{"auth.enabled": true, "debug.address": true, "cache.grace": false} {
		if got := origins.Explicit(key); got != want {
			t.Errorf("%s is explicit: %v, want %v", key, got, want)
		}
	}
	_, _, err = Load(Sources{Flags: allFlags(t, "--cache.grace=0")})
	if e, ok := errors.AsType[*Error](err); !ok || e.Origin.String() != "flag --cache.grace" {
		t.Errorf("got %v", err)
	}
}
