// Package indextest is the suite that every engine of internal/index must pass: Run, or RunFiles where files are local.
//
// Each test is a law of index.Store and has its own empty place. Time is a value that the test moves,
// except in race.go, where two processes work on one index and on real files. What is random prints its
// seed; INDEXTEST_SEED repeats it.
package indextest

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// Mode says who opens the index.
type Mode int

const (
	// Serve is a server, the only process that watches the store. It creates the index.
	Serve Mode = iota
	// Beside is another process on the index of a server.
	Beside
)

// Open opens the index of a place, which is an empty directory at first, and of the same place again as
// other processes do. The suite closes what it opened. wall is the machine's clock.
type Open func(t *testing.T, place string, mode Mode, wall func() time.Time) index.Store

// Retire offers one key to be retired by a rule for its row, and returns the row if it was removed.
func Retire(ctx context.Context, st index.Store, k layout.Key, rule func(index.Row) index.Victim,
	remove index.Remove) (*index.Row, error) {
	v := index.Victim{Key: k, UnusedSince: st.Now()}
	err := st.View(ctx, func(r index.Reader) error {
		row, err := r.Row(k)
		if row != nil {
			v = rule(*row)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	all, err := st.RetireAll(ctx, []index.Victim{v}, remove)
	if err != nil {
		return nil, err
	}
	return all[0].Row, all[0].Err
}

// Place places one file.
func Place(ctx context.Context, st index.Store, c index.Claim, rename func() error) error {
	return st.Place(ctx, index.Placing{Claim: c, Rename: rename})[0]
}

// MoveTag points one tag at a manifest.
func MoveTag(ctx context.Context, st index.Store, repo, tag string, to digest.Digest, rename func() error) error {
	return st.Place(ctx, index.Placing{Claim: index.Claim{Key: layout.TagKey(repo, tag)}, To: to, Rename: rename})[0]
}

// Run tests what every engine must do.
func Run(t *testing.T, open Open) {
	Laws(t, open)
	t.Run("random operations leave what a simple model says", func(t *testing.T) { testModel(t, open) })
}

// RunFiles tests an engine over local files: what every engine must do, and that files and rows change together, also
// between processes. It must be called by a top-level test, which it also runs in other processes.
func RunFiles(t *testing.T, open Open) {
	if place := os.Getenv(sweepPlace); place != "" {
		sweepForOthers(t, open, place)
		return
	}
	Run(t, open)
	t.Run("two processes keep every promise on real files", func(t *testing.T) { testRace(t, open) })
	t.Run("a sweeper killed in its transaction takes no row", func(t *testing.T) { testKilled(t, open) })
}

// Laws is the part of Run that takes a moment: each law by itself.
func Laws(t *testing.T, open Open) {
	for _, part := range []struct {
		name  string
		tests []test
	}{
		{"claims", claims}, {"tags", tags}, {"leases", leases}, {"adoption", adoption}, {"gate", gate},
		{"retirement", retirement}, {"images", images}, {"inheritance", inheritance},
		{"circles", circles}, {"signatures", signatures}, {"batches", batches},
		{"deletion", deletion}, {"promises", promises}, {"transactions", transactions}, {"reading", reading},
		{"history", history}, {"pins", pins}, {"footprints", footprints},
	} {
		t.Run(part.name, func(t *testing.T) {
			for _, tt := range part.tests {
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					tt.run(newScene(t, open))
				})
			}
		})
	}
}

type test struct {
	name string
	run  func(*scene)
}

// wall is a clock that a test moves.
type wall struct {
	mu sync.Mutex // guards t
	t  time.Time
}

func (w *wall) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.t
}

func (w *wall) move(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = w.t.Add(d)
}

func newWall() *wall { return &wall{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

// scene is one test: a store with an open gate on a place of its own, and the clock.
type scene struct {
	*testing.T
	index.Store
	wall   *wall
	engine Open
	open   func(Mode, *wall) index.Store
}

func newScene(t *testing.T, open Open) *scene {
	s := &scene{T: t, wall: newWall(), engine: open}
	place := t.TempDir()
	s.open = func(mode Mode, w *wall) index.Store {
		st := open(t, place, mode, w.now)
		t.Cleanup(func() { _ = st.Close() })
		return st
	}
	s.Store = s.open(Serve, s.wall)
	s.openGate()
	return s
}

func (s *scene) openGate() {
	s.Helper()
	s.must(s.SetPins(s.Context()))
	token, err := s.CloseGate(s.Context())
	s.must(err)
	ok, err := s.OpenGate(s.Context(), token)
	s.must(err)
	s.check(ok, "the gate did not open with its token")
}

// second is another store on the same place, as another process has it.
func (s *scene) second() index.Store { return s.open(Beside, s.wall) }

func (s *scene) later(d time.Duration) { s.wall.move(d) }

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scene) check(ok bool, format string, args ...any) {
	s.Helper()
	if !ok {
		s.Fatalf(format, args...)
	}
}

// dg is the digest of something that has a name.
func dg(name string) digest.Digest {
	if name == "" {
		return ""
	}
	return digest.FromString(name)
}

func nothing() error                    { return nil }
func noTags([]string) error             { return nil }
func blob(name string) layout.Key       { return layout.BlobKey(dg(name)) }
func link(repo, name string) layout.Key { return layout.LayerKey(repo, dg(name)) }
func man(repo, name string) layout.Key  { return layout.ManifestKey(repo, dg(name)) }
func tagged(repo, t string) layout.Key  { return layout.TagKey(repo, t) }

// content is a manifest that names refs, and that refers to a subject unless it is empty.
func content(subject string, refs ...string) *manifest.Manifest {
	c := &manifest.Manifest{MediaType: "application/vnd.test+json", Subject: dg(subject)}
	for _, r := range refs {
		c.References = append(c.References, dg(r))
	}
	return c
}

func size(name string) int64 { return int64(100 + len(name)) }

func blobClaim(name string) index.Claim { return index.Claim{Key: blob(name), Size: size(name)} }

func manClaim(repo, name string, c *manifest.Manifest) index.Claim {
	return index.Claim{Key: man(repo, name), Size: size(name), Manifest: c}
}

// put places content as a writer does that has no trouble.
func (s *scene) put(c index.Claim) layout.Key {
	s.Helper()
	s.must(s.Claim(s.Context(), c))
	s.must(Place(s.Context(), s, c, nothing))
	return c.Key
}

// layer pushes a layer: its blob and its link.
func (s *scene) layer(repo, name string) layout.Key {
	s.Helper()
	s.put(blobClaim(name))
	return s.put(index.Claim{Key: link(repo, name)})
}

// image pushes a manifest or an index, and its blob.
func (s *scene) image(repo, name string, refs ...string) layout.Key {
	s.Helper()
	return s.referrer(repo, name, "", refs...)
}

// referrer pushes a manifest with a subject.
func (s *scene) referrer(repo, name, subject string, refs ...string) layout.Key {
	s.Helper()
	s.put(blobClaim(name))
	return s.put(manClaim(repo, name, content(subject, refs...)))
}

func (s *scene) tag(repo, tag, name string) layout.Key {
	s.Helper()
	s.must(MoveTag(s.Context(), s, repo, tag, dg(name), nothing))
	return tagged(repo, tag)
}

// read leases the bytes of a link. An image that was used after a time needs no write.
func (s *scene) read(repo, name string, after time.Time) []index.Leased {
	s.Helper()
	links, err := s.LeaseBytes(s.Context(), repo, dg(name), after)
	s.must(err)
	return links
}

func (s *scene) lease(k layout.Key) bool {
	s.Helper()
	found, err := s.Lease(s.Context(), k)
	s.must(err)
	return found[0].Found
}

func (s *scene) adopt(as ...index.Adoption) {
	s.Helper()
	var looks []index.Look
	for _, a := range as {
		looks = append(looks, func() (index.Adoption, bool, error) { return a, true, nil })
	}
	s.must(s.Adopt(s.Context(), looks...))
}

func (s *scene) missing(k layout.Key) {
	s.Helper()
	s.must(s.Adopt(s.Context(), func() (index.Adoption, bool, error) {
		return index.Adoption{Claim: index.Claim{Key: k}}, false, nil
	}))
}

func noFile(index.Row) (index.Removed, error) { return index.Removed{}, nil }
func skip(index.Row) (index.Removed, error)   { return index.Removed{}, index.ErrSkip }

// cutoffs are the times before which what is retired must have been used: names are tags and placed manifests.
type cutoffs struct{ names, content time.Time }

func (c cutoffs) victim(r index.Row) index.Victim {
	if r.Key.Kind == layout.Tag || r.Key.Kind == layout.Manifest && r.Placed {
		return index.Victim{Key: r.Key, UnusedSince: c.names}
	}
	return index.Victim{Key: r.Key, UnusedSince: c.content, Claim: !r.Placed}
}

// idle are cutoffs for what was not used for so long.
func (s *scene) idle(d time.Duration) cutoffs {
	return cutoffs{names: s.Back(d), content: s.Back(d)}
}

// tryRetire offers a key to be retired, and returns its row if it went.
func (s *scene) tryRetire(st index.Store, k layout.Key, cut cutoffs, remove index.Remove) (*index.Row, error) {
	return Retire(s.Context(), st, k, cut.victim, remove)
}

func (s *scene) retire(k layout.Key, cut cutoffs) *index.Row {
	s.Helper()
	gone, err := s.tryRetire(s, k, cut, noFile)
	s.must(err)
	return gone
}

// dies retires what was idle for a minute, in this order, and wants each to go.
func (s *scene) dies(ks ...layout.Key) {
	s.Helper()
	for _, k := range ks {
		gone := s.retire(k, s.idle(time.Minute))
		s.check(gone != nil && gone.Key == k, "retiring %v took %v", k, gone)
		s.gone(k)
	}
}

// lives tries to retire each key, idle for a minute, and wants it to stay.
func (s *scene) lives(ks ...layout.Key) {
	s.Helper()
	for _, k := range ks {
		gone := s.retire(k, s.idle(time.Minute))
		s.check(gone == nil, "retiring %v took it, want it to stay", k)
		s.row(k)
	}
}

// find returns the row of a key as a store has it, or nil.
func find(t *testing.T, st index.Store, k layout.Key) (row *index.Row) {
	t.Helper()
	err := st.View(t.Context(), func(r index.Reader) (err error) {
		row, err = r.Row(k)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// row returns the row of a key, which must be there.
func (s *scene) row(k layout.Key) index.Row {
	s.Helper()
	r := find(s.T, s.Store, k)
	if r == nil {
		s.Fatalf("%v has no row", k)
	}
	return *r
}

func (s *scene) gone(ks ...layout.Key) {
	s.Helper()
	for _, k := range ks {
		s.check(find(s.T, s.Store, k) == nil, "%v still has a row", k)
	}
}

func (s *scene) used(k layout.Key, want time.Time) {
	s.Helper()
	got := s.row(k).AccessedAt
	s.check(got.Equal(want), "%v was last used at %v, want %v", k, got, want)
}

func (s *scene) view(read func(index.Reader) error) {
	s.Helper()
	s.must(s.View(s.Context(), read))
}

func (s *scene) totals() (t index.Totals) {
	s.Helper()
	s.view(func(r index.Reader) (err error) {
		t, err = r.Totals()
		return err
	})
	return t
}

// dump is every row by its key.
func dump(t *testing.T, st index.Store) map[layout.Key]index.Row {
	t.Helper()
	all := map[layout.Key]index.Row{}
	err := st.View(t.Context(), func(r index.Reader) error {
		for _, kind := range kinds {
			err := r.Each(kind, func(row index.Row) error {
				all[row.Key] = row
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// unchanged wants f to change no row and no total.
func (s *scene) unchanged(f func()) {
	s.Helper()
	rows, totals := dump(s.T, s.Store), s.totals()
	f()
	now := dump(s.T, s.Store)
	for k, r := range rows {
		s.check(now[k] == r, "%v changed from %+v to %+v", k, r, now[k])
	}
	s.check(len(now) == len(rows), "there are %d rows, want %d as before", len(now), len(rows))
	s.check(s.totals() == totals, "the totals changed from %+v to %+v", totals, s.totals())
}

var kinds = []layout.Kind{layout.Blob, layout.Layer, layout.Manifest, layout.Tag}

func keys(rows []index.Row) (ks []layout.Key) {
	for _, r := range rows {
		ks = append(ks, r.Key)
	}
	return ks
}

// same says whether two lists hold the same keys, each as often.
func same(a, b []layout.Key) bool {
	names := func(ks []layout.Key) (all []string) {
		for _, k := range ks {
			all = append(all, k.String())
		}
		slices.Sort(all)
		return all
	}
	return slices.Equal(names(a), names(b))
}

// list collects the rows that a reader's method yields.
func list(each func(func(index.Row) error) error) (rows []index.Row, err error) {
	err = each(func(r index.Row) error {
		rows = append(rows, r)
		return nil
	})
	return rows, err
}

// newRand prints the seed that repeats a run.
func newRand(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("INDEXTEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("INDEXTEST_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("INDEXTEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}
