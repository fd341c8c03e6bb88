package gc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/verdict"
)

// most is a policy of no ttl, with room for so many bytes. Its low mark is at 90 % of them.
func most(bytes int64, rs ...rule.Rule) index.Policy {
	p := under(rs...)
	p.TTL = 0
	p.Budget.MaxSize.Bytes = bytes
	return p
}

// budgeted has a world count the bytes of its blobs, on a disk that has more than enough.
func (w *world) budgeted() *world {
	w.Usage = sizes{w.Index}
	w.Space = func() (free, size int64, err error) { return 1 << 40, 1 << 40, nil }
	return w
}

// sizes counts blobs, each with its size.
type sizes struct{ index.Store }

func (s sizes) Used(ctx context.Context) (bytes int64, err error) {
	err = s.View(ctx, func(r index.Reader) error {
		t, err := r.Totals()
		bytes = t.Bytes
		return err
	})
	return bytes, err
}

func (s sizes) Takes(r index.Row) int64 {
	if r.Key.Kind == layout.Blob && r.Placed {
		return r.Size
	}
	return 0
}

// large is a text of so many bytes.
func large(name string, bytes int) string { return name + strings.Repeat("x", bytes-len(name)) }

// weekly stores images app:0 to app:n-1, each an hour after the one before, with a layer of 100 kB. All share one more.
func (w *world) weekly(n int) (digests []digest.Digest) {
	w.t.Helper()
	for i := range n {
		digests = append(digests, w.image("app", fmt.Sprint(i), large(fmt.Sprint(i), 100_000), large("base", 100_000)))
		w.adopt(false)
		w.pass(time.Hour)
	}
	return digests
}

func (w *world) use(ks ...layout.Key) {
	w.t.Helper()
	_, err := w.Index.Lease(w.t.Context(), ks...)
	w.must(err)
}

func TestTheLeastRecentlyUsedImagesGoUntilTheLowMark(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(9) // a megabyte with the base
	w.use(layout.TagKey("app", "1"))
	w.pass(2 * time.Hour)
	w.goes(most(2_000_000), nil)
	w.goes(most(1_060_000), nil) // 95 %
	rep := w.goes(most(1_000_000), nil, "app:0 size 0", "app:2 size 0")
	if e := rep.Eviction; !e.Met || e.More || e.Vain || rep.FreedBytes < e.Demand.Size {
		t.Errorf("freed %d; %+v", rep.FreedBytes, e)
	}
	w.goes(most(500_000), nil, "app:3 size 0", "app:4 size 0", "app:5 size 0", "app:6 size 0")
	w.goes(most(1), nil, "app:7 size 0", "app:8 size 0", "app:1 size 0")
	w.empty()
}

func TestNothingGoesInItsGrace(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(3)
	w.use(layout.TagKey("app", "0"))
	w.pass(rules.Grace) // and not the resolution
	if rep := w.goes(most(1000), nil, "app:1 size 0", "app:2 size 0"); rep.Eviction.Met {
		t.Errorf("%+v", rep.Eviction)
	}
	w.pass(rules.Resolution + time.Second)
	w.goes(most(1000), nil, "app:0 size 0")
	w.empty()
}

// Layers that images share are freed with the last of them, so more of these go than their sizes would say.
func TestWhatImagesShareIsCountedOnce(t *testing.T) {
	w := newWorld(t).budgeted()
	for i := range 5 {
		w.image("app", fmt.Sprint(i), large("shared", 1_000_000))
		w.adopt(false)
		w.pass(2 * time.Hour)
	}
	w.image("app", "own", large("own", 100_000))
	w.adopt(false)
	w.pass(2 * time.Hour)
	rep := w.goes(most(1_100_000), nil, "app:0 size 0", "app:1 size 0", "app:2 size 0", "app:3 size 0", "app:4 size 0")
	if rep.FreedBytes < 1_000_000 {
		t.Errorf("%d freed", rep.FreedBytes)
	}
}

// After an adoption many images have one last use: only as many of them go as have to.
func TestNotAllOfOneLastUseGo(t *testing.T) {
	w := newWorld(t).budgeted()
	for i := range 300 {
		w.image("app", fmt.Sprint(i), large(fmt.Sprint(i), 1_000))
	}
	w.adopt(false)
	w.pass(2 * time.Hour)
	before := w.totals()
	rep, err := w.Run(t.Context(), most(before.Bytes), false)
	w.must(err)
	if n := len(rep.Images); n < 25 || n > 30 || !rep.Eviction.Met {
		t.Errorf("%d of 300 images went, want a tenth; %+v", n, rep.Eviction)
	}
	rep, err = w.Run(t.Context(), most(before.Bytes/2), false) // more than are listed at first
	w.must(err)
	if left := w.totals(); left.Bytes > before.Bytes*45/100 || left.Tags < 130 || left.Tags > 140 || !rep.Eviction.Met {
		t.Errorf("%d images are left; %+v", left.Tags, rep.Eviction)
	}
}

func TestContentThatNothingRefersToGoesFirst(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(3)
	w.layer("app", large("loose", 100_000))
	w.adopt(false)
	w.pass(2 * time.Hour)
	if rep := w.goes(most(500_000), nil); rep.FreedBytes != 100_000 || !rep.Eviction.Met {
		t.Errorf("%+v", rep)
	}
}

func TestWhatARuleKeepsStaysWithoutRoom(t *testing.T) {
	w := newWorld(t).budgeted()
	digests := w.weekly(6)
	about := strings.Replace(digests[0].String(), ":", "-", 1) + ".sig"
	w.image("app", about, "signature")
	w.tag("app", "release", digests[1])
	w.image("base", "", "untagged")
	w.image("other", "", "untagged too")
	w.adopt(false)
	w.pass(30 * time.Hour)
	p := most(1, rule.Rule{Tag: "release", Keep: ptr(true)}, rule.Rule{Repository: "app", Tag: "0", Keep: ptr(true)},
		rule.Rule{Repository: "base", Keep: ptr(true)}, rule.Rule{Tag: "[2-5]", KeepLast: ptr(2)},
		rule.Rule{Repository: "other", TTL: ptr(time.Duration(0))}) // which is for ever, where there is room
	rep, err := w.Run(t.Context(), p, false)
	w.must(err)
	var got []string
	for _, i := range rep.Images {
		got = append(got, fmt.Sprint(i.Repository, ":", i.Tag, " ", i.Reason))
	}
	slices.Sort(got)
	if want := []string{"app:2 size", "app:3 size", "other: size"}; !slices.Equal(got, want) {
		t.Errorf("removed %v; want %v", got, want)
	}
	w.whole()
}

// A platform that was pulled by its digest since is an image of its own from then on.
func TestAPartThatWasUsedSinceGoesByItsOwnUse(t *testing.T) {
	w := newWorld(t).budgeted()
	amd, arm := w.image("multi", "", large("amd", 100_000)), w.image("multi", "", large("arm", 100_000))
	w.tag("multi", "v1", w.manifest("multi", "manifests", []digest.Digest{amd, arm}, ""))
	w.adopt(false)
	w.pass(2 * time.Hour)
	w.weekly(2)
	w.use(layout.ManifestKey("multi", amd))
	w.pass(2 * time.Hour)
	names := map[digest.Digest]string{amd: "amd"}
	w.goes(most(470_000), names, "multi:v1 size 0")
	if !w.has(layout.ManifestKey("multi", amd)) || w.has(layout.ManifestKey("multi", arm)) {
		t.Error("want the platform that was used, and no other")
	}
	w.goes(most(1), names, "app:0 size 0", "app:1 size 0", "multi@amd size 0")
	w.empty()
}

// A pull between the plan and the run counts, of the tag and of what lives with it.
func TestAUseAfterThePlanKeepsWhatABudgetWouldTake(t *testing.T) {
	w := newWorld(t).budgeted()
	digests := w.weekly(4)
	w.pass(2 * time.Hour)
	plan, err := w.NewPlan(t.Context(), most(1))
	w.must(err)
	w.use(layout.TagKey("app", "0"))
	w.use(layout.ManifestKey("app", digests[1]))
	w.pass(time.Second)
	result, err := w.Execute(t.Context(), plan)
	w.must(err)
	if len(plan.Images) != 4 || len(result.Images) != 2 || result.FreedBytes > 201_000 {
		t.Errorf("planned %d images, %d went with %d bytes", len(plan.Images), len(result.Images), result.FreedBytes)
	}
	w.whole()
}

// For what stays free, images go only where that is of use.
func TestMinFreeIsReachedOrNothingGoesForIt(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(9)
	w.layer("app", large("loose", 50_000))
	w.adopt(false)
	w.pass(2 * time.Hour)
	room := int64(1_060_000)
	w.Space = func() (int64, int64, error) { return room - w.totals().Bytes, 10_000_000, nil }
	p := most(0)
	p.Budget.MinFree = rule.Size{Percent: 20}
	if rep := w.goes(p, nil); !rep.Eviction.Vain || rep.FreedBytes != 50_000 || rep.Eviction.Freeable < 1_000_000 {
		t.Errorf("two megabytes lack, and one is stored: %+v, %d freed", rep.Eviction, rep.FreedBytes)
	}
	room = 2_750_000 // 1,750,000 are free, and 2,100,000 are wanted
	if rep := w.goes(p, nil, "app:0 size 0", "app:1 size 0", "app:2 size 0", "app:3 size 0"); rep.Eviction.Vain {
		t.Errorf("%+v", rep.Eviction)
	}
	room = 2_605_000 // little more than the mark
	w.goes(p, nil)
}

func TestARunThatIsBoundedGoesOn(t *testing.T) {
	w := newWorld(t).budgeted()
	w.weekly(6)
	w.pass(2 * time.Hour)
	w.AtMost = 4
	for _, want := range []int{4, 2} {
		rep, err := w.Run(t.Context(), most(1), false)
		w.must(err)
		if len(rep.Images) != want || rep.Eviction.More != (want == 4) {
			t.Errorf("%d images went, want %d: %+v", len(rep.Images), want, rep.Eviction)
		}
	}
	w.empty()
}

// bounded is a policy at random that has no room for some of what is stored.
func (w *world) bounded(r *rand.Rand) index.Policy {
	p := chance(r)
	if r.IntN(3) == 0 {
		p.TTL = 0
	}
	p.Budget.MaxSize.Bytes = 1 + r.Int64N(1+w.totals().Bytes)
	return p
}

// TestABudgetTakesImagesInOrder evicts from random stores, with pins, and looks at each image that stays: it is kept,
// in its grace, or was used no earlier than those that went. Plan and run agree, and a second run finds nothing more to
// do.
func TestABudgetTakesImagesInOrder(t *testing.T) {
	went, met := 0, 0
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w, r := newWorld(t).budgeted(), rand.New(rand.NewPCG(seed, 7))
			w.chaos(r)
			w.pinSome(r)
			for range 3 {
				p := w.bounded(r)
				before := w.totals().Bytes
				plan, err := w.NewPlan(t.Context(), p)
				w.must(err)
				w.fair(p, plan)
				w.listed(plan)
				w.done(plan)
				low := p.Budget.MaxSize.Bytes/100*lowPercent + p.Budget.MaxSize.Bytes%100*lowPercent/100
				if left := w.totals().Bytes; plan.Eviction.Demand.Any() && plan.Eviction.Met != (left <= low) {
					t.Errorf("%d bytes of %d are left, the low mark is %d, met %v", left, before, low, plan.Eviction.Met)
				}
				went += len(plan.ranks)
				if plan.Eviction.Met {
					met++
				}
				again, err := w.NewPlan(t.Context(), p)
				w.must(err)
				if n := len(again.Tags) + len(again.Manifests); n > 0 && len(again.ranks) > 0 {
					t.Errorf("a run right after it would remove %+v", again.Images)
				}
				w.pass(time.Duration(r.IntN(8)) * time.Hour)
			}
		})
	}
	if went < 200 || met < 10 {
		t.Errorf("%d rows went, %d times the mark was met", went, met)
	}
}

// lowPercent is the low mark, in percent.
const lowPercent = 90

// fair wants that a plan takes nothing for its budget that is kept or in its grace, and nothing that was used after an
// image that stays though it may go.
func (w *world) fair(p index.Policy, plan *Plan) {
	w.t.Helper()
	var last time.Time // use of an image that goes by its own use
	in := map[layout.Key]bool{}
	for _, rows := range [][]index.Row{plan.Tags, plan.Manifests, plan.Layers, plan.Blobs} {
		for _, r := range rows {
			in[r.Key] = true
			if !r.AccessedAt.Before(plan.Cutoffs.Content) {
				w.t.Errorf("%s goes in its grace", r.Key)
			}
		}
	}
	w.must(w.Index.View(w.t.Context(), func(r index.Reader) error {
		pins, err := verdict.ReadPins(r, w.Index.Due, w.now)
		w.must(err)
		finder := verdict.New(r, p, w.Index.Due, pins)
		kept := func(t index.Row) bool {
			stays, err := finder.Stays(t)
			w.must(err)
			return stays
		}
		for _, t := range plan.Tags {
			if kept(t) {
				w.t.Errorf("%s goes, which a rule or a pin keeps", t.Key)
			}
			if plan.ranks[t.Key] > 0 && t.AccessedAt.After(last) {
				last = t.AccessedAt
			}
		}
		for _, m := range plan.Manifests {
			if pins.Keep(m) {
				w.t.Errorf("%s goes, which is pinned", m.Key)
			}
		}
		rows := map[layout.Kind][]index.Row{}
		for _, kind := range []layout.Kind{layout.Manifest, layout.Tag} {
			w.must(r.Each(kind, func(row index.Row) error {
				if !in[row.Key] && row.AccessedAt.Before(last) && (row.Placed || kind == layout.Tag) {
					rows[kind] = append(rows[kind], row)
				}
				return nil
			}))
		}
		for _, m := range rows[layout.Manifest] {
			tags, err := r.Tags(m.Key.Repository, m.Digest)
			w.must(err)
			owners, err := verdict.Owners(r, m, true)
			w.must(err)
			unread, err := r.Unread()
			w.must(err)
			if len(owners) == 0 && !pins.Keep(m) && !slices.ContainsFunc(tags, kept) && !unread.Has(m.Key.Repository) &&
				!(len(tags) == 0 && untaggedKept(p, m)) {
				w.t.Errorf("%s stays, which was used at %s; one goes that was used at %s", m.Key, m.AccessedAt, last)
			}
		}
		return nil
	}))
}

func untaggedKept(p index.Policy, m index.Row) bool {
	return p.Rules.Untagged(m.Key.Repository, p.TTL).Kept
}
