package gc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// Once is one run from outside a server, beside one or without.
type Once struct {
	Dir    tree.Dir
	Log    logrus.FieldLogger
	DryRun bool
	Repair bool // mend the store before the run
	Asked  policy.Request
	// NameAge is for names that the index does not know; nil: used now.
	NameAge adopt.Age
	// Trail has a line of the log for each removed image at the level info, in place of debug.
	Trail bool
	// OnProgress is called, often, by the goroutine that runs. Nil: nobody looks.
	OnProgress func(Progress)
}

// GraceError refuses a grace shorter than what was promised.
type GraceError struct{ Asked, Owed time.Duration }

func (e *GraceError) Error() string {
	return fmt.Sprintf("grace %s is shorter than the %s that a server of this directory has promised to its clients", config.FormatDuration(e.Asked), config.FormatDuration(e.Owed))
}

// WrongIndexError says that a server uses another index than the one in its directory.
type WrongIndexError struct{ tree.LockedError }

func (e *WrongIndexError) Error() string {
	return fmt.Sprintf("the index of %s was replaced while its server runs (pid %d)", e.Directory, e.Holder.PID)
}

// BarredError says why nothing can be removed before somebody has mended something.
type BarredError struct{ index.Bar }

func (e *BarredError) Error() string {
	return "the server could not compare its index with the disk, so nothing may be removed: " + e.Why
}

// gatePoll is how often a run looks whether a server has rebuilt its index.
const gatePoll = 200 * time.Millisecond

// Run does the run. Without a server the index is brought in line with the disk first, since nobody
// knows what a stock registry, or a crash, did to it meanwhile.
func (o Once) Run(ctx context.Context) (rep Report, err error) {
	if err := o.Dir.Check(); err != nil {
		return rep, err
	}
	if o.DryRun {
		return o.rehearse(ctx)
	}
	tree, err := tree.Open(o.Dir)
	if err != nil {
		return rep, err
	}
	o.tell(Progress{Phase: Queueing})
	unlock, err := o.Dir.LockGC(ctx)
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := tree.Own(o.Dir.GCLock()); err != nil {
		return rep, err
	}
	for { // a server may start, or end, at any time
		rep, again, err := o.beside(ctx, tree)
		if !again {
			return rep, err
		}
	}
}

// beside runs with the server that there is now, or without one. again: that was not so any more.
func (o Once) beside(ctx context.Context, tree *tree.Tree) (rep Report, again bool, err error) {
	live, err := o.awaitServer(ctx)
	if err != nil {
		return rep, false, err
	}
	ix, err := o.open(ctx, live, tree)
	if err != nil {
		return rep, false, err
	}
	defer func() { err = errors.Join(err, ix.Close()) }()
	began := ix.Now()
	if now, err := o.Dir.Live(); err != nil || !same(now, live) {
		return rep, err == nil, err
	}
	c := Collector{Dir: o.Dir, Tree: tree, Index: ix, Log: o.Log, Quiet: !o.Trail, OnProgress: o.OnProgress, Began: began}
	if live == nil {
		rep, err = o.rebuilt(ctx, c)
		return rep, false, err
	}
	if err := o.awaitGate(ctx, ix); err != nil {
		return rep, false, err
	}
	c.Yield = yield
	rep, err = o.run(ctx, c)
	return rep, false, err
}

// yield lets the server write between two steps of a run in another process: SQLite gives the lock to
// whoever asks first, and a loop asks first every time.
const yield = 2 * time.Millisecond

func same(a, b *tree.Holder) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}

// awaitServer returns the server of the directory, or nil. One that has just taken the lock has not said
// yet which index it uses: it may still close the gate.
func (o Once) awaitServer(ctx context.Context) (*tree.Holder, error) {
	for {
		live, err := o.Dir.Live()
		if err != nil || live == nil || live.Index != "" {
			return live, err
		}
		o.tell(Progress{Phase: Scanning})
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

func (o Once) tell(p Progress) {
	if o.OnProgress != nil {
		o.OnProgress(p)
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(gatePoll):
		return nil
	}
}

func (o Once) open(ctx context.Context, live *tree.Holder, tree *tree.Tree) (*sqlite.Store, error) {
	if live == nil {
		if err := tree.Touch(o.Dir.Index()); err != nil { // SQLite's other files get the owner of this one
			return nil, err
		}
		return sqlite.Open(ctx, o.Dir.Index(), sqlite.Alone, time.Now)
	}
	return o.openBeside(ctx, live, sqlite.Beside)
}

// openBeside opens the index of the server, and no other that may lie in its place.
func (o Once) openBeside(ctx context.Context, live *tree.Holder, mode sqlite.Mode) (*sqlite.Store, error) {
	wrong := &WrongIndexError{tree.LockedError{Directory: string(o.Dir), Holder: *live}}
	ix, err := sqlite.Open(ctx, o.Dir.Index(), mode, time.Now)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, wrong
	case err == nil && ix.ID() != live.Index:
		return nil, errors.Join(wrong, ix.Close())
	}
	return ix, err
}

// awaitGate waits for the server that is rebuilding its index.
func (o Once) awaitGate(ctx context.Context, ix index.Store) error {
	for told := false; ; told = true {
		open, err := ix.GateOpen(ctx)
		if open || err != nil {
			return err
		}
		bar, err := ix.Barred(ctx)
		if err != nil {
			return err
		}
		if bar != nil {
			return &BarredError{*bar}
		}
		if !told {
			o.Log.Info(Scanning.String())
			o.tell(Progress{Phase: Scanning})
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// rebuilt adopts first what the index does not know, opens the gate, and runs. After an adoption by file time the
// gate opens behind the run, so that nothing is removed in the same breath in which it was found.
func (o Once) rebuilt(ctx context.Context, c Collector) (rep Report, err error) {
	hold, err := o.hold(ctx, c.Index)
	if err != nil {
		return rep, err
	}
	res, err := reconcile.Rebuild(ctx, reconcile.Options{Dir: o.Dir, Index: c.Index, Log: o.Log, NameAge: o.NameAge, Hold: hold,
		OnSeen: func(objects int) { o.tell(Progress{Phase: Comparing, Done: int64(objects)}) }})
	if err != nil {
		return rep, err
	}
	if err := c.Index.Beat(ctx); err != nil {
		return rep, err
	}
	for _, u := range res.Unread {
		o.Log.WithError(u.Err).Error("a part of the tree cannot be read")
	}
	if res.Adopted > 0 && o.NameAge != nil {
		o.Log.WithField("files", res.Adopted).Info("found files new to dcs and started their clocks; nothing is removed in this run")
		rep, err = o.run(ctx, c)
		until, unread := c.Index.Held(ctx)
		rep.HeldBy, rep.NothingBefore = HeldByFileDates, stamp.Time(until)
		_, unopened := c.Index.OpenGate(ctx, res.Token, res.Repositories()...)
		return rep, errors.Join(err, unread, unopened)
	}
	_, err = c.Index.OpenGate(ctx, res.Token, res.Repositories()...)
	if err != nil {
		return rep, err
	}
	return o.run(ctx, c)
}

// hold is how long what is adopted by file time is kept. Where no server ever ran nothing was promised.
func (o Once) hold(ctx context.Context, ix index.Store) (time.Duration, error) {
	if !o.Dir.Served() {
		return 0, nil
	}
	p, err := o.policy(ctx, ix)
	return p.Grace + p.Resolution, err
}

func (o Once) run(ctx context.Context, c Collector) (Report, error) {
	policy, err := o.policy(ctx, c.Index)
	if err != nil {
		return Report{}, err
	}
	repairs, err := o.repair(ctx, c)
	if err != nil {
		return Report{Repairs: repairs}, err
	}
	if why := ShortTTL(policy); why != "" && o.Asked.Explicit() { // else the server has said so
		o.Log.Warn(why)
	}
	rep, err := c.Run(ctx, policy, o.DryRun)
	rep.Repairs = repairs
	if isHeld(err) {
		err = nil // the report says so
	}
	return rep, err
}

// ShortTTL says why the ttl of a policy does nothing; empty: it does something.
func ShortTTL(p index.Policy) string {
	if p.TTL == 0 || p.TTL >= p.Grace {
		return ""
	}
	return fmt.Sprintf("ttl %s has no effect below the grace of %s", config.FormatDuration(p.TTL), config.FormatDuration(p.Grace))
}

// repair mends the store when that was asked for.
func (o Once) repair(ctx context.Context, c Collector) ([]Repair, error) {
	if !o.Repair {
		return nil, nil
	}
	done, err := c.Repair(ctx, o.DryRun)
	return append([]Repair{}, done...), err
}

func (o Once) policy(ctx context.Context, ix index.Store) (index.Policy, error) {
	last, owed, promised, err := ix.Promised(ctx)
	if err != nil {
		return index.Policy{}, err
	}
	if asked := o.Asked.Grace; asked != nil && *asked < owed.Grace {
		return index.Policy{}, &GraceError{*asked, owed.Grace}
	}
	return o.Asked.Resolve(last, owed, promised), nil
}

// rehearse plans without touching the store, and waits for nobody. Beside a server its index is read as it is;
// without one the rebuild that would come first happens on a copy of the index, elsewhere.
func (o Once) rehearse(ctx context.Context) (rep Report, err error) {
	live, err := o.Dir.Live()
	if err != nil {
		return rep, err
	}
	if live != nil && live.Index == "" { // it has just taken the lock
		return Report{DryRun: true, StartedAt: stamp.Time(time.Now()), Images: []ReportImage{}, HeldBy: HeldByScan}, nil
	}
	if live != nil {
		ix, err := o.openBeside(ctx, live, sqlite.Look)
		if err != nil {
			return rep, err
		}
		defer func() { err = errors.Join(err, ix.Close()) }()
		return o.run(ctx, Collector{Dir: o.Dir, Index: ix, Log: o.Log, OnProgress: o.OnProgress})
	}
	tmp, err := os.MkdirTemp("", "dcs-gc-*")
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	ix, err := sqlite.OpenCopy(ctx, o.Dir.Index(), tmp, time.Now)
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, ix.Close()) }()
	return o.rebuilt(ctx, Collector{Dir: o.Dir, Index: ix, Log: o.Log, OnProgress: o.OnProgress, Began: ix.Now()})
}
