package gc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// run is a run that is stopped after so many steps; 0: never.
func (w *world) run(steps int) (Report, error) {
	w.t.Helper()
	return w.runUnder(rules, steps)
}

func (w *world) runUnder(p index.Policy, steps int) (Report, error) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	w.Batch = 1
	w.OnProgress = func(at Progress) {
		if at.Phase == Removing && at.Done == int64(steps) {
			cancel()
		}
	}
	return w.Run(ctx, p, false)
}

func TestARunStoppedBetweenAnyTwoStepsIsFinishedByTheNext(t *testing.T) {
	w := newWorld(t)
	w.fill()
	plan, err := w.NewPlan(t.Context(), rules)
	w.must(err)
	whole, err := w.run(0)
	w.must(err)
	w.empty()
	for steps := 1; steps <= int(plan.steps()); steps++ {
		t.Run(fmt.Sprintf("after %d", steps), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill()
			first, err := w.run(steps)
			if stopped := steps < int(plan.steps()); errors.Is(err, context.Canceled) != stopped ||
				(err != nil) != stopped {
				t.Fatalf("after %d of %d steps the run says %v", steps, plan.steps(), err)
			}
			if first.Planned != len(whole.Images) {
				t.Errorf("planned %d images; want %d", first.Planned, len(whole.Images))
			}
			w.whole()
			w.adopt(true)
			second, err := w.run(0)
			w.must(err)
			w.empty()
			sum := Counts{first.Removed.Tags + second.Removed.Tags, first.Removed.Manifests + second.Removed.Manifests,
				first.Removed.Blobs + second.Removed.Blobs, first.Removed.Uploads + second.Removed.Uploads}
			if sum != whole.Removed || first.FreedBytes+second.FreedBytes != whole.FreedBytes {
				t.Errorf("in two runs %+v, %d and %d bytes; in one %+v, %d bytes", sum, first.FreedBytes,
					second.FreedBytes, whole.Removed, whole.FreedBytes)
			}
			got := names(first, second)
			for _, image := range names(whole) {
				if !slices.Contains(got, image) {
					t.Errorf("neither run tells of %s", image)
				}
			}
		})
	}
}

// names are the manifests that reports tell of. A part of an image whose top went in the first run is an
// untagged image in the second.
func names(reports ...Report) (all []string) {
	for _, rep := range reports {
		for _, i := range rep.Images {
			all = append(all, i.Repository+"@"+i.Digest.String())
		}
	}
	return all
}

func TestAStopBeforeThePlanRemovesNothing(t *testing.T) {
	w := newWorld(t)
	w.fill()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rep, err := w.Run(ctx, rules, false)
	if !errors.Is(err, context.Canceled) || rep.Removed.Any() || rep.Remaining.Tags != 5 {
		t.Errorf("%v, %+v; want the five tags to remain", err, rep)
	}
}

// Whatever else lies beside a link or a blob goes with it: stock registries kept signatures of schema 1 manifests
// there.
func TestWhatLiesBesideALinkOrABlobGoesWithIt(t *testing.T) {
	w := newWorld(t)
	d := w.image("app", "v1", "l")
	for _, k := range []layout.Key{layout.ManifestKey("app", d), layout.BlobKey(d)} {
		beside := filepath.Join(filepath.Dir(w.Dir.File(k.Path())), "signatures", "sha256", "x")
		w.must(os.MkdirAll(beside, 0o755))
		w.must(os.WriteFile(filepath.Join(beside, "link"), []byte("x"), 0o644))
	}
	w.adopt(false)
	w.pass(1000 * time.Hour)
	_, err := w.run(0)
	w.must(err)
	w.empty()
}

func TestProgressAddsUp(t *testing.T) {
	w := newWorld(t)
	w.fill()
	var phases []Phase
	last := map[Phase]Progress{}
	w.OnProgress = func(p Progress) {
		if before := last[p.Phase]; p.Phase == Removing && (p.Done != before.Done+1 || p.Bytes < before.Bytes) {
			t.Errorf("after %+v comes %+v", before, p)
		}
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
		last[p.Phase] = p
	}
	rep, err := w.Run(t.Context(), rules, false)
	w.must(err)
	end := last[Removing]
	if n := rep.Removed; end.Done != end.Total || end.Bytes != rep.FreedBytes ||
		end.Total < n.Tags+n.Manifests+n.Blobs+n.Uploads {
		t.Errorf("the last step is %+v after %+v", end, rep)
	}
	if phases[0] != Planning || phases[1] != Removing || phases[len(phases)-1] != Emptying ||
		!slices.Contains(phases, Syncing) {
		t.Errorf("phases %v", phases)
	}
}

func TestEachImageIsLoggedWhenItGoes(t *testing.T) {
	w := newWorld(t)
	w.fill()
	out := w.debug()
	dry, err := w.Run(t.Context(), rules, true)
	w.must(err)
	if out.Len() > 0 {
		t.Errorf("a dry run logs %s", out)
	}
	var lines int
	w.OnProgress = func(p Progress) {
		if p.Phase == Removing && p.Done == 4 && out.Len() == 0 { // two uploads and two tags
			t.Error("nothing is logged before the end")
		}
	}
	rep, err := w.Run(t.Context(), rules, false)
	w.must(err)
	for sc := bufio.NewScanner(out); sc.Scan(); lines++ {
		var line struct {
			Msg, Repository, Tag, Reason string
			Digest                       digest.Digest
			LastAccess                   time.Time `json:"last_access"`
			Bytes                        int64
		}
		w.must(json.Unmarshal(sc.Bytes(), &line))
		if !slices.ContainsFunc(rep.Images, func(i ReportImage) bool {
			return line.Msg == "removed image" && i.Repository == line.Repository && i.Tag == line.Tag &&
				i.Digest == line.Digest && i.Reason == line.Reason &&
				time.Time(i.LastAccess).Equal(line.LastAccess) && i.UniqueBytes == line.Bytes
		}) {
			t.Errorf("no such image: %s", sc.Text())
		}
	}
	if lines != len(rep.Images) || lines != 6 {
		t.Errorf("%d lines for %d images", lines, len(rep.Images))
	}
	if !slices.Equal(dry.Images, rep.Images) || dry.Removed != rep.Removed || dry.FreedBytes != rep.FreedBytes ||
		dry.Remaining != rep.Remaining {
		t.Errorf("planned %+v\nremoved %+v", dry, rep)
	}
}

// A store that was never indexed is adopted first. However short the ttl, and however long the adoption
// takes, what was found in this run stays in this run.
func TestNothingUsedSinceTheRunBeganGoes(t *testing.T) {
	w := newWorld(t)
	w.image("app", "v1", "base")
	w.Began = w.Index.Now()
	w.adopt(false)
	w.pass(rules.TTL + 2*time.Hour) // the adoption took so long
	rep, err := w.Run(t.Context(), rules, false)
	w.must(err)
	if rep.Removed.Any() || !time.Time(rep.StartedAt).Equal(w.Began) {
		t.Errorf("removed %+v in a run that began at %v", rep.Removed, rep.StartedAt)
	}
	w.Began = w.Index.Now()
	if rep, err := w.Run(t.Context(), rules, false); err != nil || rep.Removed.Tags != 1 {
		t.Errorf("the next run: %+v, %v", rep.Removed, err)
	}
}

// The line about an image says which rule took it, as an operator finds it in the configuration.
func TestTheLogNamesTheRule(t *testing.T) {
	w := newWorld(t)
	w.image("ci", "build-7", "base")
	w.adopt(false)
	w.pass(3 * time.Hour)
	out := w.debug()
	rep, err := w.Run(t.Context(), under(rule.Rule{Repository: "base"}, rule.Rule{Repository: "ci", Tag: "build-*",
		TTL: ptr(time.Hour)}), false)
	w.must(err)
	if len(rep.Images) != 1 || !strings.Contains(out.String(), `"reason":"rule","repository":"ci","rule":"2 (ci:build-*)"`) {
		t.Errorf("%+v\n%s", rep.Images, out)
	}
}

func TestWhileTheGateIsShutADryRunPromisesOnlyWhatARunDoes(t *testing.T) {
	w := newWorld(t)
	w.fill()
	_, err := w.Index.CloseGate(t.Context())
	w.must(err)
	dry, err := w.Run(t.Context(), rules, true)
	if !errors.Is(err, index.ErrGateClosed) {
		t.Errorf("the dry run says %v", err)
	}
	rep, err := w.Run(t.Context(), rules, false)
	if !errors.Is(err, index.ErrGateClosed) {
		t.Errorf("the run says %v", err)
	}
	if want := (Counts{Uploads: 2}); dry.Removed != want || rep.Removed != want ||
		len(dry.Images)+len(rep.Images) > 0 || dry.Remaining != rep.Remaining {
		t.Errorf("planned %+v, removed %+v; want the two uploads", dry, rep)
	}
}

func TestTheBuiltInCleanerTellsOfEachImageToo(t *testing.T) {
	w := newWorld(t)
	w.fill()
	out := w.debug()
	var rep Report
	s := Scheduler{Collector: w.Collector, OnRun: func(r Report, _ error) { rep = r }}
	s.once(t.Context(), rules)
	done := fmt.Sprintf("clean-up done: removed 6 images, %d blobs", rep.Removed.Blobs)
	if n := strings.Count(out.String(), "removed image"); n != len(rep.Images) || n != 6 ||
		strings.Count(out.String(), done) != 1 {
		t.Errorf("%d lines for %d images:\n%s", n, len(rep.Images), out)
	}
}

// failing is an index that cannot retire some things, and says so of the whole transaction.
type failing struct {
	index.Store
	bad   func(layout.Key) bool
	tries int
}

func (f *failing) RetireAll(ctx context.Context, vs []index.Victim, remove index.Remove) ([]index.Retired, error) {
	f.tries++
	if slices.ContainsFunc(vs, func(v index.Victim) bool { return f.bad(v.Key) }) {
		return nil, errors.New("disk I/O error")
	}
	return f.Store.RetireAll(ctx, vs, remove)
}

// TestWhatTheIndexCannotRetireHoldsUpNothingElse, and a run over an index that can retire nothing ends.
func TestWhatTheIndexCannotRetireHoldsUpNothingElse(t *testing.T) {
	w := newWorld(t)
	w.fill()
	bad := layout.Key{}
	ix := &failing{Store: w.Index, bad: func(k layout.Key) bool {
		if bad == (layout.Key{}) && k.Kind == layout.Tag {
			bad = k
		}
		return k == bad
	}}
	w.Index = ix
	rep, err := w.Run(t.Context(), rules, false)
	if err == nil || !strings.Contains(err.Error(), bad.String()) || rep.Removed.Tags != 4 {
		t.Errorf("%v, removed %+v; want all tags but %s", err, rep.Removed, bad)
	}
	ix.bad, ix.tries = func(layout.Key) bool { return true }, 0
	if _, err := w.Run(t.Context(), rules, false); err == nil || ix.tries > 100 {
		t.Errorf("%v after %d tries", err, ix.tries)
	}
}

// rolledBack is an index of which every other transaction is rolled back, after a file was removed in it.
type rolledBack struct {
	index.Store
	err  error
	fail bool
}

func (f *rolledBack) RetireAll(ctx context.Context, vs []index.Victim, remove index.Remove) (_ []index.Retired,
	err error) {
	if f.fail = !f.fail; !f.fail {
		return f.Store.RetireAll(ctx, vs, remove)
	}
	defer func() {
		if recover() != nil {
			err = f.err
		}
	}()
	return f.Store.RetireAll(ctx, vs, func(row index.Row) (index.Removed, error) {
		_, err := remove(row)
		panic(fmt.Sprint("rolled back after ", err))
	})
}

// A transaction that fails may have moved files before. They went in this run, and are counted when their rows go.
func TestWhatAFailedTransactionMovedIsCounted(t *testing.T) {
	w := newWorld(t)
	w.fill()
	want, err := w.run(0)
	w.must(err)
	for name, err := range map[string]error{"once more": index.ErrFull, "one by one": errors.New("disk I/O error")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fill()
			w.must(w.tree.KeepBallast())
			w.Index = &rolledBack{Store: w.Index, err: err}
			w.OnProgress = func(Progress) {
				if err := w.tree.KeepBallast(); err != nil {
					t.Error(err)
				}
			}
			rep, err := w.Run(t.Context(), rules, false)
			if errors.Is(err, index.ErrFull) {
				t.Error(err)
			}
			w.empty()
			if rep.Removed != want.Removed || rep.FreedBytes != want.FreedBytes {
				t.Errorf("%+v, %d bytes; want %+v, %d bytes", rep.Removed, rep.FreedBytes, want.Removed,
					want.FreedBytes)
			}
		})
	}
}

// fullDisk is an index that cannot write until the ballast is given back.
type fullDisk struct {
	index.Store
	*world
}

func (f *fullDisk) full() bool {
	_, err := os.Stat(f.Dir.Ballast())
	return err == nil
}

func (f *fullDisk) BeginRun(ctx context.Context) error {
	if f.full() {
		return index.ErrFull
	}
	return f.Store.BeginRun(ctx)
}

func (f *fullDisk) RetireAll(ctx context.Context, vs []index.Victim, remove index.Remove) ([]index.Retired, error) {
	if f.full() {
		return nil, index.ErrFull
	}
	begun, err := f.UnfinishedRun(ctx)
	f.must(err)
	if begun.IsZero() {
		f.t.Error("rows go in a run that the index does not know of")
	}
	return f.Store.RetireAll(ctx, vs, remove)
}

// A run on a full disk is known to the index before the first row goes, as soon as there is room to write that down.
func TestARunOnAFullDiskIsKnownBeforeAnythingGoes(t *testing.T) {
	w := newWorld(t)
	w.fill()
	w.must(os.WriteFile(w.Dir.Ballast(), []byte("room"), 0o644))
	w.Index = &fullDisk{w.Index, w}
	_, err := w.run(0)
	w.must(err)
	w.empty()
}

// unsealed are files of which one level cannot be made durable.
type unsealed struct {
	Files
	level int // 1 is the first
}

type unsealedRemover struct {
	Remover
	of *unsealed
}

func (u *unsealed) Remover() Remover { return unsealedRemover{u.Files.Remover(), u} }

func (r unsealedRemover) EndLevel(progress func(done, all int)) error {
	err := r.Remover.EndLevel(progress)
	if r.of.level--; r.of.level == 0 {
		err = errors.Join(err, syscall.EIO)
	}
	return err
}

// A power loss may bring back what a level removed that was not made durable: what that refers to must be there then.
func TestNothingGoesAfterALevelThatIsNotDurable(t *testing.T) {
	for level := 1; level <= 4; level++ { // tags, manifests, their parts, links
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			w := newWorld(t)
			w.fill()
			plan, err := w.NewPlan(t.Context(), rules)
			w.must(err)
			files := w.Files
			w.Files = &unsealed{files, level}
			rep, err := w.Run(t.Context(), rules, false)
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("the run says %v, %+v", err, rep.Removed)
			}
			for _, rows := range plan.levels()[level:] {
				for _, row := range rows {
					if !w.has(row.Key) {
						t.Errorf("%s is gone", row.Key)
					}
				}
			}
			unfinished, err := w.Index.UnfinishedRun(t.Context())
			w.must(err)
			if unfinished.IsZero() {
				t.Error("the run passes for one that ended")
			}
			w.Files = files
			_, err = w.run(0)
			w.must(err)
			w.empty()
		})
	}
}

// resumed are files that count how often a run made the removals of an earlier one durable, which may fail.
type resumed struct {
	Files
	calls int
	err   error
}

type resumedRemover struct {
	Remover
	of *resumed
}

func (r *resumed) Remover() Remover { return resumedRemover{r.Files.Remover(), r} }

func (r resumedRemover) Resume() error {
	r.of.calls++
	return errors.Join(r.of.err, r.Remover.Resume())
}

// A run that is killed before the end of a level leaves removals that are not durable, and says so to no later run.
func TestARunMakesTheRemovalsOfAKilledOneDurable(t *testing.T) {
	w := newWorld(t)
	w.fill()
	files := &resumed{Files: w.Files, err: syscall.EIO}
	w.Files = files
	w.must(w.Index.BeginRun(t.Context()))
	if rep, err := w.Run(t.Context(), rules, false); !errors.Is(err, syscall.EIO) || rep.Removed.Tags > 0 {
		t.Errorf("what was not durable was built on: %v, %+v", err, rep.Removed)
	}
	files.err = nil
	_, err := w.run(0)
	w.must(err)
	w.empty()
	w.fill()
	_, err = w.run(0)
	w.must(err)
	if w.empty(); files.calls != 2 {
		t.Errorf("%d runs resumed another one, not 2", files.calls)
	}
}
