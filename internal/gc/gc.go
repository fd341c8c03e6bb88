// Package gc removes images whose last use is before their cutoff, and content that nothing refers to.
//
// It is the only package that removes stored content; a repair moves damaged blobs aside. A tag, manifest, link or blob
// is removed only if one conditional transaction finds it unused since its cutoff, unreferenced, and the gate open; its
// file is removed in that same transaction. So a run is safe beside a server and beside other runs, whatever is in the
// plan: the plan only says where to look. Every step may be repeated, and the next run finishes what a crash left.
//
// A run removes level by level: tags, manifests (owners before parts), layer links, blobs. The removals of a level are
// durable before the next begins, so that a power loss cannot bring back a manifest without its blobs; where that
// fails the run ends. A run costs what it removes. Files says what it needs of a store's files; LocalFiles are those of
// a tree.
package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Collector works on one store.
type Collector struct {
	Files Files
	Index index.Store
	Log   logrus.FieldLogger
	// By is who runs, for the history in the index. Empty: index.ByServer.
	By string
	// Quiet has the line about each removed image at the level debug, where the report is a table for people.
	Quiet bool
	// OnDelete is called with each blob whose file was removed. Nil: it is not called.
	OnDelete func(digest.Digest)
	// OnProgress is called, often, by the goroutine that runs. Nil: it is not called.
	OnProgress func(Progress)
	// Batch is how many victims one call of RetireAll gets at most; it may come to fewer. 0: 1024.
	Batch int
	// AtMost is how many images go at most for a budget, so that there is room soon. 0: as many as have to.
	AtMost int
	// Usage says what the store takes of its disk, and Space what the file system has free and how large it is. Nil
	// Usage: budgets do not count.
	Usage Usage
	Space func() (free, size int64, err error)
	// Coming is how many bytes clients have announced beyond that, or wait for room for. Nil: none.
	Coming func() int64
	// Began is when the run began, by the index's clock, if that was before Run: what was used or
	// adopted since then stays, however short the ttl. Zero: Run is the beginning.
	Began time.Time
}

// Counts are the objects that a run removed. Blobs counts files, so a manifest is in both.
type Counts struct {
	Tags      int64 `json:"tags"`
	Manifests int64 `json:"manifests"`
	Blobs     int64 `json:"blobs"`
	Uploads   int64 `json:"uploads"`
}

// Any says whether anything was removed.
func (c Counts) Any() bool { return c != Counts{} }

// Result is what a run did.
type Result struct {
	Removed    Counts
	FreedBytes int64 // sizes of the blob files removed
	Images     []Image

	elsewhere int64 // sizes of blobs that are symbolic links, whose removal frees nothing; of a plan
	skipped   int64 // rows of the plan that stayed, since a client used them after it was made
}

// Execute removes what the plan lists, as far as it still may be removed. When ctx ends it stops between two steps; the
// result says what was done.
func (c *Collector) Execute(ctx context.Context, p *Plan) (Result, error) {
	x := execution{
		Collector: c, ctx: ctx, plan: p, files: c.Files.Remover(),
		images: map[layout.Key]Image{}, gone: map[layout.Key]bool{}, moved: map[layout.Key]index.Removed{},
		forgets: p.goneFor == 0,
	}
	for _, i := range p.Images {
		x.images[i.key] = i
	}
	err := x.record(x.run)
	x.logRest()
	x.result.Images = p.imagesOf(x.gone)
	c.tell(Progress{Phase: Emptying})
	return x.result, errors.Join(err, x.files.Empty())
}

type execution struct {
	*Collector
	ctx    context.Context
	plan   *Plan
	result Result
	done   int64                // steps
	lines  int                  // removed images that had their turn in the log
	images map[layout.Key]Image // of the plan
	gone   map[layout.Key]bool
	moved  map[layout.Key]index.Removed // files that went, of rows that are not known to be gone
	files  Remover

	forgets bool // what is removed is not remembered
	resumes bool // an earlier run did not come to its end: what it removed may come back after a power loss
}

// record has the index remember that a run is under way, so that the next one can tell that it did not end. An index
// that cannot record it, since the disk is full, stops nothing.
func (x *execution) record(run func() error) error {
	if x.plan.steps() == 0 {
		return run()
	}
	last, err := x.Index.UnfinishedRun(x.ctx)
	x.resumes = err != nil || !last.IsZero()
	_ = x.Index.BeginRun(x.ctx)
	err = run()
	if !isFatal(err) {
		_ = x.Index.EndRun(x.ctx)
	}
	return err
}

// run removes uploads first: that needs no index, and so works on a disk that they filled. What cannot be removed stops
// nothing else: the index keeps what it refers to.
func (x *execution) run() error {
	errs := []error{x.removeUploads()}
	if x.resumes {
		if err := notDurable(x.files.Resume()); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	for _, rows := range x.plan.levels() {
		err := errors.Join(x.retireLevel(rows), notDurable(x.files.EndLevel(x.synced)))
		errs = append(errs, err)
		if isFatal(err) {
			break
		}
	}
	return errors.Join(errs...)
}

// errNotDurable says that a power loss may bring back what a level removed, so what that refers to has to stay.
var errNotDurable = errors.New("what was removed may come back after a power loss")

func notDurable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w, and the run ends: %w", errNotDurable, err)
}

// maxFailed is after how many failures of the index in a row a level is given up.
const maxFailed = 3

// retireLevel retires rows of which none refers to another.
func (x *execution) retireLevel(rows []index.Row) error {
	var errs []error
	victims := x.plan.Victims(rows)
	whole := cmp.Or(x.Batch, 1024)
	for size, failed := whole, 0; len(victims) > 0; {
		n, err := x.retire(victims[:min(size, len(victims))])
		switch {
		case n > 0:
			size, failed = whole, 0
		case size > 1 && !isFatal(err):
			size = 1 // retry one at a time: one of the batch made it fail
			continue
		default:
			n, failed = 1, failed+1
		}
		errs = append(errs, err)
		if isFatal(err) || failed == maxFailed {
			break
		}
		victims = victims[n:]
		for range n {
			x.step()
		}
	}
	return errors.Join(errs...)
}

// isFatal says that the run ends: the next step would fail as this one did, or must not be taken.
func isFatal(err error) bool {
	for _, e := range []error{context.Canceled, context.DeadlineExceeded, index.ErrFull, index.ErrCorrupt,
		index.ErrDisk, errNotDurable} {
		if errors.Is(err, e) {
			return true
		}
	}
	return isNotYet(err)
}

// retire retires the first of some victims, and says how many it came to.
func (x *execution) retire(victims []index.Victim) (int, error) {
	if err := x.ctx.Err(); err != nil {
		return 0, err
	}
	all, err := x.Index.RetireAll(x.ctx, victims, x.remove)
	if errors.Is(err, index.ErrFull) && x.files.MakeRoom() {
		x.Log.Warn("the disk is full; the ballast makes room for the index")
		_ = x.Index.BeginRun(x.ctx) // before the first row goes: there was no room to record it
		all, err = x.Index.RetireAll(x.ctx, victims, x.remove)
	}
	if errors.Is(err, index.ErrFull) && !x.forgets {
		x.Log.Warn("the disk is full; what this run removes from now on is not remembered")
		x.forgets = true
		all, err = x.Index.RetireAll(x.ctx, victims, x.remove)
	}
	if err != nil {
		return 0, fmt.Errorf("retire %s: %w", victims[0].Key, err)
	}
	var errs []error
	for i, r := range all {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("retire %s: %w", victims[i].Key, r.Err))
		}
		switch {
		case r.Row != nil:
			x.count(*r.Row, r.Removed)
			delete(x.moved, r.Row.Key)
		case r.Err == nil:
			x.result.skipped++
		}
	}
	return len(all), errors.Join(errs...)
}

// count adds a row that was retired to the result, and reports it.
func (x *execution) count(row index.Row, removed index.Removed) {
	x.gone[row.Key] = true
	x.logRemoved(row)
	switch row.Key.Kind {
	case layout.Tag:
		x.result.Removed.Tags++
	case layout.Manifest:
		if removed.File {
			x.result.Removed.Manifests++
		}
	case layout.Blob:
		if !removed.File {
			return // it was a claim
		}
		x.result.Removed.Blobs++
		x.result.FreedBytes += removed.Bytes
		if x.OnDelete != nil {
			x.OnDelete(row.Digest)
		}
	}
}

// trail is how many removed images of one run have a line of their own in the log.
const trail = 1000

// logRemoved writes a line about an image whose row was retired.
func (x *execution) logRemoved(row index.Row) {
	i, ok := x.images[row.Key]
	if !ok {
		return
	}
	if x.lines++; x.lines > trail {
		return
	}
	fields := logrus.Fields{"repository": i.Repository, "tag": i.Tag, "digest": i.Digest, "reason": i.Reason,
		"last_access": stamp.Time(i.LastAccess).String(), "bytes": i.UniqueBytes}
	if i.Rule != rule.Default {
		fields["rule"] = x.plan.rules.Name(i.Rule)
	}
	x.log(fields, "removed image")
}

// logRest says how many images had no line.
func (x *execution) logRest() {
	if more := x.lines - trail; more > 0 {
		x.log(logrus.Fields{"count": more}, "removed more images, which have no line each")
	}
}

func (c *Collector) log(fields logrus.Fields, line string) {
	level := logrus.InfoLevel
	if c.Quiet {
		level = logrus.DebugLevel
	}
	c.Log.WithFields(fields).Log(level, line)
}

// remove removes the file of a row, inside the transaction that removes the row. A transaction that failed may have
// removed it before.
func (x *execution) remove(row index.Row) (index.Removed, error) {
	if row.Key.Kind == layout.Layer && x.plan.pushes.waitsForUpload(row) {
		return index.Removed{}, index.ErrSkip
	}
	removed, err := x.files.Remove(row)
	if before, ok := x.moved[row.Key]; ok && err == nil && !removed.File {
		removed = before
	} else if removed.File {
		x.moved[row.Key] = removed
	}
	removed.Image = x.removal(row.Key)
	return removed, err
}

// synced reports how many directories of a level are synced.
func (x *execution) synced(done, all int) {
	x.tell(Progress{Phase: Syncing, Done: int64(done), Total: int64(all), Bytes: x.result.FreedBytes})
}
