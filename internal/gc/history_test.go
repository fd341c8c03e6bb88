package gc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// remembering is the policy of the stories on an index that remembers.
func remembering() index.Policy {
	p := rules
	p.GoneFor = 30 * 24 * time.Hour
	return p
}

func (w *world) removals() (all []index.Removal) {
	w.t.Helper()
	w.must(w.Index.View(w.t.Context(), func(r index.Reader) error {
		return r.Removals(time.Time{}, func(m index.Removal) error {
			all = append(all, m)
			return nil
		})
	}))
	return all
}

func (w *world) runs() (all []index.Run) {
	w.t.Helper()
	w.must(w.Index.View(w.t.Context(), func(r index.Reader) error {
		return r.RunHistory(time.Time{}, func(n index.Run) error {
			all = append(all, n)
			return nil
		})
	}))
	return all
}

// remembers wants the index to remember what reports tell of, and nothing else.
func (w *world) remembers(reports ...Report) {
	w.t.Helper()
	var got, want []string
	for _, m := range w.removals() {
		got = append(got, fmt.Sprint(m.Repository, m.Tag, m.Digest, m.Reason, m.Rule, m.LastAccess, m.UniqueBytes))
	}
	for _, rep := range reports {
		for _, i := range rep.Images {
			want = append(want, fmt.Sprint(i.Repository, i.Tag, i.Digest, i.Reason, i.Rule, time.Time(i.LastAccess),
				i.UniqueBytes))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("remembered\n%s\nremoved\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEachImageThatGoesIsRemembered(t *testing.T) {
	w := newWorld(t)
	w.fill()
	p := remembering()
	p.Rules = rule.Rules{{Repository: "app", Tag: "v*", TTL: new(time.Hour)}}
	w.By = index.ByGC
	rep, err := w.Run(t.Context(), p, false)
	w.must(err)
	w.empty()
	if len(rep.Images) < 6 {
		t.Fatalf("%d images went", len(rep.Images))
	}
	w.remembers(rep)
	for _, m := range w.removals() {
		if ruled := m.Repository == "app" && strings.HasPrefix(m.Tag, "v"); ruled != (m.RuleName == "1 (app:v*)") {
			t.Errorf("%+v", m)
		}
	}
	want := index.Run{ID: 1, StartedAt: time.Time(rep.StartedAt),
		Took: time.Duration(rep.DurationMS) * time.Millisecond, Ended: true, By: index.ByGC,
		Images: int64(len(rep.Images)), Tags: rep.Removed.Tags,
		Manifests: rep.Removed.Manifests, Blobs: rep.Removed.Blobs, Uploads: rep.Removed.Uploads,
		FreedBytes: rep.FreedBytes}
	if got := w.runs(); !reflect.DeepEqual(got, []index.Run{want}) {
		t.Errorf("remembered %+v, want %+v", got, want)
	}
}

// A run that is stopped or fails between any two steps has told of what it removed by then, and of nothing else.
func TestARunThatEndsEarlyIsRememberedAsFarAsItCame(t *testing.T) {
	w := newWorld(t)
	w.fill()
	plan, err := w.NewPlan(t.Context(), remembering())
	w.must(err)
	for steps := 1; steps < int(plan.steps()); steps += 3 {
		t.Run(fmt.Sprintf("after %d", steps), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill()
			first, err := w.runUnder(remembering(), steps)
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			w.remembers(first)
			if all := w.runs(); len(all) != 1 || all[0].Error != "interrupted" || !all[0].Ended ||
				all[0].Images != int64(len(first.Images)) {
				t.Errorf("remembered %+v", all)
			}
			second, err := w.runUnder(remembering(), 0)
			w.must(err)
			w.remembers(first, second)
			if all := w.runs(); len(all) != 2 || all[0].Error != "" {
				t.Errorf("remembered %+v", all)
			}
		})
	}
}

// A run is known before anything goes: one that was killed is listed as one that did not end.
func TestARunIsRememberedBeforeAnythingGoes(t *testing.T) {
	w := newWorld(t)
	w.fill()
	var during []index.Run
	w.OnProgress = func(p Progress) {
		if p.Phase == Removing && during == nil {
			during = w.runs()
		}
	}
	_, err := w.Run(t.Context(), remembering(), false)
	w.must(err)
	if len(during) != 1 || during[0].Ended || len(w.runs()) != 1 {
		t.Errorf("during the run %+v, after it %+v", during, w.runs())
	}
}

func TestADryRunIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	w.fill()
	w.must(w.Index.NotePulls(t.Context(), index.Pulls{Hits: 1})) // which a run may forget
	p := remembering()
	p.GoneFor = 0
	for _, p := range []index.Policy{remembering(), p} {
		rep, err := w.Run(t.Context(), p, true)
		w.must(err)
		if len(rep.Images) == 0 || len(w.removals())+len(w.runs()) != 0 {
			t.Errorf("%d images; remembered %v, %v", len(rep.Images), w.removals(), w.runs())
		}
	}
	w.must(w.Index.View(t.Context(), func(r index.Reader) error {
		kept := 0
		err := r.PullHistory(time.Time{}, func(index.Pulls) error { kept++; return nil })
		if kept != 1 {
			t.Error("a dry run forgot something")
		}
		return err
	}))
}

func TestNothingIsRememberedWhereThatIsAskedFor(t *testing.T) {
	w := newWorld(t)
	w.image("app", "v1", "l")
	w.adopt(false)
	w.pass(1000 * time.Hour)
	_, err := w.Run(t.Context(), remembering(), false)
	w.must(err)
	w.image("app", "v2", "l")
	w.adopt(false)
	w.pass(1000 * time.Hour)
	w.OnProgress = func(Progress) { // before the run forgets all
		if slices.ContainsFunc(w.removals(), func(m index.Removal) bool { return m.Tag == "v2" }) {
			t.Error("it was written down")
		}
	}
	rep, err := w.Run(t.Context(), rules, false)
	w.must(err)
	if len(rep.Images) != 1 || len(w.removals())+len(w.runs()) != 0 {
		t.Errorf("%d images; remembered %v, %v", len(rep.Images), w.removals(), w.runs())
	}
}

func TestARunForgetsWhatIsTooOld(t *testing.T) {
	w := newWorld(t)
	w.fill()
	_, err := w.Run(t.Context(), remembering(), false)
	w.must(err)
	w.pass(remembering().GoneFor)
	_, err = w.Run(t.Context(), remembering(), false)
	w.must(err)
	if all := w.runs(); len(w.removals()) != 0 || len(all) != 1 || all[0].Images != 0 {
		t.Errorf("remembered %v, %+v", w.removals(), all)
	}
}

// tightDisk is an index that has no room for anything but to remove rows.
type tightDisk struct{ index.Store }

func (d tightDisk) NoteRun(context.Context, *index.Run) error { return index.ErrFull }

func (d tightDisk) Forget(context.Context, time.Duration) error { return index.ErrFull }

func (d tightDisk) RetireAll(ctx context.Context, vs []index.Victim, remove index.Remove) ([]index.Retired, error) {
	full := false
	all, err := d.Store.RetireAll(ctx, vs, func(r index.Row) (index.Removed, error) {
		if full {
			return index.Removed{}, index.ErrFull
		}
		removed, err := remove(r)
		full = removed.Image != nil
		if full {
			err = index.ErrFull
		}
		return removed, err
	})
	if full && err == nil {
		return nil, index.ErrFull
	}
	return all, err
}

// What is remembered of images does not keep them on a full disk.
func TestARunOnAFullDiskRemovesWhatItCannotRemember(t *testing.T) {
	w := newWorld(t)
	w.fill()
	w.must(os.WriteFile(w.Dir.Ballast(), []byte("room"), 0o644))
	w.Index = tightDisk{w.Index}
	rep, err := w.Run(t.Context(), remembering(), false)
	w.must(err)
	w.empty()
	if len(rep.Images) == 0 || len(w.removals()) != 0 {
		t.Errorf("%d images went, %v are remembered", len(rep.Images), w.removals())
	}
}

// An eviction that removes nothing is not remembered, since where nothing may go one begins each second: not where all
// is in its grace, nor before the gate opens.
func TestAnEvictionInVainIsNotRemembered(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(3)
	w.AtMost = atOnce
	p := most(1)
	p.Grace, p.GoneFor = 30*24*time.Hour, 30*24*time.Hour
	rep, err := w.Run(t.Context(), p, false)
	w.must(err)
	if rep.Removed.Any() || len(w.runs()) != 0 {
		t.Errorf("removed %+v, remembered %+v", rep.Removed, w.runs())
	}
	_, err = w.Index.CloseGate(t.Context())
	w.must(err)
	if _, err = w.Run(t.Context(), p, false); !errors.Is(err, index.ErrGateClosed) || len(w.runs()) != 0 {
		t.Errorf("%v, remembered %+v", err, w.runs())
	}
	w.AtMost = 0
	if _, err = w.Run(t.Context(), p, false); !errors.Is(err, index.ErrGateClosed) || len(w.runs()) != 1 {
		t.Errorf("%v, remembered %+v of a run that is no eviction", err, w.runs())
	}
}

// Errors name files, which may be called anything, and some errors are several.
func TestWhyARunEndedIsOneLine(t *testing.T) {
	several := errors.Join(errors.New("open a\x1b[31m\u202e: denied"), errors.New("b"))
	if got := why(several); got != "open a?[31m?: denied; b" {
		t.Errorf("%q", got)
	}
	if got := why(errors.New(strings.Repeat("ü", longestWhy))); got != strings.Repeat("ü", longestWhy/2) {
		t.Errorf("%q", got)
	}
	if got := why(errors.New("x" + strings.Repeat("ü", longestWhy))); len(got) != longestWhy-1 {
		t.Errorf("%d bytes", len(got))
	}
}
