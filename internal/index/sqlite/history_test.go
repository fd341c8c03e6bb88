package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// downgrade makes an index of one of this schema that has what 5 and 6 have, which are the same.
func downgrade(t *testing.T, path string, schema int) {
	t.Helper()
	s := open(t, path, Serve, time.Now)
	must(t, s.Promise(t.Context(), index.Policy{Grace: time.Hour}))
	must(t, s.begin(t.Context(), func(t *tx) error {
		return errors.Join(t.script(`DROP TABLE removals; DROP TABLE runs; DROP TABLE pulls; DROP TABLE pins;
			DELETE FROM settings WHERE key = 'gone_for'`), t.set("id", "kept"),
			t.exec(fmt.Sprintf("PRAGMA user_version = %d", schema)))
	}))
	must(t, s.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An index of schema 5 or 6 keeps everything, and has the tables that a new one has.
func TestAnIndexWithoutHistoryKeepsEverything(t *testing.T) {
	tables := "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name"
	fresh := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, time.Now)
	want := list(t, fresh, tables)
	must(t, fresh.Close())
	for _, schema := range []int{5, 6} {
		path := filepath.Join(t.TempDir(), "index.db")
		downgrade(t, path, schema)
		if s, err := Open(t.Context(), path, Look, time.Now); !errors.Is(err, index.ErrOlder) {
			t.Errorf("a look at schema %d: %v", schema, errors.Join(err, s.Close()))
		}
		s := open(t, path, Serve, time.Now)
		if got := list(t, s, tables); !slices.EqualFunc(got, want, sameStatement) {
			t.Errorf("schema %d became\n%q\nwant\n%q", schema, got, want)
		}
		id, err := readSetting[string](t.Context(), s, "id")
		must(t, err)
		p, _, _, err := s.Promised(t.Context())
		must(t, err)
		if id != "kept" || p.GoneFor != 30*24*time.Hour || p.Grace != time.Hour {
			t.Errorf("schema %d: id %q, policy %+v", schema, id, p)
		}
		must(t, s.Close())
	}
}

var spaces = regexp.MustCompile(`\s+`)

// sameStatement compares statements whatever their lines.
func sameStatement(a, b string) bool {
	return spaces.ReplaceAllString(a, " ") == spaces.ReplaceAllString(b, " ")
}

// fill remembers so many removals and runs, of which the last happened now.
func fill(t *testing.T, s *Store, n int) {
	t.Helper()
	must(t, s.begin(t.Context(), func(t *tx) error {
		const numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) "
		return errors.Join(t.exec(numbers+`INSERT INTO removals SELECT i, ?2 - ?1 + i, 'app', 'v' || i, x'01', 1, 'ttl', 0,
			'', NULL, NULL FROM n`, n, t.now), t.exec(numbers+`INSERT INTO runs SELECT i, ?2 - ?1 + i, 1, 1, 'gc', 1, 1, 1, 1, 1,
			1, '', '' FROM n`, n, t.now))
	}))
}

// retireTag has a new tag retired later, and remembered.
func retireTag(t *testing.T, s *Store, tag string, later func()) {
	t.Helper()
	must(t, indextest.MoveTag(t.Context(), s, "app", tag, digest.FromString("m"), func() error { return nil }))
	later()
	all, err := s.RetireAll(t.Context(), []index.Victim{{Key: layout.TagKey("app", tag), UnusedSince: s.Now()}},
		func(r index.Row) (index.Removed, error) {
			return index.Removed{Image: &index.Removal{Repository: "app", Tag: r.Key.Tag, Digest: r.Digest, Reason: index.ReasonTTL}}, nil
		})
	must(t, err)
	if all[0].Row == nil {
		t.Fatalf("%s stays: %v", tag, all[0].Err)
	}
}

// However much is removed, no more is remembered than there is room for: not even until the next run.
func TestTheOldestHistoryGoesFirst(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, func() time.Time { return now })
	defer s.Close()
	token, err := s.CloseGate(t.Context())
	must(t, err)
	_, err = s.OpenGate(t.Context(), token)
	must(t, err)
	fill(t, s, index.MostRemembered)
	for i := range 3 {
		retireTag(t, s, fmt.Sprint("last", i), func() { now = now.Add(time.Second) })
		must(t, s.NoteRun(t.Context(), &index.Run{StartedAt: now, By: index.ByServer}))
	}
	var removals, runs, first, firstRun int
	ask(t, s, []any{&removals, &first}, "SELECT count(*), min(id) FROM removals")
	ask(t, s, []any{&runs, &firstRun}, "SELECT count(*), min(id) FROM runs")
	if removals != index.MostRemembered || runs != index.MostRemembered || first != 4 || firstRun != 4 {
		t.Errorf("%d removals from number %d, %d runs from number %d are remembered", removals, first, runs, firstRun)
	}
}

// To forget all of a full history takes many transactions, so no client waits for long.
func TestHistoryIsForgottenInPieces(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, time.Now)
	defer s.Close()
	fill(t, s, 10*forgottenAtOnce+1)
	commits := 0
	told = func(statement string) {
		if statement == "COMMIT" {
			commits++
		}
	}
	defer func() { told = nil }()
	must(t, s.Forget(t.Context(), 0))
	told = nil
	var left int
	ask(t, s, []any{&left}, "SELECT (SELECT count(*) FROM removals) + (SELECT count(*) FROM runs)")
	if left != 0 || commits != 11 {
		t.Errorf("after %d transactions %d rows are left", commits, left)
	}
}
