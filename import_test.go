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
	{"bench", []string{
		"bench/house", "bench/journaled", "bench/load", "bench/process", "bench/report", "bench/stores",
		"internal/layout", "internal/policy", "internal/tree",
	}},
	{"bench/stores", []string{
		"internal/index", "internal/index/sqlite", "internal/layout", "internal/manifest", "internal/tree",
	}},
	{"bench/report", nil},
	{"bench/load", nil},
	{"bench/house", nil},
	{"bench/journaled", nil},
	{"bench/process", nil},
	{"cmd/dcs", []string{
		"internal/credential", "internal/fsck", "internal/gc", "internal/index", "internal/inspect",
		"internal/layout", "internal/nearest", "internal/owner", "internal/pin", "internal/serve", "internal/stamp",
		"internal/store", "internal/tree", "internal/ui", "internal/users", "pkg/config",
	}},
	{"pkg/server", []string{
		"internal/gc", "internal/inspect", "internal/serve", "internal/stamp", "pkg/config",
	}},
	{"internal/serve", []string{
		"internal/content/files", "internal/disk", "internal/event", "internal/gc", "internal/index",
		"internal/inspect", "internal/layout", "internal/metrics", "internal/owner", "internal/reconcile",
		"internal/registry", "internal/reuse", "internal/room", "internal/stamp", "internal/store", "internal/tree",
		"internal/usage", "internal/users", "pkg/config",
	}},
	{"internal/metrics", []string{
		"internal/event", "internal/index", "internal/inspect", "internal/registry", "internal/room",
	}},
	{"internal/inspect", []string{
		"internal/image", "internal/index", "internal/index/sqlite", "internal/layout", "internal/nearest",
		"internal/policy", "internal/reuse", "internal/rule", "internal/stamp", "internal/tree", "internal/verdict",
	}},
	{"internal/gc", []string{
		"internal/fsck", "internal/image", "internal/index", "internal/layout", "internal/policy",
		"internal/rule", "internal/stamp", "internal/store", "internal/tree", "internal/usage", "internal/verdict",
	}},
	{"internal/usage", []string{
		"internal/disk", "internal/index", "internal/layout", "internal/tree",
	}},
	{"internal/verdict", []string{
		"internal/index", "internal/layout", "internal/policy", "internal/rule",
	}},
	{"internal/registry", []string{
		"internal/content", "internal/event", "internal/index", "internal/layout", "internal/manifest",
	}},
	{"internal/image", []string{
		"internal/index", "internal/layout",
	}},
	{"internal/inspect/inspecttest", []string{
		"internal/index", "internal/index/indextest", "internal/index/sqlite", "internal/layout", "internal/manifest",
		"internal/tree",
	}},
	{"internal/index/indextest", []string{
		"internal/index", "internal/layout", "internal/manifest", "internal/rule",
	}},
	{"internal/users", []string{
		"internal/credential", "internal/disk", "internal/tree",
	}},
	{"internal/owner", nil},
	{"internal/event", []string{
		"internal/manifest",
	}},
	{"internal/stamp", nil},
	{"internal/ui", nil},
	{"internal/content/files", []string{
		"internal/adopt", "internal/content", "internal/disk", "internal/failpoint", "internal/index",
		"internal/layout", "internal/manifest", "internal/room", "internal/tree",
	}},
	{"internal/room", []string{
		"internal/content",
	}},
	{"internal/content", []string{
		"internal/manifest",
	}},
	{"internal/fsck", []string{
		"internal/adopt", "internal/index", "internal/layout", "internal/manifest", "internal/store",
		"internal/tree",
	}},
	{"internal/store", []string{
		"internal/adopt", "internal/disk", "internal/index", "internal/index/sqlite", "internal/layout",
		"internal/pin", "internal/policy", "internal/reconcile", "internal/tree", "pkg/config",
	}},
	{"internal/reconcile", []string{
		"internal/adopt", "internal/index", "internal/layout", "internal/tree",
	}},
	{"internal/policy", []string{
		"internal/index", "internal/layout", "internal/rule",
	}},
	{"pkg/config", []string{
		"internal/credential", "internal/disk", "internal/nearest", "internal/reuse", "internal/rule",
	}},
	{"internal/nearest", nil},
	{"internal/credential", nil},
	{"internal/adopt", []string{
		"internal/disk", "internal/index", "internal/layout", "internal/manifest", "internal/tree",
	}},
	{"internal/index/sqlite", []string{
		"internal/disk", "internal/failpoint", "internal/index", "internal/layout", "internal/rule",
	}},
	{"internal/pin", []string{
		"internal/disk", "internal/index", "internal/layout",
	}},
	{"internal/tree", []string{
		"internal/disk", "internal/failpoint", "internal/layout", "internal/manifest",
	}},
	{"internal/index", []string{
		"internal/layout", "internal/manifest", "internal/rule",
	}},
	{"internal/users/userstest", nil},
	{"internal/manifest", nil},
	{"internal/rule", nil},
	{"internal/reuse", nil},
	{"internal/layout", nil},
	{"internal/disk", []string{
		"internal/failpoint",
	}},
	{"internal/failpoint", nil},
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
