package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Every sweeper here is one of a server that was started just now.
func TestARunComesAnIntervalAfterTheLastOneOfWhateverServer(t *testing.T) {
	w := newWorld(t)
	next := func() (time.Duration, bool) { return (&Scheduler{Collector: w.Collector}).next(t.Context(), time.Hour) }
	if wait, run := next(); run || wait > time.Second {
		t.Errorf("before the gate opens: %v, %v; want it to look again soon", wait, run)
	}
	w.adopt(false)
	if wait, run := next(); !run || wait != 0 {
		t.Errorf("without any run before: %v, %v; want one now", wait, run)
	}
	w.must(w.Index.SetLastRun(t.Context()))
	w.pass(10 * time.Minute)
	if wait, run := next(); !run || wait != 50*time.Minute {
		t.Errorf("ten minutes after a run: %v, %v; want the rest of the hour", wait, run)
	}
	w.must(w.Index.Hold(t.Context(), 3*time.Hour))
	if wait, run := next(); !run || wait != 3*time.Hour {
		t.Errorf("while everything is held: %v, %v; want the end of that", wait, run)
	}
	w.pass(5 * time.Hour)
	if wait, run := next(); !run || wait != 0 {
		t.Errorf("five hours after a run: %v, %v; want one now", wait, run)
	}
	if wait, run := (&Scheduler{Collector: w.Collector}).next(t.Context(), 0); run || wait != idle {
		t.Errorf("with the interval 0: %v, %v; want none ever", wait, run)
	}
}

func TestOnlyARunThatMayRemoveCountsAsOne(t *testing.T) {
	w := newWorld(t)
	w.fill()
	var runs int
	s := Scheduler{Collector: w.Collector, OnRun: func(Report, error) { runs++ }}
	last := func() time.Time {
		at, err := w.Index.LastRun(t.Context())
		w.must(err)
		return at
	}
	w.must(w.Index.Hold(t.Context(), time.Minute))
	s.once(t.Context(), rules)
	if !last().IsZero() || runs != 0 || w.totals().Tags == 0 {
		t.Errorf("while everything is held: a run at %v, %d told, %+v left", last(), runs, w.totals())
	}
	w.pass(2 * time.Minute)
	s.once(t.Context(), rules)
	if last().IsZero() || runs != 1 || w.totals().Tags != 0 {
		t.Errorf("after that: a run at %v, %d told, %+v left", last(), runs, w.totals())
	}
}

// A schedule that is taken over while the sweeper has nothing to do for a long time counts at once.
func TestASchedulerTakesItsNewSchedule(t *testing.T) {
	w := newWorld(t)
	w.fill()
	ctx, stop := context.WithCancel(t.Context())
	done, changes, ended := make(chan Report), make(chan Schedule), make(chan struct{})
	s := Scheduler{Collector: w.Collector, OnRun: func(r Report, _ error) { done <- r }}
	go func() {
		s.Schedule(ctx, Schedule{}, changes) // off
		close(ended)
	}()
	changes <- Schedule{Policy: rules, Interval: time.Hour}
	if rep := <-done; rep.Removed.Tags != 5 {
		t.Errorf("removed %+v", rep.Removed)
	}
	stop()
	<-ended
}

func (w *world) totals() (t index.Totals) {
	w.t.Helper()
	w.must(w.Index.View(w.t.Context(), func(r index.Reader) (err error) {
		t, err = r.Totals()
		return err
	}))
	return t
}

func TestWhileEverythingIsHeldOnlyUploadsGo(t *testing.T) {
	w := newWorld(t)
	w.fill()
	w.must(w.Index.Hold(t.Context(), time.Hour))
	want, err := w.Index.Held(t.Context())
	w.must(err)
	for _, dry := range []bool{true, false} {
		rep, err := w.Run(t.Context(), rules, dry)
		var held *index.HeldError
		if !errors.As(err, &held) || rep.HeldBy != HeldByFileDates || !time.Time(rep.NothingBefore).Equal(want) ||
			rep.Removed != (Counts{Uploads: 2}) || len(rep.Images) > 0 {
			t.Errorf("dry %v: %v, held by %q until %v, removed %+v; want the two uploads and %v", dry, err, rep.HeldBy,
				rep.NothingBefore, rep.Removed, want)
		}
	}
}

// Names go when the ttl is over, and bytes when their grace is over too.
func TestARunSaysWhatIsFreedLater(t *testing.T) {
	w := newWorld(t)
	w.image("app", "v1", "base", "one")
	w.image("app", "v2", "base", "two")
	w.adopt(false)
	w.pass(rules.TTL + time.Hour)
	ctx := t.Context()
	for _, layer := range []string{"base", "one"} { // somebody asked for them a moment ago, as a push does
		_, err := w.Index.Lease(ctx, layout.LayerKey("app", digest.FromString(layer)))
		w.must(err)
	}
	due := w.Index.Now().Add(rules.Grace + rules.Resolution)
	for _, dry := range []bool{true, false, false} {
		rep, err := w.Run(ctx, rules, dry)
		w.must(err)
		if want := int64(len("base") + len("one")); rep.WaitingBytes != want ||
			!time.Time(rep.WaitingUntil).Equal(due) {
			t.Errorf("dry %v: removed %+v; %d bytes wait until %v; want %d until %v", dry, rep.Removed,
				rep.WaitingBytes, rep.WaitingUntil, want, due)
		}
	}
	w.pass(rules.Grace + 2*rules.Resolution)
	if rep, err := w.Run(ctx, rules, false); err != nil || rep.WaitingBytes != 0 ||
		rep.FreedBytes != int64(len("base")+len("one")) {
		t.Errorf("after the grace: %+v, %v", rep, err)
	}
	w.empty()
}

func TestBytesThatAnImageUsesDoNotWait(t *testing.T) {
	w := newWorld(t)
	w.image("app", "old", "base")
	w.adopt(false)
	w.pass(rules.TTL + time.Hour)
	w.image("app", "new", "base", "more")
	w.adopt(false)
	if rep, err := w.Run(t.Context(), rules, false); err != nil || rep.Removed.Tags != 1 || rep.WaitingBytes != 0 {
		t.Errorf("%+v, %v; want nothing to wait", rep, err)
	}
}

func TestTheTrailOfARunIsBounded(t *testing.T) {
	w := newWorld(t)
	d := w.image("app", "v", "base")
	for i := range trail + 41 {
		w.tag("app", fmt.Sprintf("v%d", i), d)
	}
	w.adopt(false)
	w.pass(rules.TTL + 2*time.Hour)
	out := w.debug()
	rep, err := w.Run(t.Context(), rules, false)
	w.must(err)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var last struct {
		Level string
		Count int
	}
	w.must(json.Unmarshal([]byte(lines[len(lines)-1]), &last))
	if n := strings.Count(out.String(), `"removed image"`); n != trail || len(lines) != trail+1 || last.Count != 42 ||
		last.Level != "info" || len(rep.Images) != trail+42 {
		t.Errorf("%d lines, %d of images, the last %+v; %d images went", len(lines), n, last, len(rep.Images))
	}
}

// Whoever is killed between tags and manifests leaves images without a tag that nobody took their tags from.
func TestTheRunAfterOneThatWasCutShortSaysWhoseRestItRemoves(t *testing.T) {
	w := newWorld(t)
	w.fill()
	ctx, stop := context.WithCancel(t.Context())
	w.OnProgress = func(p Progress) {
		if p.Phase == Syncing { // behind the tags
			stop()
		}
	}
	first, err := w.Run(ctx, rules, false)
	if !errors.Is(err, context.Canceled) || first.Removed.Tags != 5 || first.Removed.Blobs != 0 ||
		first.PlannedBytes <= first.FreedBytes {
		t.Fatalf("%+v, %v; want only the tags to be gone", first, err)
	}
	w.OnProgress = nil
	w.pass(time.Minute)
	for _, dry := range []bool{true, false} {
		rep, err := w.Run(t.Context(), rules, dry)
		w.must(err)
		if !time.Time(rep.Resumes).Equal(time.Time(first.StartedAt)) || len(rep.Images) == 0 ||
			slices.ContainsFunc(rep.Images, func(i ReportImage) bool { return i.Tag != "" }) {
			t.Errorf("dry %v: resumes %v, images %v; want the rest of the run of %v", dry, rep.Resumes, rep.Images,
				first.StartedAt)
		}
	}
	w.empty()
	w.image("app", "", "nobody named it")
	w.adopt(false)
	w.pass(rules.TTL + 2*time.Hour)
	if rep, err := w.Run(t.Context(), rules, false); err != nil || !time.Time(rep.Resumes).IsZero() ||
		len(rep.Images) != 1 {
		t.Errorf("a run after one that came to its end: %+v, %v", rep, err)
	}
}
