package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// placeTime is how long one transaction gives files their names: other writers wait for it.
const placeTime = 5 * time.Millisecond

// Place implements index.Store.
func (s *Store) Place(ctx context.Context, ps ...index.Placing) (errs []error) {
	err := s.begin(ctx, func(t *tx) error {
		for began := time.Now(); len(errs) < len(ps) && (len(errs) == 0 || time.Since(began) < placeTime); {
			err, lost := t.placeOne(ps[len(errs)], len(ps) > 1)
			if lost != nil {
				return lost
			}
			errs = append(errs, err)
		}
		if len(ps) == 1 {
			return errs[0]
		}
		return nil
	})
	if err != nil { // nothing was recorded of any
		if len(errs) == 0 { // nor was any tried
			errs = make([]error, len(ps))
		}
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// placeOne places one of several: what it changed is undone if it fails. lost: the transaction cannot go on.
func (t *tx) placeOne(p index.Placing, several bool) (err, lost error) {
	if !several {
		return t.place(p), nil
	}
	if err := t.exec("SAVEPOINT placing"); err != nil {
		return nil, err
	}
	if err = t.place(p); err != nil {
		if lost := t.exec("ROLLBACK TO placing"); lost != nil { // as when the disk is full: SQLite rolled all back
			return err, errors.Join(err, lost)
		}
		t.forget()
	}
	return err, t.exec("RELEASE placing")
}

func (t *tx) place(p index.Placing) error {
	if p.Key.Kind == layout.Tag {
		m, at, err := t.putTag(p.Key.Repository, p.Key.Tag, p.To, t.now)
		if err != nil {
			return err
		}
		if err := t.spread(p.Key.Repository, m, at); err != nil {
			return err
		}
	} else if err := t.put(p.Claim, true, t.now); err != nil {
		return err
	}
	if err := p.Rename(); err != nil || p.Taken == nil {
		return err
	}
	if p.WithBlob {
		if err := t.measurePlaced(layout.BlobKey(p.Key.Digest), "", p.Taken); err != nil {
			return err
		}
	}
	return t.measurePlaced(p.Key, p.To, p.Taken)
}
