// Package gc removes images that the policy gave up on, and the content only they used.
//
// It is the only package that deletes stored content. A thing goes only when one conditional
// transaction finds it unused since its cutoff, unreferenced, and the gate open; its file is moved to
// the trash in that same transaction. So a run is safe beside a server, beside other runs, and whatever
// the plan says: the plan only tells where to look. Every step may be repeated, and a crash anywhere is
// finished by the next run.
//
// A run goes from names to content: tags, manifests (parents before children), layer links, blobs. The
// directories of a level are synced before the next begins, so that a power loss cannot bring back a
// manifest whose blobs are gone. What it costs follows what it removes.
package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Collector works on one store.
type Collector struct {
	Dir   tree.Dir
	Tree  *tree.Tree
	Index index.Store
	Log   logrus.FieldLogger
	// Quiet has the line about each removed image at the level debug, where the report is a table for people.
	Quiet bool
	// OnDelete is called with each blob whose file was removed. Nil: nobody wants to know.
	OnDelete func(digest.Digest)
	// OnProgress is called, often, by the goroutine that runs. Nil: nobody looks.
	OnProgress func(Progress)
	// Yield is how long to wait between two steps at least, so that writers of another process get their turn.
	Yield time.Duration
	// Batch is how many things one transaction retires at most. 0: 64, which take a few milliseconds.
	Batch int
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

	elsewhere int64 // sizes of files to which only links are removed; of a plan
}

// Execute removes what the plan lists, as far as it is still unwanted. When ctx ends it stops between
// two steps; the result says what was done.
func (c *Collector) Execute(ctx context.Context, p *Plan) (Result, error) {
	x := execution{Collector: c, ctx: ctx, plan: p, images: map[layout.Key]Image{}, gone: map[layout.Key]bool{}, removed: map[layout.Key]bool{}, levels: map[string]bool{}}
	for _, i := range p.Images {
		x.images[i.key] = i
	}
	err := x.record(x.run)
	x.toldAll()
	x.result.Images = p.imagesOf(x.gone)
	c.tell(Progress{Phase: Emptying})
	return x.result, errors.Join(err, c.Tree.EmptyTrash())
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
	// removed are the blobs whose file went; one that only claimed to be has none.
	removed map[layout.Key]bool
	levels  map[string]bool // directories from which this level removed names
}

// record lets the index know while a run is under way. It is for the next one to say what it found: an index that
// cannot record it, since the disk is full, holds up nothing.
func (x *execution) record(run func() error) error {
	if x.plan.steps() == 0 {
		return run()
	}
	_ = x.Index.BeginRun(x.ctx)
	err := run()
	if !hopeless(err) {
		_ = x.Index.EndRun(x.ctx)
	}
	return err
}

// run removes uploads first: that needs no index, and so works on a disk that they filled. What cannot be
// removed holds up nothing else: what it refers to stays by itself.
func (x *execution) run() error {
	errs := []error{x.removeUploads()}
	for _, level := range []struct {
		rows   []index.Row
		remove func([]index.Row) error
		last   bool // a blob that a power loss brings back is adopted, and goes again
	}{
		{x.plan.Tags, x.removeTag, false}, {x.plan.Manifests, x.removeManifests, false}, {x.plan.Layers, x.removeLayer, false}, {x.plan.Blobs, x.removeBlob, true},
	} {
		for rows := level.rows; len(rows) > 0; { // what names something goes before it, from a level of its own
			depth := x.plan.depth[rows[0].Key]
			n := slices.IndexFunc(rows, func(r index.Row) bool { return x.plan.depth[r.Key] != depth })
			if n < 0 {
				n = len(rows)
			}
			err := x.retireLevel(rows[:n], level.remove)
			errs = append(errs, err, x.endLevel(level.last))
			if hopeless(err) {
				return errors.Join(errs...)
			}
			rows = rows[n:]
		}
	}
	return errors.Join(errs...)
}

// maxFailed is after how many failures of the index in a row a level is given up.
const maxFailed = 3

// maxYield bounds how long a run waits for others: a step may have taken seconds because it waited itself.
const maxYield = 100 * time.Millisecond

// retireLevel retires rows of which none keeps another.
func (x *execution) retireLevel(rows []index.Row, remove func([]index.Row) error) error {
	var errs []error
	var keys []layout.Key
	for _, r := range rows {
		if !x.gone[r.Key] { // else it went together with another one
			keys = append(keys, r.Key)
		}
	}
	whole := cmp.Or(x.Batch, 64)
	for size, failed := whole, 0; len(keys) > 0; {
		began := time.Now()
		n, err := x.retire(keys[:min(size, len(keys))], remove)
		switch {
		case n > 0:
			size, failed = whole, 0
		case size > 1 && !hopeless(err):
			size = 1 // whatever the index cannot do is the fault of one of them
			continue
		default:
			n, failed = 1, failed+1
		}
		errs = append(errs, err)
		if hopeless(err) || failed == maxFailed {
			break
		}
		keys = keys[n:]
		for range n {
			x.step()
		}
		if x.Yield > 0 { // on a busy machine a step takes longer, and so do those who wait
			time.Sleep(max(x.Yield, min(2*time.Since(began), maxYield)))
		}
	}
	return errors.Join(errs...)
}

// hopeless says that the next step would fail as this one did.
func hopeless(err error) bool {
	for _, e := range []error{context.Canceled, context.DeadlineExceeded, index.ErrFull, index.ErrCorrupt} {
		if errors.Is(err, e) {
			return true
		}
	}
	return isHeld(err)
}

// retire retires the first of some keys, and says how many it came to.
func (x *execution) retire(keys []layout.Key, remove func([]index.Row) error) (int, error) {
	if err := x.ctx.Err(); err != nil {
		return 0, err
	}
	before := x.result
	counted := func(rows []index.Row) error {
		then := x.result
		err := remove(rows)
		if err != nil {
			x.result = then
		}
		return err
	}
	all, err := x.Index.RetireAll(x.ctx, keys, x.plan.Cutoffs, counted)
	if errors.Is(err, index.ErrFull) && x.Tree.DropBallast(x.Dir.Ballast()) {
		x.Log.Warn("the disk is full; the ballast makes room for the index")
		x.result = before
		all, err = x.Index.RetireAll(x.ctx, keys, x.plan.Cutoffs, counted)
	}
	if err != nil {
		x.result = before // counted inside the transaction, which did not happen
		return 0, fmt.Errorf("retire %s: %w", keys[0], err)
	}
	var errs []error
	for i, r := range all {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("retire %s: %w", keys[i], r.Err))
		}
		for _, row := range r.Rows {
			x.gone[row.Key] = true
			x.told(row)
			if x.removed[row.Key] && x.OnDelete != nil {
				x.OnDelete(row.Digest)
			}
		}
	}
	return len(all), errors.Join(errs...)
}

// trail is how many removed images of one run have a line of their own in the log.
const trail = 1000

func (x *execution) told(row index.Row) {
	i, ok := x.images[row.Key]
	if !ok {
		return
	}
	if x.lines++; x.lines > trail {
		return
	}
	x.tellLog(logrus.Fields{"repository": i.Repository, "tag": i.Tag, "digest": i.Digest, "reason": i.Reason,
		"last_access": stamp.Time(i.LastAccess).String(), "bytes": i.UniqueBytes}, "removed image")
}

// toldAll says how many images had no line.
func (x *execution) toldAll() {
	if more := x.lines - trail; more > 0 {
		x.tellLog(logrus.Fields{"count": more}, "removed more images, which have no line each")
	}
}

func (x *execution) tellLog(fields logrus.Fields, line string) {
	level := logrus.InfoLevel
	if x.Quiet {
		level = logrus.DebugLevel
	}
	x.Log.WithFields(fields).Log(level, line)
}

// The remove functions run inside the transaction that removes the rows.

func (x *execution) removeTag(rows []index.Row) error {
	k := rows[0].Key
	dir := x.Dir.File(layout.Path{Kind: layout.TagDir, Repository: k.Repository, Tag: k.Tag})
	if _, err := x.Tree.Trash(dir); err != nil {
		return err
	}
	x.result.Removed.Tags++
	x.levels[filepath.Dir(dir)] = true
	return nil
}

func (x *execution) removeManifests(rows []index.Row) error {
	for _, r := range rows {
		there, err := x.removeLink(r.Key)
		if err != nil {
			return err
		}
		if there {
			x.result.Removed.Manifests++
		}
	}
	return nil
}

func (x *execution) removeLayer(rows []index.Row) error {
	if x.plan.waitsForUpload(rows[0]) {
		return index.ErrSkip
	}
	_, err := x.removeLink(rows[0].Key)
	return err
}

// removeLink says whether the link was there. It is so small that to remove it takes no longer than to
// move it away.
func (x *execution) removeLink(k layout.Key) (there bool, err error) {
	return x.remove(x.Dir.File(k.Path()), x.Tree.Remove)
}

func (x *execution) removeBlob(rows []index.Row) error {
	file := x.Dir.File(rows[0].Key.Path())
	fi, err := os.Lstat(file)
	if err == nil && !fi.Mode().IsRegular() && fi.Mode()&fs.ModeSymlink == 0 {
		err = fmt.Errorf("%s is no regular file", file)
	}
	if err != nil && !tree.Missing(err) {
		return err
	}
	there, err := x.remove(file, x.Tree.Trash)
	if err == nil && there {
		x.removed[rows[0].Key] = true
		x.result.Removed.Blobs++
		if fi.Mode().IsRegular() { // what a link leads to stays, as it belongs to who made the link
			x.result.FreedBytes += fi.Size()
		}
	}
	return err
}

// remove takes a link or a blob away, with its directory, which holds nothing else as a rule: so one sync of
// what held the directories makes the removal of many sure. False: a claim whose file never came.
func (x *execution) remove(file string, how func(string) (bool, error)) (there bool, err error) {
	dir := filepath.Dir(file)
	there, err = how(file)
	if err != nil && !tree.Missing(err) {
		return false, err
	}
	removed := x.Tree.RemoveEmpty(dir)
	if !removed && there { // stock registries kept the signatures of a schema 1 manifest there, for one
		removed, _ = x.Tree.Trash(dir) // the name is gone in any case
	}
	if removed {
		dir = filepath.Dir(dir)
	}
	x.levels[dir] = true
	return there, nil
}

// endLevel makes the removals of a level durable if others depend on that, and removes the directories that
// they left empty.
func (x *execution) endLevel(last bool) error {
	var errs []error
	for dir := range x.levels {
		if !last {
			errs = append(errs, disk.SyncDir(dir))
			x.tell(Progress{Phase: Syncing, Done: int64(len(errs)), Total: int64(len(x.levels)), Bytes: x.result.FreedBytes})
		}
		x.pruneFrom(dir)
	}
	clear(x.levels)
	return errors.Join(errs...)
}

// pruneFrom removes dir and its parents as long as they are empty, and what an empty repository still has.
func (x *execution) pruneFrom(dir string) {
	x.pruneUploads(dir)
	x.Tree.Prune(dir, string(x.Dir))
}

// pruneUploads removes the empty list of uploads of the repository that dir is part of.
func (x *execution) pruneUploads(dir string) {
	for ; len(dir) > len(x.Dir); dir = filepath.Dir(dir) {
		if base := filepath.Base(dir); base == "_layers" || base == "_manifests" {
			x.Tree.RemoveEmpty(filepath.Join(filepath.Dir(dir), "_uploads")) // what is not empty stays, and so does a link
			return
		}
	}
}

func (x *execution) removeUploads() error {
	var errs []error
	for _, u := range x.plan.Uploads {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		moved, err := x.Tree.TrashIf(x.Dir.File(u), func(moved string) (bool, error) {
			over, err := abandoned(moved, x.plan.uploadCutoff)
			return !over, err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("remove upload %s of %s: %w", u.Upload, u.Repository, err))
		}
		if moved {
			x.result.Removed.Uploads++
			x.Tree.Prune(filepath.Dir(x.Dir.File(u)), string(x.Dir))
		}
		x.step()
	}
	return errors.Join(append(errs, x.Tree.EmptyTrash())...)
}

// oldestUpload is when the first of the uploads began that are under way in a repository; ok: there is
// one. One that begins after the plan cannot be part of a push whose links are old enough to go.
func (x *planner) oldestUpload(repo string) (oldest time.Time, ok bool, err error) {
	err = x.walk.Uploads(x.ctx, repo, func(id string) error {
		u := layout.Path{Kind: layout.UploadDir, Repository: repo, Upload: id}
		last, err := lastWrite(x.Dir.File(u))
		if err != nil {
			return x.walk.Pass(repo, err)
		}
		if last.Before(x.uploadCutoff) {
			return nil
		}
		if began, says := started(x.Dir, u); says && (!ok || began.Before(oldest)) {
			oldest, ok = began, true
		}
		return nil
	})
	return oldest, ok, err
}

// waitsForUpload says whether a link may be part of a push that is under way: an upload into the
// repository began while the link was in lease, and is still being written. The manifest comes last.
func (p *Plan) waitsForUpload(r index.Row) bool {
	oldest, ok := p.uploading[r.Key.Repository]
	return ok && !oldest.After(r.AccessedAt.Add(p.lease))
}

// abandoned says whether a directory is an upload to which nothing was written since. One that holds what no
// registry puts into an upload is somebody's own, such as where a link in the place of the list leads.
func abandoned(dir string, since time.Time) (bool, error) {
	last, err := lastWrite(dir)
	if err != nil || !last.Before(since) {
		return false, err
	}
	entries, err := os.ReadDir(dir)
	if tree.Missing(err) {
		return true, nil
	}
	strange := slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return !slices.Contains([]string{"data", "startedat", "hashstates"}, e.Name())
	})
	return !strange, err
}

// lastWrite is when something was last written to an upload: its data, or the file that is touched
// whenever a client goes on.
func lastWrite(dir string) (last time.Time, err error) {
	for _, name := range []string{"", "data", "startedat"} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if tree.Missing(err) {
			continue
		}
		if err != nil {
			return last, err
		}
		if fi.ModTime().After(last) {
			last = fi.ModTime()
		}
	}
	return last, nil
}

// started is when an upload began. One that does not say cannot be finished, and is part of no push.
func started(dir tree.Dir, u layout.Path) (time.Time, bool) {
	u.Kind = layout.UploadStartedAt
	data, err := disk.ReadFile(dir.File(u))
	if err != nil {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, string(data))
	return t, err == nil
}
