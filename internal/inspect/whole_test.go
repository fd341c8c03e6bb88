package inspect

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// While a server compares its index with the disk, all that the index knows may be a small part.
func TestWhileTheIndexIsRebuiltEveryFormSaysSoFirst(t *testing.T) {
	s := newShop(t)
	top := s.fill()
	ref, err := ParseReference("team/app@" + top.String())
	s.must(err)
	forms := map[string]func(Output) error{
		"blobs": func(out Output) error { return Write(t.Context(), s.world, rules, Options{}, out) },
		"images": func(out Output) error {
			return Write(t.Context(), s.world, rules, Options{Kind: Images, Sort: ByName}, out)
		},
		"histogram": func(out Output) error { return Write(t.Context(), s.world, rules, Options{Histogram: true}, out) },
		"image": func(out Output) error {
			tree, err := ReadTree(t.Context(), s.world, rules, s.dir, ref)
			s.must(err)
			return tree.Write(out, ui.BranchesFor(func(string) string { return "" }))
		},
	}
	said := func(whole bool) {
		t.Helper()
		for form, write := range forms {
			var table, machine bytes.Buffer
			s.must(write(Output{To: &table}))
			s.must(write(Output{To: &machine, Format: JSON}))
			first, _, _ := strings.Cut(table.String(), "\n")
			if strings.Contains(first, "incomplete") == whole {
				t.Errorf("%s, whole %v: the first line is %q", form, whole, first)
			}
			if key := map[bool]string{true: `"complete":true`, false: `"complete":false`}[whole]; strings.Count(machine.String(), key) != 1 {
				t.Errorf("%s, whole %v: %s", form, whole, machine.String())
			}
		}
	}
	said(true)
	token, err := s.CloseGate(t.Context())
	s.must(err)
	said(false)
	_, err = s.OpenGate(t.Context(), token)
	s.must(err)
	said(true)
	s.must(s.LeaveGate(t.Context())) // its server stopped, and nobody rebuilds it
	said(true)
}

func TestNothingExpiresBeforeItCan(t *testing.T) {
	w := newWorld(t)
	w.blob("app", "loose", 1)
	w.manifest("app", "m", manifest.Manifest{MediaType: ociManifest}, "loose")
	w.tag("app", "v1", "m")
	w.blob("other", "unnamed", 1)
	w.at(100 * day)
	w.must(w.Hold(context.Background(), time.Hour))
	want := stamped(100*day + time.Hour)
	for _, b := range w.list(rules, Options{}).Blobs {
		if *b.ExpiresAt != want {
			t.Errorf("%s expires at %s; nothing goes before %s", b.Digest, *b.ExpiresAt, want)
		}
	}
	for _, i := range w.list(rules, Options{Kind: Images}).Images {
		if *i.ExpiresAt != want {
			t.Errorf("%s expires at %s; nothing goes before %s", i.Repository, *i.ExpiresAt, want)
		}
	}
}
