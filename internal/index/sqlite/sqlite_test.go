package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
)

func TestConformance(t *testing.T) {
	indextest.Run(t, func(t *testing.T, place string, mode indextest.Mode, wall func() time.Time) index.Store {
		t.Helper()
		modes := map[indextest.Mode]Mode{indextest.Serve: Serve, indextest.Beside: Beside}
		return open(t, filepath.Join(place, "index.db"), modes[mode], wall)
	})
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
	token, err := s.CloseGate(ctx)
	must(err)
	_, err = s.OpenGate(ctx, token)
	must(err)

	d := digest.FromString
	nothing := func() error { return nil }
	manifest := func(name, subject string, refs ...string) index.Claim {
		c := &index.Content{MediaType: "x"}
		if subject != "" {
			c.Subject = d(subject)
		}
		for _, r := range refs {
			c.References = append(c.References, d(r))
		}
		return index.Claim{Key: index.ManifestKey("app", d(name)), Size: 5, Content: c}
	}
	claims := []index.Claim{manifest("m", "", "l", "absent"), manifest("top", "", "m"), manifest("sig", "m", "l"),
		manifest("r", "", "l"), manifest("circle", "r", "r")}
	for _, name := range []string{"l", "m", "top", "sig", "r", "circle"} {
		claims = append(claims, index.Claim{Key: index.BlobKey(d(name)), Size: 5})
	}
	for _, c := range append(claims, index.Claim{Key: index.LayerKey("app", d("l"))}) {
		must(s.Claim(ctx, c))
		must(s.Place(ctx, c, nothing))
	}
	must(s.Claim(ctx, manifest("refused", "top", "l", "m")))
	must(s.MoveTag(ctx, "app", "v1", d("top"), nothing))
	must(s.MoveTag(ctx, "app", "v2", d("sig"), nothing))
	must(s.MoveTag(ctx, "app", "dangling", d("nothing"), nothing))
	must(s.DeleteManifest(ctx, "app", d("sig"), func([]string) error { return nil }))
	must(s.DeleteTag(ctx, "app", "v1", nothing))

	now = now.Add(time.Hour)
	sweep(t, s, index.Cutoffs{Names: s.Now(), Content: s.Now()})
	for _, table := range tables(t, s) {
		var n int
		ask(t, s, []any{&n}, "SELECT count(*) FROM "+table)
		switch table {
		case "settings":
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
func sweep(t *testing.T, s *Store, cut index.Cutoffs) {
	t.Helper()
	for took := true; took; {
		var keys []index.Key
		collect := func(r index.Row) error {
			keys = append(keys, r.Key)
			return nil
		}
		err := s.View(t.Context(), func(r index.Reader) error {
			errs := []error{r.IdleTags(cut.Names, collect)}
			for _, kind := range []index.Kind{index.Manifest, index.Layer, index.Blob} {
				errs = append(errs, r.Loose(kind, index.Cutoffs{Names: cut.Content, Content: cut.Content}, collect))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			t.Fatal(err)
		}
		took = false
		for _, k := range keys {
			gone, err := s.Retire(t.Context(), k, cut, func([]index.Row) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			took = took || len(gone) > 0
		}
	}
}

func tables(t *testing.T, s *Store) (names []string) {
	t.Helper()
	err := s.file.Load().read.view(t.Context(), func(q querier) (err error) {
		names, err = q.names("SELECT name FROM sqlite_master WHERE type = 'table'")
		return err
	})
	if err != nil || len(names) < 6 {
		t.Fatalf("tables %v, %v", names, err)
	}
	return names
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

// An index of the first schema is brought to this one, and keeps what it knows.
func TestAnOlderSchemaIsMigrated(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "index.db"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	wall := func() time.Time { return now }
	s := open(t, path, Serve, wall)
	k, id, used := index.LayerKey("app", digest.FromString("l")), s.ID(), now
	err := s.Place(t.Context(), index.Claim{Key: k}, func() error { return nil })
	sig := "sha256-" + digest.FromString("m").Encoded() + ".sig"
	for _, tag := range []string{sig, "sha256-" + strings.Repeat("x", 64), "v1"} {
		err = errors.Join(err, s.MoveTag(t.Context(), "app", tag, digest.FromString("s"), func() error { return nil }))
	}
	for _, q := range []string{"DROP INDEX tags_subject", "ALTER TABLE tags DROP COLUMN subject", "ALTER TABLE layers DROP COLUMN own_at", "DROP INDEX layers_latest", "DROP INDEX manifests_latest", "DROP INDEX manifests_repo", "PRAGMA user_version = 1"} {
		err = errors.Join(err, s.begin(t.Context(), func(t *tx) error { return t.exec(q) }))
	}
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	latest := func(s *Store) (rows []index.Row) {
		err := s.View(t.Context(), func(r index.Reader) error {
			c, err := r.Latest(index.Layer)
			if err != nil {
				return err
			}
			defer c.Close()
			row, ok, err := c.Next()
			if ok {
				rows = append(rows, row)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	for _, mode := range []Mode{Look, Serve, Look} { // who only looks takes it as it is
		s := open(t, path, mode, wall)
		if rows := latest(s); s.ID() != id || len(rows) != 1 || rows[0].Key != k || !rows[0].AccessedAt.Equal(used) {
			t.Errorf("mode %d: index %s has %v", mode, s.ID(), rows)
		}
		var indexes int
		ask(t, s, []any{&indexes}, "SELECT count(*) FROM sqlite_master WHERE name IN ('layers_latest', 'manifests_latest', 'manifests_repo')")
		var about string
		if mode == Serve {
			ask(t, s, []any{&about}, "SELECT group_concat(name) FROM tags WHERE subject = ?", packed(digest.FromString("m")))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if mode == Serve && about != sig {
			t.Errorf("tags about the manifest: %q", about)
		}
		if want := 3; mode == Serve && indexes != want {
			t.Errorf("%d indexes, want %d", indexes, want)
		}
		now = now.Add(time.Minute)
	}
}

// What a server promised ends with its grace, also when nothing but gc runs look after its store.
func TestAPromiseEndsWithoutItsServer(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "index.db"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	wall := func() time.Time { return now }
	s := open(t, path, Serve, wall)
	err := errors.Join(s.Promise(t.Context(), index.Policy{Grace: 2 * time.Hour, Resolution: time.Minute}), s.Beat(t.Context()), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Duration{2 * time.Hour, 2 * time.Hour, 0} {
		now = now.Add(50 * time.Minute)
		s := open(t, path, Alone, wall)
		err := s.Beat(t.Context())
		_, owed, ok, failed := s.Promised(t.Context())
		if err := errors.Join(err, failed, s.Close()); err != nil || !ok || owed.Grace != want {
			t.Errorf("%s: owed %s, %t, %v; want %s", now.Format(time.TimeOnly), owed.Grace, ok, err, want)
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
	for _, mode := range []Mode{Serve, Alone, Beside, Look} {
		if s, err := Open(t.Context(), path, mode, time.Now); !errors.Is(err, index.ErrNewer) {
			t.Errorf("mode %d: %v", mode, errors.Join(err, s.Close()))
		}
	}
}
