package sqlite

import (
	"context"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// historyFrom6 has an index that had a server remember as long as the configuration does by default, until a server
// says otherwise.
const historyFrom6 = `
	INSERT INTO settings SELECT 'gone_for', 2592000000000000 WHERE EXISTS (SELECT 1 FROM servers);
`

// remember writes down images that are removed in this transaction, and forgets as many as there are too many then.
func (t *tx) remember(all []index.Removal) error {
	if len(all) == 0 {
		return nil
	}
	rows := make(tuples, 0, 10*len(all))
	for _, r := range all {
		var bytes, by any
		if r.UniqueBytes >= 0 {
			bytes = r.UniqueBytes
		}
		if r.PushedBy != "" {
			by = r.PushedBy
		}
		rows = append(rows, t.now, r.Repository, r.Tag, packed(r.Digest), r.LastAccess.UnixMilli(), r.Reason, r.Rule,
			r.RuleName, bytes, by)
	}
	if err := t.execSet(insertRemovals, rows); err != nil {
		return err
	}
	return t.exec("DELETE FROM removals WHERE id <= (SELECT max(id) FROM removals) - ?", index.MostRemembered)
}

// insertRemovals: a tag that pointed to nothing has no digest.
var insertRemovals = newSet(10, "INSERT INTO removals (at, repo, tag, digest, accessed_at, reason, rule, rule_name, "+
	"unique_bytes, pushed_by) SELECT column1, column2, column3, ifnull(column4, x''), column5, column6, column7, "+
	"column8, column9, column10 FROM (%s) v WHERE column1 IS NOT NULL")

// rememberRow writes down a tag or a manifest that goes in this transaction for another reason than gc's, unless the
// server that joined last wants no history.
func (t *tx) rememberRow(r index.Row, reason string) error {
	goneFor, joined, err := t.goneFor()
	if err != nil || joined && goneFor == 0 {
		return err
	}
	return t.remember([]index.Removal{{Repository: r.Key.Repository, Tag: r.Key.Tag, Digest: r.Digest,
		LastAccess: r.AccessedAt, Reason: reason, UniqueBytes: index.Unmeasured}})
}

// rememberUntagged writes down a manifest whose file is missing, if it was an image without a tag, to which nothing
// refers.
func (t *tx) rememberUntagged(m index.Row) error {
	image, err := t.exists("SELECT 1 FROM manifests m WHERE digest = ? AND repo = ? AND placed = 1 AND NOT "+
		manifestReferenced("m"), packed(m.Digest), repository(m.Key.Repository))
	if err != nil || !image {
		return err
	}
	return t.rememberRow(m, index.ReasonMissing)
}

// goneFor is how long the server that joined last wants history to be kept; 0: it wants none. False: none has joined.
func (q querier) goneFor() (d time.Duration, joined bool, err error) {
	joined, err = q.setting("gone_for", &d)
	return d, joined, err
}

// NoteRun implements index.Store.
func (s *Store) NoteRun(ctx context.Context, r *index.Run) error {
	id, err := committed(ctx, s, func(t *tx) (id int64, err error) {
		var known any // a new row has the next number
		if r.ID != 0 {
			known = r.ID
		}
		err = t.exec(`INSERT OR REPLACE INTO runs (id, started_at, took, ended, by, images, tags, manifests, blobs,
			uploads, freed_bytes, error, held_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, known,
			r.StartedAt.UnixMilli(), r.Took.Milliseconds(), r.Ended, r.By, r.Images, r.Tags, r.Manifests, r.Blobs,
			r.Uploads, r.FreedBytes, r.Error, r.HeldBy)
		if err != nil {
			return 0, err
		}
		id = t.c.LastInsertRowID()
		return id, t.exec("DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - ?", index.MostRemembered)
	})
	if err == nil {
		r.ID = id
	}
	return err
}

const hourMillis = int64(time.Hour / time.Millisecond)

// NotePulls implements index.Store.
func (s *Store) NotePulls(ctx context.Context, n index.Pulls) error {
	return s.begin(ctx, func(t *tx) error {
		return t.exec(`INSERT INTO pulls (hour, hits, misses, bytes) VALUES (?, ?, ?, ?) ON CONFLICT (hour) DO UPDATE
			SET hits = hits + excluded.hits, misses = misses + excluded.misses, bytes = bytes + excluded.bytes`,
			t.now/hourMillis, n.Hits, n.Misses, n.Bytes)
	})
}

// forgottenAtOnce is how many rows of a table are forgotten in one transaction, which takes a millisecond or two.
const forgottenAtOnce = 1000

// Forget implements index.Store.
func (s *Store) Forget(ctx context.Context, older time.Duration) error {
	for more := true; more; {
		if err := s.turns.giveWay(ctx); err != nil {
			return err
		}
		err := s.begin(ctx, func(t *tx) error {
			before := t.now - older.Milliseconds()
			more = false
			for statement, limit := range map[string]int64{forgetRemovals: before, forgetRuns: before,
				forgetPulls: before/hourMillis - 1} { // an hour is remembered until its end is too old
				if err := t.exec(statement, limit, forgottenAtOnce); err != nil {
					return err
				}
				more = more || t.c.Changes() == forgottenAtOnce
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// The oldest rows of each table, as far as they are too old.
const (
	forgetRemovals = "DELETE FROM removals WHERE at <= ?1 AND id IN (SELECT id FROM removals ORDER BY id LIMIT ?2 + 0)"
	forgetRuns     = "DELETE FROM runs WHERE started_at <= ?1 AND id IN (SELECT id FROM runs ORDER BY id LIMIT ?2 + 0)"
	forgetPulls    = "DELETE FROM pulls WHERE hour IN " +
		"(SELECT hour FROM pulls WHERE hour <= ?1 ORDER BY hour LIMIT ?2 + 0)"
)
