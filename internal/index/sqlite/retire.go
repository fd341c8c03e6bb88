package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

const (
	// retireTime is after how long a transaction of RetireAll goes on only if no other writer waits. 1ms: those that
	// wait are requests of clients.
	retireTime = time.Millisecond
	// retireMost is after how long it ends in any case: a writer that comes later waits for its commit.
	retireMost = 40 * time.Millisecond
)

// RetireAll implements index.Store. It removes files while their rows are there, and then the rows of those that are
// gone: what cannot be removed needs not be undone.
func (s *Store) RetireAll(ctx context.Context, vs []index.Victim, remove index.Remove) ([]index.Retired, error) {
	if err := s.turns.giveWay(ctx); err != nil {
		return nil, err
	}
	return committed(ctx, s, func(t *tx) (all []index.Retired, err error) {
		unread, err := t.gate()
		if err != nil {
			return nil, err
		}
		if err := s.checkHold(t); err != nil {
			return nil, err
		}
		if err := s.checkPins(t); err != nil {
			return nil, err
		}
		grace, resolution, err := s.owed(t.querier)
		if err != nil {
			return nil, err
		}
		x := retirement{tx: t, remove: remove, unread: unread, owedSince: s.clock.Back(grace + resolution),
			over: s.retired(time.Now())}
		for len(all) < len(vs) && !(len(all) > 0 && x.over()) {
			some, err := x.retire(firstOfAKind(vs[len(all):]))
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
		if err := t.leaveAll(x.gone); err != nil {
			return nil, err
		}
		return all, t.remember(x.images)
	})
}

// retired says whether a transaction that began then has to end.
func (s *Store) retired(began time.Time) func() bool {
	return func() bool {
		took := time.Since(began)
		return took > retireMost || took > retireTime && s.turns.taken()
	}
}

// firstOfAKind returns the first victims, up to the size of a set: those of one kind.
func firstOfAKind(vs []index.Victim) []index.Victim {
	n := 1
	for n < min(len(vs), setSize) && vs[n].Key.Kind == vs[0].Key.Kind {
		n++
	}
	return vs[:n]
}

// retirement is one transaction of RetireAll.
type retirement struct {
	*tx
	remove    index.Remove
	unread    index.Unread
	owedSince time.Time
	over      func() bool // the transaction has to end
	gone      []index.Row
	images    []index.Removal // to be remembered
}

// retire removes the rows of victims of one kind, or of the first of them when time is over. The error is one of the
// index.
func (x *retirement) retire(vs []index.Victim) ([]index.Retired, error) {
	unused, err := x.unused(vs)
	if err != nil {
		return nil, err
	}
	all := make([]index.Retired, 0, len(vs))
	var gone []index.Row
	for i, row := range unused {
		if i > 0 && x.over() {
			break
		}
		var r index.Retired
		if row != nil {
			if r.Removed, r.Err = x.remove(*row); r.Err == nil {
				r.Row = row
				gone = append(gone, *row)
				if r.Removed.Image != nil {
					x.images = append(x.images, *r.Removed.Image)
				}
			} else if errors.Is(r.Err, index.ErrSkip) {
				r.Err = nil
			}
		}
		all = append(all, r)
	}
	x.gone = append(x.gone, gone...)
	return all, x.dropRows(gone)
}

// unused returns for each victim its row if it may be removed: it was not used since, and neither a row that refers to
// it nor a pin keeps it.
func (x *retirement) unused(vs []index.Victim) ([]*index.Row, error) {
	kind := vs[0].Key.Kind
	keys := make(tuples, 0, 5*len(vs))
	for i, v := range vs {
		if x.unread.Spares(v.Key) {
			continue
		}
		since := v.UnusedSince
		if since.After(x.owedSince) {
			since = x.owedSince
		}
		_, _, key := where(v.Key)
		keys = append(append(keys, i, cutoff(since), v.Claim), key...)
	}
	rows := make([]*index.Row, len(vs))
	err := x.eachSet(unused[kind], keys, func(a *answer) error {
		row, err := scanKind(kind)(a)
		rows[a.st.ColumnInt(a.st.ColumnCount()-1)] = &row
		return err
	})
	if kind != layout.Tag {
		return rows, err
	}
	for i, row := range rows {
		if err == nil && row != nil {
			var stays bool
			if stays, err = x.staysWithPinned(row.Key.Tag); stays {
				rows[i] = nil
			}
		}
	}
	return rows, err
}

// unused finds the rows of a kind that may be removed, each with the number of its victim.
var unused = [...]set{
	layout.Blob:  newUnused(layout.Blob, "m.digest = v.column4", "m.placed", blobReferenced("m.digest")),
	layout.Layer: newUnused(layout.Layer, ofRepository, "m.placed", layerReferenced("m.digest", "m.repo")),
	layout.Manifest: newUnused(layout.Manifest, ofRepository, "m.placed",
		"("+manifestReferenced("m")+" OR "+pinned[layout.Manifest]+")"),
	layout.Tag: newUnused(layout.Tag, "m.repo = v.column4 AND m.name = v.column5", "1", pinned[layout.Tag]),
}

const ofRepository = "m.digest = v.column4 AND m.repo = v.column5"

// newUnused makes a statement in which a victim is its number, its cutoff, whether its row must be a claim, and its
// key.
func newUnused(kind layout.Kind, ofKey, placed, kept string) set {
	table, _, key := where(layout.Key{Kind: kind})
	return newSet(3+len(key), "SELECT "+columns(kind)+", v.column1 FROM (%s) v CROSS JOIN "+table+" m ON "+ofKey+
		" WHERE m.accessed_at < v.column2 AND NOT ("+placed+" AND v.column3) AND NOT "+kept)
}

// cutoff is a time in the database: zero is before all time.
func cutoff(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}
