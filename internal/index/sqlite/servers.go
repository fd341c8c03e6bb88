package sqlite

import (
	"context"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// server is a row of those that owe grace.
type server struct {
	id   int64
	beat time.Time // its last heartbeat, by the store's clock
	index.Policy
}

// servers returns all rows, in the order in which the servers joined.
func (q querier) servers() (all []server, err error) {
	err = q.each(func(a *answer) error {
		var s server
		var beat int64
		err := a.scan(&s.id, (*int64)(&s.TTL), (*int64)(&s.Grace), (*int64)(&s.Resolution), &beat)
		s.beat = millis(beat)
		all = append(all, s)
		return err
	}, "SELECT id, ttl, grace, resolution, beat FROM servers ORDER BY id")
	return all, err
}

// owes says whether a server's promises are still owed. They are paid by watched time only, after its last heartbeat: a
// step of the clock, or a downtime of days, must not void what was promised a moment before.
func (s *Store) owes(v server) bool {
	return v.beat.After(s.clock.Back(v.Grace + v.Resolution + index.BeatInterval))
}

// owed returns the largest grace and the largest resolution that any server still owes: a lease lasts as long as both.
func (s *Store) owed(q querier) (grace, resolution time.Duration, err error) {
	all, err := q.servers()
	for _, v := range all {
		if s.owes(v) {
			grace, resolution = max(grace, v.Grace), max(resolution, v.Resolution)
		}
	}
	return grace, resolution, err
}

// Promise implements index.Store. A server that promises anew joins anew, and owes what it promised before if that was
// more.
func (s *Store) Promise(ctx context.Context, p index.Policy) error {
	return s.begin(ctx, func(t *tx) error {
		all, err := t.servers()
		if err != nil {
			return err
		}
		for _, v := range all {
			replaced := v.id == s.server && v.Grace <= p.Grace && v.Resolution <= p.Resolution
			if s.owes(v) && !replaced {
				continue
			}
			if err := t.exec("DELETE FROM servers WHERE id = ?", v.id); err != nil {
				return err
			}
		}
		_, err = t.one([]any{&s.server}, `INSERT INTO servers (id, ttl, grace, resolution, joined, beat)
			VALUES ((SELECT coalesce(max(id), 0) + 1 FROM servers), ?1, ?2, ?3, ?4, ?4) RETURNING id`,
			int64(p.TTL), int64(p.Grace), int64(p.Resolution), t.now)
		if err != nil {
			return err
		}
		return s.beat(t)
	})
}

// Promised implements index.Store.
func (s *Store) Promised(ctx context.Context) (last, owed index.Policy, ok bool, err error) {
	err = s.file.Load().read.view(ctx, func(q querier) error {
		all, err := q.servers()
		if err != nil || len(all) == 0 {
			return err
		}
		last, ok = all[len(all)-1].Policy, true
		owed.Grace, owed.Resolution, err = s.owed(q)
		return err
	})
	return last, owed, ok, s.note(err)
}

// Beat implements index.Store.
func (s *Store) Beat(ctx context.Context) error { return s.begin(ctx, s.beat) }

// beat records that the store is watched. A process that promised nothing renews no promise.
func (s *Store) beat(t *tx) error {
	hb, gaps := s.clock.Beat()
	s.noteBeat(hb.Time)
	if err := t.set("heartbeat", hb); err != nil {
		return err
	}
	if err := t.set("gaps", gaps); err != nil {
		return err
	}
	return t.exec("UPDATE servers SET beat = ? WHERE id = ?", hb.Time.UnixMilli(), s.server)
}
