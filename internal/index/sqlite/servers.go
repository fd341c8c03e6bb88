package sqlite

import (
	"context"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// server is a row of those that owe grace.
type server struct {
	id           int64
	joined       int64     // in milliseconds since 1970
	beat         time.Time // its last heartbeat when the row was read, by the store's clock
	index.Policy           // without its rules and its budget, and for how long history is kept
}

// joinedRules is the setting with the rules and the budget of the server that joined last.
type joinedRules struct {
	Joined int64       `json:"joined"` // that of the server
	Rules  rule.Rules  `json:"rules"`
	Budget rule.Budget `json:"budget,omitzero"`
}

// servers returns all rows, in the order in which the servers joined.
func (q querier) servers() (all []server, err error) {
	err = q.each(func(a *answer) error {
		var s server
		var beat int64
		err := a.scan(&s.id, (*int64)(&s.TTL), (*int64)(&s.Grace), (*int64)(&s.Resolution), &s.joined, &beat)
		s.beat = millis(beat)
		all = append(all, s)
		return err
	}, "SELECT id, ttl, grace, resolution, joined, beat FROM servers ORDER BY id")
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

// Promise implements index.Store. A row that owes no more than the new one is replaced, also that of a server that was
// killed. So each policy has one row, however often a server is started. A larger promise is owed beside the new one.
func (s *Store) Promise(ctx context.Context, p index.Policy) error {
	joined, err := committed(ctx, s, func(t *tx) (*server, error) {
		all, err := t.servers()
		if err != nil {
			return nil, err
		}
		joined := &server{id: 1, joined: t.now, beat: millis(t.now), Policy: p}
		for _, v := range all {
			replaced := v.Grace <= p.Grace && v.Resolution <= p.Resolution
			if s.owes(v) && !replaced {
				joined.id = v.id + 1
				continue
			}
			if err := t.exec("DELETE FROM servers WHERE id = ?", v.id); err != nil {
				return nil, err
			}
		}
		if err := t.renew(joined, joined.beat); err != nil {
			return nil, err
		}
		if err := t.setRules(joinedRules{joined.joined, p.Rules, p.Budget}); err != nil {
			return nil, err
		}
		if err := t.set("gone_for", p.GoneFor); err != nil {
			return nil, err
		}
		_, err = s.watch(t)
		return joined, err
	})
	if err == nil {
		s.server.Store(joined)
	}
	return err
}

// setRules replaces the rules and the budget of the server that joined before.
func (t *tx) setRules(r joinedRules) error {
	if len(r.Rules) == 0 && r.Budget == (rule.Budget{}) {
		return t.exec("DELETE FROM settings WHERE key = 'rules'")
	}
	return t.set("rules", r)
}

// renew records a heartbeat of a server. It writes the whole row, since another start may have replaced that of a
// server that lives.
func (t *tx) renew(v *server, at time.Time) error {
	return t.exec(`INSERT INTO servers (id, ttl, grace, resolution, joined, beat) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET beat = excluded.beat`, v.id, int64(v.TTL), int64(v.Grace), int64(v.Resolution),
		v.joined, at.UnixMilli())
}

// Promised implements index.Store.
func (s *Store) Promised(ctx context.Context) (last, owed index.Policy, ok bool, err error) {
	err = s.file.Load().read.view(ctx, func(q querier) error {
		all, err := q.servers()
		if err != nil || len(all) == 0 {
			return err
		}
		last, ok = all[len(all)-1].Policy, true
		var rules joinedRules
		if _, err := q.setting("rules", &rules); err != nil {
			return err
		}
		if rules.Joined == all[len(all)-1].joined {
			last.Rules, last.Budget = rules.Rules, rules.Budget
		}
		if last.GoneFor, _, err = q.goneFor(); err != nil {
			return err
		}
		owed.Grace, owed.Resolution, err = s.owed(q)
		return err
	})
	return last, owed, ok, s.note(err)
}

// Beat implements index.Store. A process that promised nothing renews no promise.
func (s *Store) Beat(ctx context.Context) error {
	return s.begin(ctx, func(t *tx) error {
		at, err := s.watch(t)
		if v := s.server.Load(); err == nil && v != nil {
			err = t.renew(v, at)
		}
		return err
	})
}

// watch records that the store is watched, and returns until when.
func (s *Store) watch(t *tx) (time.Time, error) {
	heartbeat, gaps := s.clock.Beat()
	s.noteBeat(heartbeat.Time)
	if err := t.set("heartbeat", heartbeat); err != nil {
		return time.Time{}, err
	}
	return heartbeat.Time, t.set("gaps", gaps)
}
