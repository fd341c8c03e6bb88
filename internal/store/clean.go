package store

import (
	"context"
	"errors"

	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// A gc without a server that ends cleanly marks its index with an Imprint of the tree: the one that it took before it
// compared the two, with its own changes. So a change that was made beside it, and that it did not see, is not in it.
// The next gc compares the index with the tree only if that has another Imprint by then. All who change a store lift
// the mark first, since they close the gate. A server leaves none: it does not know who else changed the tree beside
// it.

// Why the index is compared with the tree.
const (
	noMark  = "no dcs gc without a server has ended cleanly since the last server or crash"
	touched = "the tree was changed since the last dcs gc"
)

// compare brings the index in line with the tree, unless the tree is as the last gc left it. The gate is closed
// afterwards.
func (o Opener) compare(ctx context.Context, s *Store) error {
	mark, err := s.Index.Clean(ctx)
	if err != nil {
		return err
	}
	token, err := s.Index.CloseGate(ctx) // before the look at the tree: who comes now closes it once more
	if err != nil {
		return err
	}
	now, err := o.Dir.Imprint(ctx)
	var untellable *tree.UntellableError
	switch {
	case errors.As(err, &untellable):
		s.Compared = untellable.Why
	case err != nil:
		return err
	case mark == "":
		s.Compared = noMark
	case mark != now.String():
		s.Compared = touched
	}
	if untellable == nil && s.Tree != nil {
		s.Tree.Follow(now)
		if s.Compared != "" { // a change with the times of the Imprint must come before the walk
			_, told, err := s.Tree.Followed()
			if err != nil {
				return err
			}
			if !told { // as where a restore set the time of a link to a later day
				s.Tree.Unfollow()
			}
		}
	}
	if s.Compared == "" {
		s.rebuilt = reconcile.Result{Token: token}
		return nil
	}
	o.Log.WithField("reason", s.Compared).Debug("comparing the index with the disk")
	return o.rebuild(ctx, s)
}

// MarkClean lets the next gc do without a comparison. It is called when the store is left, by a gc without a server of
// which all went well. Where a change of the tree would not be told, there is no mark.
func (s *Store) MarkClean(ctx context.Context) error {
	if s.Tree == nil || s.Server != nil || !s.rebuilt.Told() {
		return nil
	}
	left, told, err := s.Tree.Followed()
	if err != nil || !told {
		return err
	}
	_, err = s.Index.MarkClean(ctx, s.rebuilt.Token, left.String())
	return err
}
