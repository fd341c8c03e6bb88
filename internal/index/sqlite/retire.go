package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// retireTime is after how long a transaction of RetireAll begins no other victim. 1ms: the writers that wait for it are
// requests of clients.
const retireTime = time.Millisecond

// RetireAll implements index.Store. What fails for one victim is undone by itself.
func (s *Store) RetireAll(ctx context.Context, vs []index.Victim, remove index.Remove) ([]index.Retired, error) {
	return committed(ctx, s, func(t *tx) (all []index.Retired, err error) {
		unread, err := t.gate()
		if err != nil {
			return nil, err
		}
		if err := s.checkHold(t); err != nil {
			return nil, err
		}
		grace, resolution, err := s.owed(t.querier)
		if err != nil {
			return nil, err
		}
		owedSince := s.clock.Back(grace + resolution)
		for began := time.Now(); len(all) < len(vs) && (len(all) == 0 || time.Since(began) <= retireTime); {
			v, r := vs[len(all)], index.Retired{}
			if v.UnusedSince.After(owedSince) {
				v.UnusedSince = owedSince
			}
			if !unread.Spares(v.Key) {
				if r, err = t.retire(v, remove); err != nil {
					return nil, err
				}
			}
			all = append(all, r)
		}
		return all, nil
	})
}

// retire removes one row, or leaves everything as it was. The error is one of the index.
func (t *tx) retire(v index.Victim, remove index.Remove) (r index.Retired, err error) {
	row, err := t.unused(v)
	if err != nil || row == nil {
		return r, err
	}
	if err := t.exec("SAVEPOINT one"); err != nil {
		return r, err
	}
	if err := t.drop(*row); err != nil {
		return r, err
	}
	if r.Removed, r.Err = remove(*row); r.Err == nil {
		r.Row = row
	} else if err := t.exec("ROLLBACK TO one"); err != nil {
		return r, err
	}
	if errors.Is(r.Err, index.ErrSkip) {
		r.Err = nil
	}
	return r, t.exec("RELEASE one")
}

// unreferenced says for each kind that nothing refers to a row, which is called m. Nothing refers to a tag.
var unreferenced = [...]string{
	layout.Blob:     " AND NOT " + blobReferenced("m.digest"),
	layout.Layer:    " AND NOT " + layerReferenced("m.digest", "m.repo"),
	layout.Manifest: " AND NOT " + manifestReferenced("m"),
	layout.Tag:      "",
}

// unused returns the row of a victim if its last use is before the victim's time, and nothing refers to it. A claim
// whose file has come since the plan stays: it is judged as a placed manifest by the next one.
func (t *tx) unused(v index.Victim) (*index.Row, error) {
	table, cond, args := where(v.Key)
	row, err := t.first(v.Key.Kind, "FROM "+table+" m WHERE "+cond+" AND m.accessed_at < ?"+unreferenced[v.Key.Kind],
		append(args, cutoff(v.UnusedSince))...)
	if row != nil && row.Placed && v.Claim {
		return nil, err
	}
	return row, err
}

// cutoff is a time in the database: zero is before all time.
func cutoff(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}
