package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// The setting of the gate: open lets things be retired, and left is what a server makes of it that ends. Any other
// value is the token of a rebuild.
const (
	gateOpen = "open"
	gateLeft = "left"
)

// Retire implements index.Store.
func (s *Store) Retire(ctx context.Context, k layout.Key, cut index.Cutoffs, remove func([]index.Row) error) ([]index.Row, error) {
	all, err := s.RetireAll(ctx, []layout.Key{k}, cut, remove)
	if err != nil {
		return nil, err
	}
	return all[0].Rows, all[0].Err
}

// retireTime is how long a transaction may retire one thing after another.
const retireTime = time.Millisecond

// RetireAll implements index.Store. What one key fails for is undone by itself.
func (s *Store) RetireAll(ctx context.Context, ks []layout.Key, cut index.Cutoffs, remove func([]index.Row) error) (all []index.Retired, err error) {
	err = s.begin(ctx, func(t *tx) error {
		all = nil
		unread, err := t.gate()
		if err != nil {
			return err
		}
		if err := s.free(t); err != nil {
			return err
		}
		if err := s.floor(t, &cut); err != nil {
			return err
		}
		began := time.Now()
		for _, k := range ks {
			var r index.Retired
			if !unread.Spares(k) {
				if r, err = t.retireOne(k, cut, remove); err != nil {
					return err
				}
			}
			all = append(all, r)
			if time.Since(began) > retireTime {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// retireOne retires one key, or leaves everything as it was. The error is one of the index.
func (t *tx) retireOne(k layout.Key, cut index.Cutoffs, remove func([]index.Row) error) (r index.Retired, err error) {
	dead, err := t.dead(k, cut)
	if err != nil || len(dead) == 0 {
		return r, err
	}
	if err := t.exec("SAVEPOINT one"); err != nil {
		return r, err
	}
	for _, row := range dead {
		if err := t.drop(row); err != nil {
			return r, err
		}
	}
	if r.Err = remove(dead); r.Err == nil {
		r.Rows = dead
	} else if err := t.exec("ROLLBACK TO one"); err != nil {
		return r, err
	}
	if errors.Is(r.Err, index.ErrSkip) {
		r.Err = nil
	}
	return r, t.exec("RELEASE one")
}

// gate wants the gate to be open, and says what stays all the same.
func (t *tx) gate() (index.Unseen, error) {
	var g string
	if _, err := t.setting("gate", &g); err != nil {
		return nil, err
	}
	if g != gateOpen {
		return nil, index.ErrGateClosed
	}
	return t.unread()
}

func (q querier) unread() (u index.Unseen, err error) {
	_, err = q.setting("unread", &u)
	return u, err
}

// floor lowers the cutoffs to what servers have promised, whatever the caller believes.
func (s *Store) floor(t *tx, cut *index.Cutoffs) error {
	grace, resolution, err := s.owed(t)
	if err != nil {
		return err
	}
	floor := s.clock.Back(grace + resolution)
	if cut.Content.After(floor) {
		cut.Content = floor
	}
	if cut.Names.After(floor) {
		cut.Names = floor
	}
	return nil
}

// dead returns what goes with k, parents first, or nothing when k is wanted.
func (t *tx) dead(k layout.Key, cut index.Cutoffs) ([]index.Row, error) {
	r, err := t.row(k)
	if err != nil || r == nil {
		return nil, err
	}
	if k.Kind == layout.Manifest {
		kept, err := t.isKept(k)
		if err != nil {
			return nil, err
		}
		if kept {
			return t.deadManifests(k, cut)
		}
	}
	wanted, err := t.wanted(*r, cut)
	if err != nil || wanted {
		return nil, err
	}
	return []index.Row{*r}, nil
}

// wanted says whether a row was used lately or is referred to; of a manifest, by a tag.
func (t *tx) wanted(r index.Row, cut index.Cutoffs) (bool, error) {
	d, repo := packed(r.Digest), repository(r.Key.Repository)
	since := cut.Content
	if r.Key.Kind == layout.Tag || r.Key.Kind == layout.Manifest && r.Placed {
		since = cut.Names
	}
	if !r.AccessedAt.Before(since) {
		return true, nil
	}
	switch r.Key.Kind {
	case layout.Tag:
		m, err := t.row(layout.ManifestKey(r.Key.Repository, r.Digest))
		return m != nil && !m.AccessedAt.Before(since), err
	case layout.Manifest:
		return t.exists("SELECT 1 FROM tags WHERE digest = ? AND repo = ?", d, repo)
	case layout.Layer:
		return t.exists("SELECT 1 FROM layers WHERE digest = ? AND repo = ? AND "+layerHeld, d, repo)
	}
	return t.exists("SELECT 1 FROM blobs WHERE digest = ? AND "+blobHeld, d)
}

// deadManifests returns k with all that keeps it, if none of it is tagged or was used since its cutoff.
// Its parents went before, as a rule, so this is for manifests that keep each other.
func (t *tx) deadManifests(k layout.Key, cut index.Cutoffs) ([]index.Row, error) {
	alive, err := t.exists(keepersOf+`SELECT 1 FROM keepers CROSS JOIN manifests m ON m.digest = d AND m.repo = ?1
		WHERE m.accessed_at >= CASE WHEN m.placed THEN ?3 ELSE ?4 END
			OR EXISTS (SELECT 1 FROM tags g WHERE g.repo = ?1 AND g.digest = m.digest) LIMIT 1`,
		repository(k.Repository), packed(k.Digest), cutoff(cut.Names), cutoff(cut.Content))
	if err != nil || alive {
		return nil, err
	}
	dead, err := t.list(layout.Manifest, `FROM (`+keepersOf+`SELECT DISTINCT d FROM keepers)
		CROSS JOIN manifests m ON m.digest = d AND m.repo = ?1`, repository(k.Repository), packed(k.Digest))
	if err != nil || len(dead) == 1 {
		return dead, err
	}
	return t.parentsFirst(dead)
}

// parentsFirst orders manifests of one repository so that what keeps another comes before it, as far as
// they do not keep each other.
func (t *tx) parentsFirst(rows []index.Row) (ordered []index.Row, err error) {
	byDigest := map[digest.Digest]index.Row{}
	for _, r := range rows {
		byDigest[r.Digest] = r
	}
	seen := map[digest.Digest]bool{}
	var visit func(r index.Row) error
	visit = func(r index.Row) error {
		if seen[r.Digest] {
			return nil
		}
		seen[r.Digest] = true
		keepers, err := t.parents(r.Key.Repository, r.Digest, 0)
		if err != nil {
			return err
		}
		if s, ok := byDigest[r.Subject]; ok {
			keepers = append(keepers, s)
		}
		for _, k := range keepers {
			if k, ok := byDigest[k.Digest]; ok {
				if err := visit(k); err != nil {
					return err
				}
			}
		}
		ordered = append(ordered, r)
		return nil
	}
	for _, r := range rows {
		if err := visit(r); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// cutoff is a cutoff in the database: never is before all time.
func cutoff(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}

// CloseGate implements index.Store.
func (s *Store) CloseGate(ctx context.Context) (string, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	token := hex.EncodeToString(b)
	s.checkpointEvery(rebuildPages)
	return token, s.begin(ctx, func(t *tx) error {
		if err := t.set("barred", nil); err != nil {
			return err
		}
		return t.set("gate", token)
	})
}

// OpenGate implements index.Store.
func (s *Store) OpenGate(ctx context.Context, token string, unread ...string) (opened bool, err error) {
	s.checkpointEvery(checkpointPages)
	err = s.begin(ctx, func(t *tx) error {
		if opened, err = t.closedBy(token); err != nil || !opened {
			return err
		}
		if err := t.set("unread", unread); err != nil {
			return err
		}
		return t.set("gate", gateOpen)
	})
	return opened && err == nil, err
}

// closedBy says whether the gate is shut by a token, and by no later one.
func (t *tx) closedBy(token string) (bool, error) {
	var g string
	_, err := t.setting("gate", &g)
	return g != "" && g == token && g != gateOpen, err
}

// BarGate implements index.Store.
func (s *Store) BarGate(ctx context.Context, token string, b index.Bar) error {
	return s.begin(ctx, func(t *tx) error {
		if mine, err := t.closedBy(token); err != nil || !mine {
			return err
		}
		return t.set("barred", b)
	})
}

// Barred implements index.Store.
func (s *Store) Barred(ctx context.Context) (*index.Bar, error) {
	return readSetting[*index.Bar](ctx, s, "barred")
}

// GateOpen implements index.Store.
func (s *Store) GateOpen(ctx context.Context) (bool, error) {
	g, err := readSetting[string](ctx, s, "gate")
	return g == gateOpen, err
}

// LeaveGate implements index.Store.
func (s *Store) LeaveGate(ctx context.Context) error {
	return s.begin(ctx, func(t *tx) error {
		if _, err := t.gate(); err != nil {
			if errors.Is(err, index.ErrGateClosed) {
				return nil // a rebuild was under way, or another server has left
			}
			return err
		}
		return t.set("gate", gateLeft)
	})
}

// Whole implements index.Store.
func (s *Store) Whole(ctx context.Context) (bool, error) {
	g, err := readSetting[string](ctx, s, "gate")
	return g == gateOpen || g == gateLeft, err
}

// hold keeps everything for a duration of watched time.
type hold struct {
	From   time.Time     `json:"from"`
	Length time.Duration `json:"length"`
}

// until is when a hold ends; zero: it is over.
func (s *Store) until(h hold) time.Time {
	if !h.From.After(s.clock.Back(h.Length)) {
		return time.Time{}
	}
	return s.clock.Due(h.From, h.Length)
}

// free wants nothing to be held.
func (s *Store) free(t *tx) error {
	var h hold
	if _, err := t.setting("hold", &h); err != nil {
		return err
	}
	if until := s.until(h); !until.IsZero() {
		return &index.HeldError{Until: until}
	}
	return nil
}

// Hold implements index.Store.
func (s *Store) Hold(ctx context.Context, d time.Duration) error {
	return s.begin(ctx, func(t *tx) error {
		var last hold
		if _, err := t.setting("hold", &last); err != nil {
			return err
		}
		h := hold{millis(t.now), d}
		if s.until(last).After(s.until(h)) {
			return nil
		}
		return t.set("hold", h)
	})
}

// Held implements index.Store.
func (s *Store) Held(ctx context.Context) (time.Time, error) {
	h, err := readSetting[hold](ctx, s, "hold")
	return s.until(h), err
}

// BeginRun implements index.Store.
func (s *Store) BeginRun(ctx context.Context) error {
	return s.begin(ctx, func(t *tx) error {
		return t.exec("INSERT INTO settings (key, value) VALUES ('run', ?) ON CONFLICT DO NOTHING", millis(t.now).Format(jsonTime))
	})
}

// jsonTime is a time as a setting has it.
const jsonTime = `"` + time.RFC3339Nano + `"`

// EndRun implements index.Store.
func (s *Store) EndRun(ctx context.Context) error {
	return s.begin(ctx, func(t *tx) error { return t.exec("DELETE FROM settings WHERE key = 'run'") })
}

// UnfinishedRun implements index.Store.
func (s *Store) UnfinishedRun(ctx context.Context) (time.Time, error) {
	return readSetting[time.Time](ctx, s, "run")
}

// SetLastRun implements index.Store.
func (s *Store) SetLastRun(ctx context.Context) error {
	return s.begin(ctx, func(t *tx) error { return t.set("last_run", millis(t.now)) })
}

// LastRun implements index.Store.
func (s *Store) LastRun(ctx context.Context) (time.Time, error) {
	return readSetting[time.Time](ctx, s, "last_run")
}

// SetNextRun implements index.Store.
func (s *Store) SetNextRun(ctx context.Context, at time.Time) error {
	return s.begin(ctx, func(t *tx) error { return t.set("next_run", at.UTC()) })
}

// NextRun implements index.Store.
func (s *Store) NextRun(ctx context.Context) (time.Time, error) {
	return readSetting[time.Time](ctx, s, "next_run")
}

// readSetting reads a setting, which is the zero value when it was never set.
func readSetting[T any](ctx context.Context, s *Store, key string) (value T, err error) {
	err = s.View(ctx, func(r index.Reader) error {
		_, err := r.(*reader).q.setting(key, &value)
		return err
	})
	return value, err
}

// debt is what a server promised, last at its last heartbeat.
type debt struct {
	index.Policy
	Beat time.Time `json:"beat"`
}

// promise is the policy of the last server, which promises anew with every heartbeat, and what earlier
// ones may still owe.
type promise struct {
	Policy index.Policy `json:"policy"`
	Beat   time.Time    `json:"beat"`
	Debts  []debt       `json:"debts"`
}

// unpaid says whether a debt still holds. Only watched time pays: a step of the clock, or a downtime of
// days, must not void what was promised a moment before.
func (s *Store) unpaid(d debt) bool {
	return d.Beat.After(s.clock.Back(d.Grace + d.Resolution + index.BeatInterval))
}

// owing returns the largest grace and the largest resolution that are owed now.
func (s *Store) owing(p promise) (grace, resolution time.Duration) {
	for _, d := range append([]debt{{p.Policy, p.Beat}}, p.Debts...) {
		if s.unpaid(d) {
			grace, resolution = max(grace, d.Grace), max(resolution, d.Resolution)
		}
	}
	return grace, resolution
}

// Promise implements index.Store.
func (s *Store) Promise(ctx context.Context, p index.Policy) error {
	return s.begin(ctx, func(t *tx) error {
		var pr promise
		if _, err := t.setting("promise", &pr); err != nil {
			return err
		}
		if pr.Policy.Grace > p.Grace || pr.Policy.Resolution > p.Resolution {
			pr.Debts = append(pr.Debts, debt{pr.Policy, pr.Beat})
		}
		pr.Debts = slices.DeleteFunc(pr.Debts, func(d debt) bool { return !s.unpaid(d) })
		pr.Policy = p
		if err := t.set("promise", pr); err != nil {
			return err
		}
		return s.beat(t)
	})
}

// Beat implements index.Store.
func (s *Store) Beat(ctx context.Context) error { return s.begin(ctx, s.beat) }

func (s *Store) beat(t *tx) error {
	hb, gaps := s.clock.Beat()
	s.noteBeat(hb.Time)
	if err := t.set("heartbeat", hb); err != nil {
		return err
	}
	if err := t.set("gaps", gaps); err != nil {
		return err
	}
	var pr promise
	if ok, err := t.setting("promise", &pr); err != nil || !ok || !s.serves { // who only looks after a store promises nothing
		return err
	}
	pr.Beat = hb.Time
	return t.set("promise", pr)
}

// owed is the largest grace and the largest resolution of anyone's promise that still holds: a lease lasts as
// long as both.
func (s *Store) owed(t *tx) (grace, resolution time.Duration, err error) {
	var pr promise
	if ok, err := t.setting("promise", &pr); err != nil || !ok {
		return 0, 0, err
	}
	grace, resolution = s.owing(pr)
	return grace, resolution, nil
}

// Promised implements index.Store.
func (s *Store) Promised(ctx context.Context) (last, owed index.Policy, ok bool, err error) {
	err = s.View(ctx, func(r index.Reader) error {
		var pr promise
		if ok, err = r.(*reader).q.setting("promise", &pr); err != nil {
			return err
		}
		last = pr.Policy
		owed.Grace, owed.Resolution = s.owing(pr)
		return nil
	})
	return last, owed, ok, err
}
