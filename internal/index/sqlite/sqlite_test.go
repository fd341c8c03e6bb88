package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

func TestConformance(t *testing.T) {
	indextest.RunFiles(t, openFor)
}

func openFor(t *testing.T, place string, mode indextest.Mode, wall func() time.Time) index.Store {
	t.Helper()
	modes := map[indextest.Mode]Mode{indextest.Serve: Serve, indextest.Beside: Beside}
	return open(t, filepath.Join(place, "index.db"), modes[mode], wall)
}

func open(t *testing.T, path string, mode Mode, wall func() time.Time) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, mode, wall)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A repository that is gone leaves nothing in any table, but for the settings and the counters.
func TestNothingOfARemovedRepositoryRemains(t *testing.T) {
	ctx, now := t.Context(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, func() time.Time { return now })
	defer s.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.SetPins(ctx))
	token, err := s.CloseGate(ctx)
	must(err)
	_, err = s.OpenGate(ctx, token)
	must(err)

	d := digest.FromString
	nothing := func() error { return nil }
	manifest := func(name, subject string, refs ...string) index.Claim {
		c := &manifest.Manifest{MediaType: "x"}
		if subject != "" {
			c.Subject = d(subject)
		}
		for _, r := range refs {
			c.References = append(c.References, d(r))
		}
		return index.Claim{Key: layout.ManifestKey("app", d(name)), Size: 5, Manifest: c}
	}
	claims := []index.Claim{manifest("m", "", "l", "absent"), manifest("top", "", "m"), manifest("sig", "m", "l"),
		manifest("r", "", "l"), manifest("circle", "r", "r")}
	for _, name := range []string{"l", "m", "top", "sig", "r", "circle"} {
		claims = append(claims, index.Claim{Key: layout.BlobKey(d(name)), Size: 5})
	}
	for _, c := range append(claims, index.Claim{Key: layout.LayerKey("app", d("l"))}) {
		must(s.Claim(ctx, c))
		must(indextest.Place(ctx, s, c, nothing))
	}
	must(s.Claim(ctx, manifest("refused", "top", "l", "m")))
	must(indextest.MoveTag(ctx, s, "app", "v1", d("top"), nothing))
	must(indextest.MoveTag(ctx, s, "app", "v2", d("sig"), nothing))
	must(indextest.MoveTag(ctx, s, "app", "dangling", d("nothing"), nothing))
	must(s.DeleteManifest(ctx, "app", d("sig"), func([]string) error { return nil }))
	must(s.DeleteTag(ctx, "app", "v1", nothing))

	now = now.Add(time.Hour)
	sweep(t, s)
	for _, table := range tables(t, s) {
		var n int
		ask(t, s, []any{&n}, "SELECT count(*) FROM "+table)
		switch table {
		case "settings":
		case "removals": // which remembers what a client deleted
		case "totals":
			ask(t, s, []any{&n}, "SELECT tags + manifests + blobs + bytes FROM totals")
			fallthrough
		default:
			if n != 0 {
				t.Errorf("%s has %d left", table, n)
			}
		}
	}
	var named int
	ask(t, s, []any{&named}, "SELECT count(*) FROM settings WHERE key LIKE '%app%' OR value LIKE '%app%'")
	if named != 0 {
		t.Errorf("%d settings name the repository", named)
	}
}

// sweep retires what is listed, in the order of a sweeper, until nothing is.
func sweep(t *testing.T, s *Store) {
	t.Helper()
	for took := true; took; {
		var vs []index.Victim
		collect := func(r index.Row) error {
			vs = append(vs, index.Victim{Key: r.Key, UnusedSince: s.Now()})
			return nil
		}
		err := s.View(t.Context(), func(r index.Reader) error {
			errs := []error{r.IdleTags(s.Now(), collect), r.Claims(s.Now(), collect)}
			for _, kind := range []layout.Kind{layout.Manifest, layout.Layer, layout.Blob} {
				errs = append(errs, r.Unreferenced(kind, s.Now(), collect))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			t.Fatal(err)
		}
		took = false
		for len(vs) > 0 {
			all, err := s.RetireAll(t.Context(), vs, func(index.Row) (index.Removed, error) {
				return index.Removed{},
					nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range all {
				took = took || r.Row != nil
			}
			vs = vs[len(all):]
		}
	}
}

func tables(t *testing.T, s *Store) []string {
	t.Helper()
	names := list(t, s, "SELECT name FROM sqlite_master WHERE type = 'table'")
	if len(names) < 6 {
		t.Fatalf("tables %v", names)
	}
	return names
}

// What a push of thousands of layers writes follows how many they are.
func TestAnUploadCostsTheSameHoweverManyCameBefore(t *testing.T) {
	ctx, now := t.Context(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, func() time.Time { return now })
	defer s.Close()
	if err := s.Promise(ctx, index.Policy{Grace: time.Hour, Resolution: time.Minute}); err != nil {
		t.Fatal(err)
	}
	const uploads = 600
	before := rowsWritten(t, s)
	for i := range uploads {
		now = now.Add(100 * time.Millisecond) // all within a resolution
		c := index.Claim{Key: layout.LayerKey("cache", digest.FromString(fmt.Sprint(i))), WithBlob: true,
			UploadStarted: now.Add(-time.Second)}
		if err := errors.Join(s.Claim(ctx, c), indextest.Place(ctx, s, c, func() error { return nil })); err != nil {
			t.Fatal(err)
		}
	}
	// 2 claims of 2 rows, what they hold, counters; and one renewal of all
	if n := rowsWritten(t, s) - before; n > 12*uploads {
		t.Errorf("%d uploads wrote %d rows", uploads, n)
	}
}

// rowsWritten counts the rows that the store's connection has written.
func rowsWritten(t *testing.T, s *Store) (n int64) {
	t.Helper()
	err := s.begin(t.Context(), func(t *tx) (err error) {
		_, err = t.one([]any{&n}, "SELECT total_changes()")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What a rebuild writes for thousands of tags of one manifest follows how many they are, also when each was written
// later than the one before.
func TestTagsOfOneManifestAreAdoptedOnce(t *testing.T) {
	ctx, now := t.Context(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, func() time.Time { return now })
	defer s.Close()
	d, first := digest.FromString("m"), now.Add(-time.Hour)
	looks := []index.Look{func() (index.Adoption, bool, error) {
		return index.Adoption{At: first, Claim: index.Claim{Key: layout.ManifestKey("app", d),
			Manifest: &manifest.Manifest{}}}, true, nil
	}}
	const tags = 250
	for i := range tags {
		a := index.Adoption{At: first.Add(time.Duration(i) * time.Second), Digest: d,
			Claim: index.Claim{Key: layout.TagKey("app", fmt.Sprint(i))}}
		looks = append(looks, func() (index.Adoption, bool, error) { return a, true, nil })
	}
	before := rowsWritten(t, s)
	if err := s.Adopt(ctx, looks...); err != nil {
		t.Fatal(err)
	}
	if n := rowsWritten(t, s) - before; n > 5*tags { // each tag twice, the manifest that it points to, a counter
		t.Errorf("%d tags wrote %d rows", tags, n)
	}
	var tagged, used int
	ask(t, s, []any{&tagged, &used}, "SELECT count(*), count(DISTINCT accessed_at) FROM tags")
	var last int64
	ask(t, s, []any{&last}, "SELECT min(accessed_at) FROM (SELECT accessed_at FROM tags UNION SELECT accessed_at "+
		"FROM manifests)")
	if want := first.Add((tags - 1) * time.Second); tagged != tags || used != 1 || last != want.UnixMilli() {
		t.Errorf("%d tags have %d last uses, the first of %v; want %v", tagged, used, millis(last), want)
	}
}

// A push ends with its tag: of a manifest that was placed a moment ago, and that nothing else lives with.
func TestATagIsPutInFewStatements(t *testing.T) {
	ctx, now := t.Context(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, func() time.Time { return now })
	defer s.Close()
	d, nothing := digest.FromString("m"), func() error { return nil }
	c := index.Claim{Key: layout.ManifestKey("app", d), Manifest: &manifest.Manifest{}, WithBlob: true}
	if err := errors.Join(s.Claim(ctx, c), indextest.Place(ctx, s, c, nothing)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	var statements []string
	told = func(statement string) { statements = append(statements, statement) }
	defer func() { told = nil }()
	if err := indextest.MoveTag(ctx, s, "app", "v1", d, nothing); err != nil {
		t.Fatal(err)
	}
	if len(statements) > 6 { // a beginning, the repository's number, the old row, the manifest, the new row, an end
		t.Errorf("%d statements:\n%s", len(statements), strings.Join(statements, "\n"))
	}
}

// list is the first column of all rows that the index answers to a query.
func list(t *testing.T, s *Store, query string) (lines []string) {
	t.Helper()
	err := s.file.Load().read.view(t.Context(), func(q querier) (err error) {
		lines, err = q.names(query)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// ask scans the first row that the index answers to a query.
func ask(t *testing.T, s *Store, into []any, query string, args ...any) {
	t.Helper()
	err := s.file.Load().read.view(t.Context(), func(q querier) error {
		_, err := q.one(into, query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An index of an older schema is brought to this one by who may change it, and keeps what it knows. Nobody
// else reads it.
func TestAnOlderSchemaIsMigrated(t *testing.T) {
	for _, old := range []int{1, 3, 4} {
		t.Run(fmt.Sprint("from ", old), func(t *testing.T) {
			path, now := filepath.Join(t.TempDir(), "index.db"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			wall := func() time.Time { return now }
			sig := "sha256-" + digest.FromString("m").Encoded() + ".sig"
			makeOld(t, path, old, now, sig)
			for _, mode := range []Mode{Look, Beside} {
				if s, err := Open(t.Context(), path, mode, wall); !errors.Is(err, index.ErrOlder) {
					t.Errorf("mode %d: %v", mode, errors.Join(err, s.Close()))
				}
			}
			copied, err := OpenCopy(t.Context(), path, t.TempDir(), wall) // as inspect does where no server runs
			if err != nil || copied.ID() != "0123" {
				t.Fatalf("its copy: %v", err)
			}
			if err := copied.Close(); err != nil {
				t.Fatal(err)
			}
			s := open(t, path, Serve, wall)
			defer s.Close()
			if s.ID() != "0123" {
				t.Errorf("its id is %s", s.ID())
			}
			blob := func(name string, size int64) index.Row {
				return index.Row{Key: layout.BlobKey(digest.FromString(name)), Digest: digest.FromString(name),
					Size: size, Disk: 8192, Placed: true, CreatedAt: now, AccessedAt: now}
			}
			tag := func(name string) index.Row { // which was used when its manifest was
				return index.Row{Key: layout.TagKey("web", name), Digest: digest.FromString("m"), Placed: true,
					CreatedAt: now, AccessedAt: now.Add(3 * time.Millisecond)}
			}
			want := []index.Row{blob("l", 5), blob("m", 7),
				{Key: layout.LayerKey("app", digest.FromString("l")), Digest: digest.FromString("l"), Placed: true,
					CreatedAt: now, AccessedAt: now.Add(1 * time.Millisecond)},
				{Key: layout.LayerKey("web", digest.FromString("l")), Digest: digest.FromString("l"), CreatedAt: now,
					AccessedAt: now.Add(2 * time.Millisecond)},
				{Key: layout.ManifestKey("web", digest.FromString("m")), Digest: digest.FromString("m"), Size: 7,
					Placed: true, MediaType: "x", Artifact: "y",
					Config: digest.FromString("l"), Subject: digest.FromString("s"), CreatedAt: now, AccessedAt: now.Add(3 * time.Millisecond)},
				tag(sig), tag("v1")}
			err = s.View(t.Context(), func(r index.Reader) error {
				var got []index.Row
				for _, kind := range []layout.Kind{layout.Blob, layout.Layer, layout.Manifest, layout.Tag} {
					if err := r.Each(kind, func(row index.Row) error {
						got = append(got, row)
						return nil
					}); err != nil {
						return err
					}
				}
				slices.SortFunc(want[:2], func(a, b index.Row) int {
					return strings.Compare(a.Digest.String(),
						b.Digest.String())
				})
				if !reflect.DeepEqual(got, want) {
					t.Errorf("it has\n%v\nwant\n%v", got, want)
				}
				totals, err := r.Totals()
				if want := (index.Totals{Tags: 2, Manifests: 1, Blobs: 2, Bytes: 12}); totals != want {
					t.Errorf("totals %v, want %v", totals, want)
				}
				failed := r.ListBlobs(index.BlobListing{Images: true}, func(b index.Blob) error {
					if b.Digest == digest.FromString("l") && (b.Manifests != 1 || len(b.Images) != 1 ||
						b.Images[0].Repository != "web") {
						t.Errorf("its layer is %+v", b)
					}
					return nil
				})
				return errors.Join(err, failed)
			})
			if err != nil {
				t.Fatal(err)
			}
			var about string
			ask(t, s, []any{&about}, "SELECT group_concat(name) FROM tags WHERE subject = ?",
				packed(digest.FromString("m")))
			if about != sig {
				t.Errorf("tags about the manifest: %q", about)
			}
			fresh := open(t, path+"2", Serve, wall)
			defer fresh.Close()
			if got, want := schemaOf(t, s), schemaOf(t, fresh); !slices.Equal(got, want) {
				t.Errorf("its schema is\n%v\nnot\n%v", got, want)
			}
		})
	}
}

// Who died before an index had its tables left a file that knows nothing, not an index without content.
func TestAnEmptyFileIsNoIndexToLookAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), path, Look, time.Now); !errors.Is(err, index.ErrCorrupt) {
		t.Errorf("%v", errors.Join(err, s.Close()))
	}
	s := open(t, path, Serve, time.Now)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// makeOld makes an index as an earlier version left it: of a repository with an image, and of one with a layer.
func makeOld(t *testing.T, path string, schema int, now time.Time, sig string) {
	t.Helper()
	script, err := os.ReadFile(fmt.Sprintf("testdata/schema-%d.sql", schema))
	if err != nil {
		t.Fatal(err)
	}
	c, err := connect(uri(path, nil), sqlite.OpenReadWrite|sqlite.OpenCreate, "journal_mode = WAL")
	if err == nil {
		err = sqlitex.ExecuteScript(c.Conn, string(script), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	q, at := querier{c}, now.UnixMilli()
	l, m := packed(digest.FromString("l")), packed(digest.FromString("m"))
	insert := func(query string, args ...any) { err = errors.Join(err, q.exec(query, args...)) }
	app, web := any("app"), any("web")
	if schema > 3 {
		app, web = 1, 2
		insert(`INSERT INTO repositories VALUES (1, 'app'), (2, 'web')`)
	}
	insert(`INSERT INTO settings VALUES ('id', '"0123"'), ('gate', '"open"'), ('promise', '{}')`)
	insert(`INSERT INTO blobs VALUES (?1, 5, 1, 1, ?3, ?3), (?2, 7, 1, 1, ?3, ?3)`, l, m, at)
	insert(`INSERT INTO layers (digest, repo, placed, held, created_at, accessed_at) VALUES (?1, ?3, 1, 0, ?2, ?2 + 1), (?1, ?4, 0, 1, ?2, ?2 + 2)`, l, at, app, web)
	insert(`INSERT INTO manifests VALUES (?1, ?5, 'x', 'y', ?2, ?3, 7, 1, 1, 0, ?4, ?4 + 3)`, m, l,
		packed(digest.FromString("s")), at, web)
	insert(`INSERT INTO refs VALUES (?, ?, ?)`, m, web, l)
	insert(`INSERT INTO tags (repo, name, digest, created_at, accessed_at) VALUES (?5, ?1, ?3, ?4, ?4), (?5, ?2, ?3, ?4, ?4)`, sig, "v1", m, at, web)
	if schema > 2 {
		insert(`UPDATE tags SET subject = ? WHERE name = ?`, m, sig)
	}
	insert(fmt.Sprintf("PRAGMA user_version = %d", schema))
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
}

// An index of schema 4 had the own last uses of manifests and tags, marked what closed a circle, and kept promises in a
// setting.
func TestAMigrationWritesEffectiveLastUses(t *testing.T) {
	ctx, path, now := t.Context(), filepath.Join(t.TempDir(), "index.db"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	wall := func() time.Time { return now }
	d := func(name string) packed { return packed(digest.FromString(name)) }
	makeOld(t, path, 4, now, "sha256-"+digest.FromString("m").Encoded()+".sig")
	c, err := connect(uri(path, nil), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	q, at := querier{c}, now.UnixMilli()
	insert := func(query string, args ...any) { err = errors.Join(err, q.exec(query, args...)) }
	manifest := func(name, subject string, used int64, loop bool) {
		var s packed
		if subject != "" {
			s = d(subject)
		}
		insert(`INSERT INTO manifests VALUES (?, 2, 'x', '', NULL, ?, 1, 1, 1, ?, ?, ?)`, d(name), s, loop, at, at+used)
	}
	manifest("top", "", 1000, false) // an index over m, with the referrers of the referrers of that
	insert(`INSERT INTO refs VALUES (?, 2, ?)`, d("top"), d("m"))
	manifest("sbom", "m", 5, false)
	manifest("of sbom", "sbom", 6, false)
	// a use of the tag is one of what it points to
	insert(`INSERT INTO tags VALUES (2, 'of-sbom', ?1, ?2, ?2 + 2000, NULL)`, d("of sbom"), at)
	manifest("r", "", 7, true)
	manifest("i", "r", 8, false)
	insert(`INSERT INTO refs VALUES (?, 2, ?)`, d("i"), d("r"))
	insert(`UPDATE settings SET value = ? WHERE key = 'promise'`,
		`{"policy":{"TTL":86400000000000,"Grace":3600000000000,"Resolution":60000000000},"beat":"2026-01-01T00:00:00Z",
		"debts":[{"TTL":0,"Grace":7200000000000,"Resolution":1000000000,"beat":"2025-12-31T23:59:00Z"}]}`)
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Serve, wall)
	defer s.Close()
	err = s.View(ctx, func(r index.Reader) error {
		used := func(k layout.Key, want int64) {
			row, err := r.Row(k)
			if err != nil || row == nil || row.AccessedAt.UnixMilli() != at+want ||
				row.Detached != (k.Digest == digest.FromString("i")) {
				t.Errorf("%v: %+v, %v; want it used %d ms later", k, row, err, want)
			}
		}
		for name, want := range map[string]int64{"top": 1000, "m": 1000, "sbom": 1000, "of sbom": 2000, "i": 8,
			"r": 8} {
			used(layout.ManifestKey("web", digest.FromString(name)), want)
		}
		for name, want := range map[string]int64{"v1": 1000, "sha256-" + digest.FromString("m").Encoded() +
			".sig": 1000, "of-sbom": 2000} {
			used(layout.TagKey("web", name), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	last, owed, ok, err := s.Promised(ctx)
	if want := (index.Policy{TTL: 24 * time.Hour, Grace: time.Hour, Resolution: time.Minute,
		GoneFor: 30 * 24 * time.Hour}); err != nil || !ok || !reflect.DeepEqual(last, want) {
		t.Errorf("promised last: %v, %v, %v; want %v", last, ok, err, want)
	}
	if want := (index.Policy{Grace: 2 * time.Hour, Resolution: time.Minute}); !reflect.DeepEqual(owed, want) {
		t.Errorf("owed: %v; want %v", owed, want)
	}
	now = now.Add(time.Hour)
	if _, err := s.Lease(ctx, layout.ManifestKey("web", digest.FromString("top"))); err != nil {
		t.Fatal(err)
	}
	var old int
	ask(t, s, []any{&old}, "SELECT count(*) FROM manifests WHERE accessed_at < ?", now.UnixMilli())
	if old != 2 { // the two that are not of that index
		t.Errorf("%d manifests were not used with the index over them", old)
	}
}

// schemaOf is what tables, indexes and triggers an index has.
func schemaOf(t *testing.T, s *Store) []string {
	t.Helper()
	return list(t, s, "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_master ORDER BY type, name")
}

// What a server promised ends with its grace, also when nothing but gc runs look after its store.
func TestAPromiseEndsWithoutItsServer(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "index.db"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	wall := func() time.Time { return now }
	s := open(t, path, Serve, wall)
	err := errors.Join(s.Promise(t.Context(), index.Policy{Grace: 2 * time.Hour, Resolution: time.Minute}),
		s.Beat(t.Context()), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Duration{2 * time.Hour, 2 * time.Hour, 0} {
		now = now.Add(50 * time.Minute)
		s := open(t, path, alone, wall)
		err := s.Beat(t.Context())
		_, owed, ok, failed := s.Promised(t.Context())
		if err := errors.Join(err, failed, s.Close()); err != nil || !ok || owed.Grace != want {
			t.Errorf("%s: owed %s, %t, %v; want %s", now.Format(time.TimeOnly), owed.Grace, ok, err, want)
		}
	}
}

// A gc that found no server migrates nothing once a server of the older version has come.
func TestAnOlderServersIndexIsNotMigratedBeneathIt(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "index.db"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	makeOld(t, path, 4, now, "")
	wall, served, asked := func() time.Time { return now }, true, 0
	ask := func() (bool, error) { asked++; return served, nil }
	if s, err := OpenAlone(t.Context(), path, wall, ask); !errors.Is(err, index.ErrOlder) {
		t.Fatalf("%v, %v", s, err)
	}
	c, err := connect(uri(path, nil), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	v, err := readVersion(querier{c})
	if err := errors.Join(err, c.Close()); err != nil || v != 4 {
		t.Errorf("schema %d, %v", v, err)
	}
	served = false
	for range 2 { // the second finds this version's schema, and has nothing to ask
		s, err := OpenAlone(t.Context(), path, wall, ask)
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

// A server that is killed and started again, as often as its supervisor likes, leaves one row for each policy.
func TestRestartsLeaveNoRowsOfServers(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "index.db"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 20 {
		now = now.Add(time.Second)
		s := open(t, path, Serve, func() time.Time { return now })
		grace := time.Duration(1+i%2) * time.Hour
		if err := s.Promise(t.Context(), index.Policy{Grace: grace, Resolution: time.Minute}); err != nil {
			t.Fatal(err)
		}
		var rows int
		ask(t, s, []any{&rows}, "SELECT count(*) FROM servers")
		if err := s.Close(); err != nil || rows > 2 {
			t.Fatalf("%d rows after %d starts, %v", rows, i+1, err)
		}
	}
}

// A start may replace the row of a server that lives: its next heartbeat writes the row again.
func TestAServerThatLivesOwesWhateverOthersStart(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "index.db"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	promise := func(grace time.Duration) *Store {
		s := open(t, path, Serve, func() time.Time { return now })
		t.Cleanup(func() { _ = s.Close() })
		if err := s.Promise(t.Context(), index.Policy{Grace: grace, Resolution: time.Minute}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	promise(2 * time.Hour) // it is killed
	short := promise(time.Hour)
	promise(2 * time.Hour) // it replaces both rows, and is killed
	for range 12 {
		now = now.Add(time.Hour / 2)
		if err := short.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, owed, _, err := short.Promised(t.Context()); err != nil || owed.Grace != time.Hour {
		t.Errorf("owed %s, %v; want 1h", owed.Grace, err)
	}
}

// A server whose new promise could not be recorded goes on with the earlier one, and renews it.
func TestAServerRenewsWhatItPromisedWhereMoreFails(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, func() time.Time { return now })
	defer s.Close()
	ctx, long := t.Context(), index.Policy{Grace: time.Hour, Resolution: time.Minute}
	script := func(script string) {
		t.Helper()
		if err := s.begin(ctx, func(t *tx) error { return t.script(script) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Promise(ctx, long); err != nil {
		t.Fatal(err)
	}
	script("CREATE TRIGGER full BEFORE UPDATE ON settings BEGIN SELECT RAISE (ABORT, 'full'); END")
	if err := s.Promise(ctx, index.Policy{Grace: time.Minute, Resolution: time.Second}); err == nil {
		t.Fatal("it was recorded")
	}
	script("DROP TRIGGER full")
	for range 3 {
		now = now.Add(time.Hour)
		_, owed, _, failed := s.Promised(ctx)
		if err := errors.Join(s.Beat(ctx), failed); err != nil || owed.Grace != long.Grace {
			t.Errorf("%s: owed %s, %v", now.Format(time.TimeOnly), owed.Grace, err)
		}
	}
}

func TestAnIndexOfANewerVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	s, err := Open(t.Context(), path, Serve, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	err = s.begin(t.Context(), func(t *tx) error {
		return t.exec(fmt.Sprintf("PRAGMA user_version = %d", version+1))
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{Serve, alone, Beside, Look} {
		if s, err := Open(t.Context(), path, mode, time.Now); !errors.Is(err, index.ErrNewer) {
			t.Errorf("mode %d: %v", mode, errors.Join(err, s.Close()))
		}
	}
}

// Schemas 5 and 6 have the same tables: the second may have rules, which a version that knows only the first would not
// keep.
func TestAnIndexOfSchemas5And6KeepsEverything(t *testing.T) {
	for _, old := range []int{5, 6} {
		path := filepath.Join(t.TempDir(), "index.db")
		makeSchema6(t, path, old, 100)
		s := open(t, path, Serve, time.Now)
		id, err := readSetting[string](t.Context(), s, "id")
		var v int
		failed := s.begin(t.Context(), func(t *tx) (err error) {
			v, err = readVersion(t.querier)
			return err
		})
		if err := errors.Join(err, failed); err != nil || id != "kept" || v != version {
			t.Errorf("id %q, schema %d, %v", id, v, err)
		}
		fresh := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, time.Now)
		if got, want := schemaOf(t, s), schemaOf(t, fresh); !slices.Equal(got, want) {
			t.Errorf("it has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if err := errors.Join(s.Close(), fresh.Close()); err != nil {
			t.Error(err)
		}
	}
}

// makeSchema6 makes an index that ended cleanly, with so many blobs, links and tags of one repository.
func makeSchema6(t *testing.T, path string, v, rows int) {
	t.Helper()
	script, err := os.ReadFile("testdata/schema-6.sql")
	if err != nil {
		t.Fatal(err)
	}
	c, err := connect(uri(path, nil), sqlite.OpenReadWrite|sqlite.OpenCreate, "journal_mode = WAL")
	if err != nil {
		t.Fatal(err)
	}
	q := querier{c}
	err = errors.Join(q.script(string(script)), q.set("id", "kept"), q.set("clean", "marked"),
		q.exec("INSERT INTO repositories VALUES (1, 'app')"), q.exec("INSERT INTO servers VALUES (1, 0, ?, 0, 5, 5)", int64(time.Hour)))
	for i := range rows {
		d := packed(digest.FromString(fmt.Sprint(i)))
		err = errors.Join(err, q.exec("INSERT INTO blobs VALUES (?, ?, 1, 1, 5, 5)", d, i*1000),
			q.exec("INSERT INTO layers VALUES (?, 1, 1, 0, 5, 5, NULL)", d),
			q.exec("INSERT INTO tags VALUES (1, ?, ?, 5, 5, NULL)", fmt.Sprint("v", i), d))
	}
	err = errors.Join(err, q.exec(fmt.Sprintf("PRAGMA user_version = %d", v)), c.Close())
	if err != nil {
		t.Fatal(err)
	}
}

func TestAMigrationCountsNoLessThanDuShows(t *testing.T) {
	const rows = 500
	path := filepath.Join(t.TempDir(), "index.db")
	makeSchema6(t, path, 6, rows)
	s := open(t, path, Serve, time.Now)
	defer s.Close()
	if mark, err := s.Clean(t.Context()); mark != "" || err != nil {
		t.Errorf("the mark is %q, %v: no comparison would look at the disk", mark, err)
	}
	var least int64
	for i := range int64(rows) { // whole blocks, and a directory
		least += (i*1000+4095)/4096*4096 + 4096
		if i*1000 > 4*4096 { // and one that says where the others are
			least += 4096
		}
	}
	var got index.Footprint
	if err := s.View(t.Context(), func(r index.Reader) (err error) {
		got, err = r.Footprint()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var blobs int64
	ask(t, s, []any{&blobs}, "SELECT sum(disk) FROM blobs")
	// the lists of 500 links and as many tags take some blocks, and 258 directories of blobs one or two each
	if got.Links != rows || got.Tags != rows || blobs < least || blobs > least+4096*rows/50 ||
		got.Bytes < blobs+300*4096 || got.Bytes > blobs+600*4096 {
		t.Errorf("%+v, of which blobs take %d; want %d", got, blobs, least)
	}
}
