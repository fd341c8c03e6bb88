package gc

import (
	"testing"
	"time"
)

// While a repository cannot be read no blob goes, so an image that went for a budget would free nothing.
func TestNoImageGoesForABudgetWhileARepositoryIsUnread(t *testing.T) {
	w := newWorld(t).budgeted()
	w.image("hidden", "v1", "base", "hidden")
	w.image("open", "v1", "base", "open")
	w.image("open", "v2", "base", "more")
	show := w.hide("repositories/hidden")
	w.compare()
	w.pass(2 * time.Hour)
	rep, err := w.Run(t.Context(), most(1), false)
	if err == nil || rep.Removed.Any() || rep.Eviction.Met {
		t.Errorf("%v, %+v; want nothing to go in vain", err, rep)
	}
	show()
	w.compare()
	w.pass(2 * time.Hour)
	rep, err = w.Run(t.Context(), most(1), false)
	w.must(err)
	if rep.Removed.Tags != 3 {
		t.Errorf("once all can be read: %+v", rep.Removed)
	}
	w.empty()
}
