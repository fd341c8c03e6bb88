package inspect

import (
	"context"
	"errors"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
)

// Check finds everything that is wrong with the store, and says how much it looked at. Deep reads every blob too.
// onSeen is called with how many objects were looked at so far; nil is fine.
func (s Source) Check(ctx context.Context, deep bool, onSeen func(objects int64)) (found []reconcile.Problem, seen reconcile.Checked, err error) {
	o, err := s.Open(ctx)
	if err != nil {
		return nil, seen, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	check := reconcile.CheckOptions{Dir: s.Dir, Index: o.Index, Deep: deep}
	if onSeen != nil {
		check.OnSeen = func(objects, _ int64) { onSeen(objects) }
	}
	found, seen, err = reconcile.Check(ctx, check)
	if err == nil && !seen.Indexed {
		err = s.warnNotCompared(ctx, o.Index)
	}
	return found, seen, err
}

// warnNotCompared says why the index was not compared with the disk.
func (s Source) warnNotCompared(ctx context.Context, ix index.Store) error {
	why := "the index is being rebuilt"
	whole, err := ix.Whole(ctx)
	if whole {
		why = "no server runs, and the next one compares the index with the disk"
	}
	s.Log.Warn(why + ": it was not compared with the disk")
	return err
}
