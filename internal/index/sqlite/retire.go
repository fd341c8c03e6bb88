package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// gateOpen is the value of the setting that lets things be retired; any other is the token of a rebuild.
const gateOpen = "open"

// Retire implements index.Store.
func (s *Store) Retire(ctx context.Context, k index.Key, cut index.Cutoffs, remove func([]index.Row) error) (gone []index.Row, err error) {
	err = s.begin(ctx, func(t *tx) error {
		gone = nil
		if err := t.gate(); err != nil {
			return err
		}
		if err := s.floor(t, &cut); err != nil {
			return err
		}
		dead, err := t.dead(k, cut)
		if err != nil || len(dead) == 0 {
			return err
		}
		for _, r := range dead {
			if err := t.drop(r); err != nil {
				return err
			}
		}
		gone = dead
		return remove(dead)
	})
	if errors.Is(err, index.ErrSkip) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return gone, nil
}

func (t *tx) gate() error {
	var g string
	if _, err := t.q().setting("gate", &g); err != nil {
		return err
	}
	if g != gateOpen {
		return index.ErrGateClosed
	}
	return nil
}

// floor lowers the cutoffs to what servers have promised, whatever the caller believes.
func (s *Store) floor(t *tx, cut *index.Cutoffs) error {
	owed, err := t.owed()
	if err != nil {
		return err
	}
	floor := s.clock.Back(owed)
	if cut.Content.After(floor) {
		cut.Content = floor
	}
	if cut.Names.After(floor) {
		cut.Names = floor
	}
	return nil
}

// dead returns what goes with k, parents first, or nothing when k is wanted.
func (t *tx) dead(k index.Key, cut index.Cutoffs) ([]index.Row, error) {
	if k.Kind == index.Manifest {
		return t.deadManifests(k, cut)
	}
	r, err := t.q().row(k)
	if err != nil || r == nil {
		return nil, err
	}
	wanted, err := t.wanted(*r, cut)
	if err != nil || wanted {
		return nil, err
	}
	return []index.Row{*r}, nil
}

// wanted says whether a tag, a link or a blob was used lately or is referred to.
func (t *tx) wanted(r index.Row, cut index.Cutoffs) (bool, error) {
	q := t.q()
	switch r.Key.Kind {
	case index.Tag:
		m, err := q.row(index.ManifestKey(r.Key.Repository, r.Digest))
		if err != nil {
			return true, err
		}
		return !r.AccessedAt.Before(cut.Names) || (m != nil && !m.AccessedAt.Before(cut.Names)), nil
	case index.Layer:
		if !r.AccessedAt.Before(cut.Content) {
			return true, nil
		}
		return q.exists("SELECT 1 FROM layers WHERE digest = ? AND repo = ? AND "+layerHeld, packed(r.Key.Digest), r.Key.Repository)
	}
	if !r.AccessedAt.Before(cut.Content) {
		return true, nil
	}
	return q.exists("SELECT 1 FROM blobs WHERE digest = ? AND "+blobHeld, packed(r.Key.Digest))
}

// deadManifests returns k with all that keeps it, if none of it is tagged or was used since its cutoff.
// Its parents went before, as a rule, so this is k alone; it is more when they keep each other.
func (t *tx) deadManifests(k index.Key, cut index.Cutoffs) ([]index.Row, error) {
	alive, err := t.q().exists(keepersOf+`SELECT 1 FROM keepers JOIN manifests m ON m.digest = d AND m.repo = ?1
		WHERE m.accessed_at >= CASE WHEN m.placed THEN ?3 ELSE ?4 END
			OR EXISTS (SELECT 1 FROM tags g WHERE g.repo = ?1 AND g.digest = m.digest) LIMIT 1`,
		k.Repository, packed(k.Digest), cutoff(cut.Names), cutoff(cut.Content))
	if err != nil || alive {
		return nil, err
	}
	var dead []index.Row
	err = t.q().each(func(sc scanner) error {
		r, err := scanManifest(sc)
		dead = append(dead, r)
		return err
	}, keepersOf+`SELECT `+manifestColumns+` FROM (SELECT d, max(depth) AS depth FROM keepers GROUP BY d)
		JOIN manifests m ON m.digest = d AND m.repo = ?1 ORDER BY depth DESC`, k.Repository, packed(k.Digest))
	return dead, err
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
	return token, s.begin(ctx, func(t *tx) error { return t.set("gate", token) })
}

// OpenGate implements index.Store.
func (s *Store) OpenGate(ctx context.Context, token string) (opened bool, err error) {
	err = s.begin(ctx, func(t *tx) error {
		var g string
		if _, err := t.q().setting("gate", &g); err != nil || g != token {
			return err
		}
		opened = true
		return t.set("gate", gateOpen)
	})
	return opened && err == nil, err
}

// GateOpen implements index.Store.
func (s *Store) GateOpen(ctx context.Context) (open bool, err error) {
	err = s.View(ctx, func(r index.Reader) error {
		var g string
		_, err := r.(*reader).q.setting("gate", &g)
		open = g == gateOpen
		return err
	})
	return open, err
}

// debt is a promise that a server made and that holds until a time.
type debt struct {
	index.Policy
	Until time.Time `json:"until"`
}

// promise is the policy of the last server. While it beats, it promises anew all the time.
type promise struct {
	Policy index.Policy    `json:"policy"`
	Debts  []debt          `json:"debts"`
	Beat   index.Heartbeat `json:"beat"`
}

func (p promise) lease() time.Duration { return p.Policy.Grace + p.Policy.Resolution }

// owing returns the largest grace and the largest resolution that are owed at a time.
func (p promise) owing(now time.Time) (grace, resolution time.Duration) {
	all := append([]debt{{p.Policy, p.Beat.Time.Add(p.lease() + index.BeatInterval)}}, p.Debts...)
	for _, d := range all {
		if now.Before(d.Until) {
			grace, resolution = max(grace, d.Grace), max(resolution, d.Resolution)
		}
	}
	return grace, resolution
}

// Promise implements index.Store.
func (s *Store) Promise(ctx context.Context, p index.Policy) error {
	return s.begin(ctx, func(t *tx) error {
		var pr promise
		if _, err := t.q().setting("promise", &pr); err != nil {
			return err
		}
		now := s.clock.Now()
		if grace, res := pr.owing(now); grace+res > p.Grace+p.Resolution {
			pr.Debts = append(pr.Debts, debt{pr.Policy, pr.Beat.Time.Add(pr.lease() + index.BeatInterval)})
		}
		pr.Debts = unpaid(pr.Debts, now)
		pr.Policy = p
		if err := t.set("promise", pr); err != nil {
			return err
		}
		return s.beat(t)
	})
}

func unpaid(debts []debt, now time.Time) (left []debt) {
	for _, d := range debts {
		if now.Before(d.Until) {
			left = append(left, d)
		}
	}
	return left
}

// Beat implements index.Store.
func (s *Store) Beat(ctx context.Context) error { return s.begin(ctx, s.beat) }

func (s *Store) beat(t *tx) error {
	hb, gaps := s.clock.Beat()
	if err := t.set("heartbeat", hb); err != nil {
		return err
	}
	if err := t.set("gaps", gaps); err != nil {
		return err
	}
	var pr promise
	if ok, err := t.q().setting("promise", &pr); err != nil || !ok {
		return err
	}
	pr.Beat = hb
	return t.set("promise", pr)
}

// owed is how long a lease lasts at most, by anyone's promise that still holds.
func (t *tx) owed() (time.Duration, error) {
	var pr promise
	if ok, err := t.q().setting("promise", &pr); err != nil || !ok {
		return 0, err
	}
	grace, resolution := pr.owing(millis(t.now))
	return grace + resolution, nil
}

// Promised implements index.Store.
func (s *Store) Promised(ctx context.Context) (last, owed index.Policy, ok bool, err error) {
	err = s.View(ctx, func(r index.Reader) error {
		var pr promise
		if ok, err = r.(*reader).q.setting("promise", &pr); err != nil {
			return err
		}
		last = pr.Policy
		owed.Grace, owed.Resolution = pr.owing(s.clock.Now())
		return nil
	})
	return last, owed, ok, err
}
