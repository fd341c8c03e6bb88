package sqlite

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// flatEnough are the steps of plans that look at more than a key's rows: in which function, and why that is right.
var flatEnough = []struct{ function, step, why string }{
	{"querier.leave", `SEARCH (tags USING PRIMARY KEY|manifests USING COVERING INDEX manifests_repo|layers USING COVERING INDEX layers_accessed) \(repo=\?\)`,
		"EXISTS ends at the first row"},
	{"(*reader).HasRepository", `SEARCH (manifests USING COVERING INDEX manifests_repo|layers USING COVERING INDEX layers_accessed) \(repo=\?\)`,
		"EXISTS ends at the first row"},
	{"(*tx).noteSignature", `SEARCH manifests USING (PRIMARY KEY|INDEX manifests_repo) \((repo=\? AND )?digest>\? AND digest<\?\)`, "all that begin as one digest"},
	{"(*tx).renewPush", `SEARCH layers USING INDEX layers_accessed \(repo=\? AND accessed_at>\? AND accessed_at<\?\)`,
		"the links that were in lease when an upload began, once a resolution"},
	{"(*reader).IdleTags", `SEARCH m USING INDEX tags_accessed \(accessed_at<\?\)`, "what it lists may go"},
	{"(*reader).EachTag", `SEARCH m USING PRIMARY KEY \(repo=\?\)`, "it lists all of a repository"},
	{"(*reader).About", `SEARCH m USING PRIMARY KEY \(digest>\? AND digest<\?\)`, "all that begin as one digest"},
	{"(*reader).Unreferenced", `SEARCH m USING INDEX (layers|blobs)_unreferenced \(accessed_at<\?\)`,
		"what it lists may go"},
	{"(*reader).Unreferenced", `SEARCH m USING INDEX manifests_unreferenced \(placed=\? AND accessed_at<\?\)`,
		"what it lists may go"},
	{"(*reader).Claims", `SEARCH m USING INDEX manifests_unreferenced \(placed=\? AND accessed_at<\?\)`,
		"what it lists may go"},
	{"(*tx).oldestAbout", `SEARCH m USING INDEX tags_about \(subject=\? AND accessed_at<\?\)`,
		"the first, in the order of the tree"},
	{"(*tx).lastOwner", `SCAN manifests USING COVERING INDEX manifests_latest`, "manyOwners of them"},
	{"(*tx).linksBeside", `SCAN named`, "mostBeside of them"},
	{"querier.leave", `SEARCH pins USING PRIMARY KEY \(repo=\?\)`, "EXISTS ends at the first row"},
	{"(*Store).SetPins", `SCAN p`, "it compares all"},
	{"(*reader).Pins", `SCAN p`, "it lists all"},
	{"(*Store).checkPins", `SEARCH p USING INDEX pins_until \(until>\? AND until<\?\)`, "those that have ended"},
	{"(*tx).staysWithPinned", `SCAN pins EXISTS`, "EXISTS ends at the first row"},
	{"(*tx).staysWithPinned", `SEARCH (i|manifests) USING PRIMARY KEY \(digest>\? AND digest<\?\)`,
		"all that begin as one digest"},
	{"querier.servers", `SCAN servers`, "one row for each server that owes something"},
	{"(*tx).migrateCircles", `SCAN m`, "once, when a schema is migrated"},
	{"(*tx).migrateRecency", `SEARCH manifests USING INDEX manifests_latest \(\(accessed_at,digest,repo\)<\(\?,\?,\?\)\)`,
		"the next, in the order of the tree"},
	{"(*reader).ReferrersAfter", `SEARCH m USING INDEX manifests_subject \(subject=\? AND repo=\? AND digest>\?\)`,
		"a page, in the order of the tree"},
	{"(*reader).Names", `SEARCH tags USING PRIMARY KEY \(repo=\? AND name>\?\)`, "a page, in the order of the tree"},
	{"(*reader).Repositories", `SEARCH r USING COVERING INDEX sqlite_autoindex_repositories_1 \(name>\?\)`,
		"a page, in the order of the tree"},
	{"(*reader).Repositories", `SEARCH manifests( EXISTS)? USING COVERING INDEX manifests_repo \(repo=\?\)`,
		"EXISTS ends at the first row"},
	{"(*reader).Totals", `SCAN totals`, "it has one row"},
	{"(*reader).Footprint", `SCAN totals`, "it has one row"},
	{"(*reader).EachDirectory", `SCAN directories`, "it lists all"},
	{"(*reader).Each", `SCAN m( USING INDEX tags_digest)?`, "it lists all"},
	{"(*reader).ListImages", `SCAN m`, "it lists all"},
	{"(*reader).ListTags", `SCAN m`, "it lists all"},
	{"querier.allBlobs", `SCAN (m|layers|refs USING COVERING INDEX refs_child)`, "it lists all"},
	{"querier.nested", `SEARCH m USING INDEX manifests_subject \(subject>\?\)`,
		"all that have a subject, for a list of all"},
	{"(*reader).ListRepositories", `SCAN r`, "it lists all"},
	{"(*reader).ListRepositories", `SEARCH (m USING INDEX manifests_repo|tags USING PRIMARY KEY) \(repo=\?\)( LEFT-JOIN)?`, "it lists all"},
	{"(*reader).ListRepositories", `SEARCH layers USING COVERING INDEX layers_accessed \(repo=\?\)`,
		"max is the last row"},
	{"(*reader).ListImages", `SCAN m USING INDEX manifests_latest`,
		"read as far as rows are wanted, in the order of the tree"},
	{"(*reader).ListTags", `SCAN m USING INDEX tags_accessed`,
		"read as far as rows are wanted, in the order of the tree"},
	{"(*tx).remember", `SEARCH removals USING INTEGER PRIMARY KEY \(rowid<\?\)`, "as many as were added"},
	{"(*Store).NoteRun", `SEARCH runs USING INTEGER PRIMARY KEY \(rowid<\?\)`, "as many as were added"},
	{"(*Store).Forget", `SCAN (removals|runs)`, "forgottenAtOnce of them, in the order of the tree"},
	{"(*Store).Forget", `SEARCH pulls USING INTEGER PRIMARY KEY \(rowid<\?\)`,
		"forgottenAtOnce of them, in the order of the tree"},
	{"(*reader).Removals", `SCAN removals`, "read as far as rows are wanted, in the order of the tree"},
	{"(*reader).RunHistory", `SCAN runs`, "read as far as rows are wanted, in the order of the tree"},
	{"(*reader).PullHistory", `SCAN pulls`, "read as far as rows are wanted, in the order of the tree"},
	{"querier.latestBlobs", `SCAN m USING INDEX (manifests_latest|layers_unreferenced|blobs_unreferenced)`,
		"read as far as rows are wanted, in the order of the tree"},
}

// runners pass a statement on to SQLite, which is this argument of theirs.
var runners = map[string]int{"query": 0, "exec": 0, "exists": 0, "changed": 0, "names": 0, "children": 0, "begin": 0,
	"raise": 0, "readOwner": 0, "each": 1, "one": 1, "list": 1, "first": 1, "leaseContent": 1, "follow": 1, "rows": 2, "walk": 2, "pins": 0,
	"collect": 2, "listed": 1}

// The cost of a statement follows the rows that it is asked for, and never the size of a repository or of the
// store, whatever SQLite would rather do: its plans are looked at, those of all statements.
func TestEveryStatementFindsItsRowsByAKey(t *testing.T) {
	old := filepath.Join(t.TempDir(), "index.db")
	makeOld(t, old, 4, time.Now(), "v2")
	seen := listen(t)
	t.Run("laws", func(t *testing.T) { indextest.Laws(t, openFor) })
	readAll(t)
	if err := open(t, old, Serve, time.Now).Close(); err != nil {
		t.Fatal(err)
	}
	told = nil

	for _, place := range runs(t) {
		if !seen.run(place) {
			t.Errorf("%s: no statement was run here: let this test run it", place)
		}
	}
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, time.Now)
	defer s.Close()
	used := map[int]bool{}
	limited := regexp.MustCompile(`LIMIT ([0-9]+|\S+ \+\s+0)$`)
	for statement, functions := range seen.statements {
		for _, step := range steps(t, s, statement) {
			sorts := strings.HasPrefix(step, "USE TEMP B-TREE FOR ") && strings.HasSuffix(step, "ORDER BY")
			if flat(step) && !(sorts && limited.MatchString(statement)) { // which would read all to find the first
				continue
			}
			i := slices.IndexFunc(flatEnough, func(e struct{ function, step, why string }) bool {
				return functions[e.function] && regexp.MustCompile("^"+e.step+"$").MatchString(step)
			})
			if i < 0 {
				t.Errorf("%s\n\tin\n%s", step, statement)
			}
			used[i] = true
		}
	}
	for i, e := range flatEnough {
		if !used[i] {
			t.Errorf("%s: no plan has %s any more", e.function, e.step)
		}
	}
}

// flat says whether a step of a plan looks at the rows of a key, or at what the statement itself made.
func flat(step string) bool {
	if by := regexp.MustCompile(`^SEARCH .*?\((.*)\)(?: LEFT-JOIN)?$`).FindStringSubmatch(step); by != nil {
		return !strings.Contains(step, "AUTOMATIC") && by[1] != "repo=?" && !strings.ContainsAny(by[1], "<>")
	}
	scan, ok := strings.CutPrefix(step, "SCAN ")
	return !ok || slices.Contains([]string{"CONSTANT ROW", "above", "below", "naming", "latest", "v", "gone",
		fmt.Sprintf("%d-ROW VALUES CLAUSE", setSize)}, scan) ||
		strings.HasPrefix(scan, "(subquery")
}

// steps is how SQLite would answer a statement. It has no statistics, so the rows do not matter.
func steps(t *testing.T, s *Store, statement string) []string {
	t.Helper()
	if regexp.MustCompile("^(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|PRAGMA)").MatchString(statement) {
		return nil
	}
	var plan []string
	err := s.file.Load().read.view(t.Context(), func(q querier) error {
		return q.each(func(a *answer) error {
			plan = append(plan, a.st.ColumnText(3))
			return nil
		}, "EXPLAIN QUERY PLAN "+statement)
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	return plan
}

// heard is which statements were run, by which functions, and from which lines.
type heard struct {
	mu         sync.Mutex // guards the rest
	statements map[string]map[string]bool
	lines      map[string]map[int]bool
}

func listen(t *testing.T) *heard {
	h := &heard{statements: map[string]map[string]bool{}, lines: map[string]map[int]bool{}}
	told = h.hear
	t.Cleanup(func() { told = nil })
	return h
}

func (h *heard) hear(statement string) {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers[:])])
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.statements[statement] == nil {
		h.statements[statement] = map[string]bool{}
	}
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		_, name, ours := strings.Cut(f.Function, "/internal/index/sqlite.")
		if !ours {
			continue
		}
		name, _, _ = strings.Cut(name, ".func")
		h.statements[statement][name] = true
		file := filepath.Base(f.File)
		if h.lines[file] == nil {
			h.lines[file] = map[int]bool{}
		}
		h.lines[file][f.Line] = true
	}
}

// place is a call of a runner.
type place struct {
	file     string
	from, to int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.from) }

func (h *heard) run(p place) bool {
	for line := p.from; line <= p.to; line++ {
		if h.lines[p.file][line] {
			return true
		}
	}
	return false
}

// runs are all places in the package where a statement is run. What passes on statements of its caller has to be
// a runner, or there would be statements that nobody looks for.
func runs(t *testing.T) (all []place) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	for _, name := range files {
		// a sorter has a file of its own, and reads all of it
		if strings.HasSuffix(name, "_test.go") || name == "sorter.go" {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if strings.HasPrefix(called(call), "Prep") && fn.Name.Name != "query" {
					t.Errorf("%s: only query prepares statements", fn.Name.Name)
				}
				i, ok := runners[called(call)]
				if !ok || i >= len(call.Args) {
					return true
				}
				if called(call) == "begin" && len(call.Args) > 1 {
					return true // a Store's, which takes none
				}
				p := place{name, set.Position(call.Pos()).Line, set.Position(call.End()).Line}
				if _, known := runners[fn.Name.Name]; !known && mentions(call.Args[i], fn.Type.Params) {
					t.Errorf("%s: %s passes statements on, and is not in the list of runners", p, fn.Name.Name)
				}
				all = append(all, p)
				return true
			})
		}
	}
	if len(all) < 60 {
		t.Fatalf("only %d places run a statement", len(all))
	}
	return all
}

func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// mentions says whether an argument is, or is made with, a parameter of its function that is text.
func mentions(arg ast.Expr, params *ast.FieldList) (yes bool) {
	texts := map[string]bool{}
	for _, p := range params.List {
		if id, ok := p.Type.(*ast.Ident); ok && id.Name == "string" {
			for _, n := range p.Names {
				texts[n.Name] = true
			}
		}
	}
	ast.Inspect(arg, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		yes = yes || ok && texts[id.Name]
		return !yes
	})
	return yes
}

// readAll asks everything that an index can be asked, of one that has something of everything.
func readAll(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, time.Now)
	defer s.Close()
	d, nothing := digest.FromString, func() error { return nil }
	m := index.Claim{Key: layout.ManifestKey("app", d("m")), Manifest: &manifest.Manifest{Subject: d("s"),
		References: []digest.Digest{d("l")}}, WithBlob: true}
	untagged := index.Claim{Key: layout.ManifestKey("app", d("untagged")),
		Manifest: &manifest.Manifest{Subject: d("host")}, WithBlob: true}
	host := index.Claim{Key: layout.ManifestKey("app", d("host")), Manifest: &manifest.Manifest{}}
	parent := index.Claim{Key: layout.ManifestKey("app", d("parent")),
		Manifest: &manifest.Manifest{References: []digest.Digest{d("untagged")}}}
	var links []index.Look
	for i := range 32 {
		a := index.Adoption{Claim: index.Claim{Key: layout.LayerKey("app", d(fmt.Sprint(i))), WithBlob: true}}
		links = append(links, func() (index.Adoption, bool, error) { return a, true, nil })
	}
	err := errors.Join(indextest.Place(ctx, s, m, nothing), indextest.MoveTag(ctx, s, "app", "v1", d("m"), nothing), s.Adopt(ctx, links...),
		indextest.Place(ctx, s, untagged, nothing), s.Claim(ctx, host), s.Claim(ctx, parent), indextest.MoveTag(ctx, s, "app", "v2",
			d("parent"), nothing))
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(ctx, func(r index.Reader) error {
		_, e1 := r.Totals()
		_, e2 := r.References("app", d("m"))
		_, e3 := r.Owners(d("l"), 1)
		_, e11 := r.Referrers("app", d("s"))
		_, e13 := r.ReferrersAfter("app", d("s"), "", "", 1)
		_, e12 := r.Parents("app", d("l"), 0)
		for _, ks := range [][]layout.Key{{layout.BlobKey(d("m"))}, {layout.BlobKey(d("m")), layout.BlobKey(d("l"))},
			{layout.LayerKey("app", d("1")), layout.LayerKey("app", d("2"))},
			{layout.ManifestKey("app", d("m")), layout.ManifestKey("app", d("host"))}} {
			if err := r.Rows(ks, 1, func(index.Row, int) error { return nil }); err != nil {
				return err
			}
		}
		_, e6 := r.Names("app", "", 1)
		_, e7 := r.Repositories("", 1)
		_, e8 := r.HasRepository("app")
		for _, latest := range []int{0, 100} {
			err := errors.Join(r.ListImages(latest, func(index.Image) error { return nil }),
				r.ListTags(latest, func(index.Image) error { return nil }), r.ListBlobs(
					index.BlobListing{Latest: latest},
					func(index.Blob) error { return nil }))
			if err != nil {
				return err
			}
		}
		e4 := r.ListRepositories(func(index.Repository) error { return nil })
		return errors.Join(e1, e2, e3, e4, e6, e7, e8, e11, e12, e13)
	})
	if err != nil {
		t.Fatal(err)
	}
}
