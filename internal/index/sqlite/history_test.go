package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An index of a server of schema 5 or 6 remembers as long as the configuration does by default.
func TestAnIndexWithoutHistoryRemembersFromNowOn(t *testing.T) {
	for _, schema := range []int{5, 6} {
		path := filepath.Join(t.TempDir(), "index.db")
		makeSchema6(t, path, schema, 0)
		if s, err := Open(t.Context(), path, Look, time.Now); !errors.Is(err, index.ErrOlder) {
			t.Errorf("a look at schema %d: %v", schema, errors.Join(err, s.Close()))
		}
		s := open(t, path, Serve, time.Now)
		p, _, _, err := s.Promised(t.Context())
		must(t, err)
		if p.GoneFor != 30*24*time.Hour || p.Grace != time.Hour {
			t.Errorf("schema %d: policy %+v", schema, p)
		}
		must(t, s.Close())
	}
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
	must(t, s.SetPins(t.Context()))
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
