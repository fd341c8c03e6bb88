package gc

import (
	"context"
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/fsck"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/usage"
)

// Command is one run from outside of a server, beside one or alone.
type Command struct {
	Store  store.Opener
	DryRun bool // report what a run would do, and change nothing
	Repair bool // mend the store before the run
	// Trail writes a log line for each removed image at the level info, in place of debug.
	Trail bool
	// OnProgress is called, often, by the goroutine that runs. Nil: nothing is called.
	OnProgress func(Progress)
}

// Run opens the store, runs, and closes it. An error comes with the report of what was done before it.
func (c Command) Run(ctx context.Context) (Report, error) {
	s, err := c.open(ctx)
	if errors.Is(err, store.ErrStarting) {
		return Report{DryRun: true, StartedAt: stamp.Time(time.Now()), Images: []ReportImage{}, HeldBy: HeldByScan}, nil
	}
	if err != nil {
		return Report{}, err
	}
	rep, err := c.run(ctx, s)
	rep.Compared = s.Compared
	if s.Imported {
		err = errors.Join(err, rep.holdImported(ctx, s), s.OpenGate(ctx))
	}
	if err == nil && !c.Repair {
		if err := s.MarkClean(ctx); err != nil {
			c.Store.Log.WithError(err).Warn("the next run has to compare the index with the disk once more")
		}
	}
	return rep, errors.Join(err, s.Close())
}

func (c Command) open(ctx context.Context) (*store.Store, error) {
	o := c.Store
	o.OnWait = func(w store.Wait) { c.tell(Progress{Phase: waiting[w]}) }
	o.OnSeen = func(objects int) { c.tell(Progress{Phase: Comparing, Done: int64(objects)}) }
	if c.DryRun {
		return o.Rehearse(ctx)
	}
	return o.Collect(ctx)
}

// waiting is the phase of a run that waits.
var waiting = map[store.Wait]Phase{store.ForGC: Queueing, store.ForServer: Scanning}

func (c Command) run(ctx context.Context, s *store.Store) (Report, error) {
	used := usage.Of(s.Dir, s.Tree, s.Index, usage.Walked(s.Dir))
	collector := Collector{Files: LocalFiles(s.Dir, s.Tree), Index: s.Index, Log: c.Store.Log, By: index.ByGC,
		Quiet: !c.Trail, OnProgress: c.OnProgress, Began: s.Opened, Usage: used, Space: s.Dir.Space}
	repairs, err := c.repair(ctx, s)
	if err != nil {
		return Report{Repairs: repairs}, err
	}
	if why := store.ShortTTL(s.Policy); why != "" && c.Store.Asked.Explicit() { // else the server has said so
		c.Store.Log.Warn(why)
	}
	rep, err := collector.Run(ctx, s.Policy, c.DryRun)
	rep.Repairs = repairs
	if isNotYet(err) {
		err = nil // the report says so
	}
	return rep, err
}

// repair mends the store when that was asked for.
func (c Command) repair(ctx context.Context, s *store.Store) ([]fsck.Outcome, error) {
	if !c.Repair {
		return nil, nil
	}
	done, err := fsck.Repair(ctx, s, fsck.RepairOptions{DryRun: c.DryRun,
		OnSeen: func(objects, bytes int64) { c.tell(Progress{Phase: Checking, Done: objects, Bytes: bytes}) }})
	return append([]fsck.Outcome{}, done...), err // not nil: a repair was asked for
}

// holdImported reports that nothing was removed, since images were adopted with the dates of their files just now.
func (r *Report) holdImported(ctx context.Context, s *store.Store) error {
	until, err := s.Index.Held(ctx)
	r.HeldBy, r.NothingBefore = HeldByFileDates, stamp.Time(until)
	return err
}

func (c Command) tell(p Progress) {
	if c.OnProgress != nil {
		c.OnProgress(p)
	}
}
