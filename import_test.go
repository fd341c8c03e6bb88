// Package dcs_test holds what is true of the whole repository.
package dcs_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/jc-lab/docker-cache-server/"

// arrows lists which package of ours may import which. Each points down this list only, so no circle
// is possible, and what a package rests on can be read off its line.
var arrows = []struct {
	pkg  string
	uses []string
}{
	{"bench", []string{"bench/house", "bench/load", "bench/process", "bench/report", "bench/stores", "internal/expiry", "internal/layout"}},
	{"bench/stores", []string{"internal/index", "internal/index/sqlite", "internal/layout"}},
	{"bench/report", nil},
	{"bench/load", nil},
	{"bench/house", nil},
	{"bench/process", nil},
	{"cmd/dcs", []string{"internal/expiry", "internal/gc", "internal/index", "internal/inspect", "internal/layout", "internal/nearest", "internal/owner", "internal/serve", "internal/ui", "internal/users", "pkg/config"}},
	{"pkg/server", []string{"internal/gc", "internal/inspect", "internal/serve", "internal/stamp", "pkg/config"}}, // whose values it makes its own
	{"internal/serve", []string{"internal/adopt", "internal/disk", "internal/expiry", "internal/gc", "internal/index", "internal/index/sqlite",
		"internal/inspect", "internal/layout", "internal/owner", "internal/reconcile", "internal/registry", "internal/stamp", "internal/users", "pkg/config"}},
	{"internal/inspect", []string{"internal/adopt", "internal/expiry", "internal/image", "internal/index", "internal/index/sqlite", "internal/layout", "internal/nearest", "internal/reconcile", "internal/stamp", "internal/ui"}},
	{"internal/gc", []string{"internal/adopt", "internal/disk", "internal/failpoint", "internal/expiry", "internal/image", "internal/index", "internal/index/sqlite", "internal/layout", "internal/reconcile", "internal/stamp", "pkg/config"}},
	{"internal/registry", []string{"internal/adopt", "internal/content", "internal/disk", "internal/index", "internal/layout"}},
	{"internal/content", []string{"internal/adopt", "internal/disk", "internal/failpoint", "internal/index", "internal/layout"}},
	{"internal/reconcile", []string{"internal/adopt", "internal/index", "internal/layout"}},
	{"internal/adopt", []string{"internal/disk", "internal/index", "internal/layout"}},
	{"internal/expiry", []string{"internal/index"}},
	{"internal/image", []string{"internal/index"}},
	{"internal/index/sqlite", []string{"internal/disk", "internal/failpoint", "internal/index"}},
	{"internal/index/indextest", []string{"internal/index"}},
	{"internal/index", nil},
	{"internal/users", []string{"internal/disk"}},
	{"internal/layout", []string{"internal/disk"}},
	{"pkg/config", []string{"internal/disk", "internal/nearest"}},
	{"internal/nearest", nil},
	{"internal/disk", []string{"internal/failpoint"}},
	{"internal/failpoint", nil},
	{"internal/owner", nil},
	{"internal/stamp", nil},
	{"internal/ui", nil},
}

// only lists who may import a library whose concepts must not spread.
var only = map[string][]string{
	"github.com/spf13/cobra":                  {"cmd/dcs"},
	"github.com/coreos/go-systemd/v22/daemon": {"cmd/dcs"}, // a library has no service manager
	"github.com/charmbracelet/lipgloss":       {"internal/ui"},
	"github.com/dustin/go-humanize":           {"internal/ui"},
	"zombiezen.com/go/sqlite":                 {"internal/index/sqlite"},
}

func TestArrowsPointDown(t *testing.T) {
	rank := map[string]int{}
	for i, a := range arrows {
		rank[a.pkg] = i
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if name == p.ImportPath || strings.HasPrefix(name, "e2e") || name == "conformance" || name == "torture" {
			continue // the root, which has no code; and what runs the binary
		}
		i, ok := rank[name]
		if !ok {
			t.Errorf("package %s is not in the list: say what it may import", name)
			continue
		}
		for _, imported := range p.Imports {
			if below, ours := strings.CutPrefix(imported, module); ours {
				if !slices.Contains(arrows[i].uses, below) {
					t.Errorf("%s imports %s: no such arrow", name, below)
				}
				if rank[below] <= i {
					t.Errorf("%s imports %s: the arrow points up", name, below)
				}
			}
			if users, ok := only[imported]; ok && !slices.Contains(users, name) {
				t.Errorf("%s imports %s: only %v may", name, imported, users)
			}
		}
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// packages asks the go command, which is what builds us.
func packages(t *testing.T) (all []goPackage) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
