package sqlite

import (
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// Removals implements index.Reader.
func (r *reader) Removals(since time.Time, f func(index.Removal) error) error {
	return ended(r.q.each(func(a *answer) error {
		var m index.Removal
		var at, accessed int64
		err := a.scan(&at, &m.Repository, &m.Tag, (*packed)(&m.Digest), &accessed, &m.Reason, &m.Rule, &m.RuleName,
			&m.UniqueBytes, &m.PushedBy)
		if err != nil {
			return err
		}
		if m.At, m.LastAccess = millis(at), millis(accessed); m.At.Before(since) {
			return errEnough
		}
		return f(m)
	}, `SELECT at, repo, tag, digest, accessed_at, reason, rule, rule_name, ifnull(unique_bytes, -1), pushed_by
		FROM removals ORDER BY id DESC`))
}

// RunHistory implements index.Reader.
func (r *reader) RunHistory(since time.Time, f func(index.Run) error) error {
	return ended(r.q.each(func(a *answer) error {
		var n index.Run
		var started, took int64
		err := a.scan(&n.ID, &started, &took, &n.Ended, &n.By, &n.Images, &n.Tags, &n.Manifests, &n.Blobs, &n.Uploads,
			&n.FreedBytes, &n.Error, &n.HeldBy)
		if err != nil {
			return err
		}
		n.StartedAt, n.Took = millis(started), time.Duration(took)*time.Millisecond
		if n.StartedAt.Before(since) {
			return errEnough
		}
		return f(n)
	}, `SELECT id, started_at, took, ended, by, images, tags, manifests, blobs, uploads, freed_bytes, error, held_by
		FROM runs ORDER BY id DESC`))
}

// PullHistory implements index.Reader.
func (r *reader) PullHistory(since time.Time, f func(index.Pulls) error) error {
	return ended(r.q.each(func(a *answer) error {
		var n index.Pulls
		var hour int64
		if err := a.scan(&hour, &n.Hits, &n.Misses, &n.Bytes); err != nil {
			return err
		}
		n.Hour = millis(hour * hourMillis)
		if n.Hour.Add(time.Hour).Before(since) {
			return errEnough
		}
		return f(n)
	}, "SELECT hour, hits, misses, bytes FROM pulls ORDER BY hour DESC"))
}

// ended is the error of a reading that may have ended early.
func ended(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
