package indextest

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// How another process of this test binary learns what it is for.
const (
	sweepPlace = "INDEXTEST_SWEEP" // the place on which to sweep
	sweepOnce  = "INDEXTEST_KILL"  // retire something, and be killed before the transaction ends
)

// A tiny policy: three seconds hold many lives of everything. Time here is the machine's.
var racePolicy = index.Policy{TTL: 50 * time.Millisecond, Grace: 50 * time.Millisecond,
	Resolution: 10 * time.Millisecond}

const raceLease = 60 * time.Millisecond // grace and resolution

// sweepForOthers is the main function of the other process: it retires every row that it can, again and
// again, until its standard input ends.
func sweepForOthers(t *testing.T, open Open, place string) {
	st, d := open(t, place, Beside, time.Now), disk{filepath.Join(place, "disk")}
	defer st.Close()
	if os.Getenv(sweepOnce) != "" {
		_, err := Retire(t.Context(), st, link("a", "l0"), cutoffs{content: st.Now()}.victim,
			func(r index.Row) (index.Removed, error) {
				removed, err := d.remove(r)
				if err != nil {
					return removed, err
				}
				me, err := os.FindProcess(os.Getpid())
				if err != nil {
					return removed, err
				}
				_ = me.Kill()
				select {}
			})
		t.Fatalf("not killed: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	swept := map[layout.Kind]int{}
	for n := 0; ; n++ {
		select {
		case <-ended:
			t.Logf("retired %v in %d rounds", swept, n)
			return
		default:
			sweepRound(t, st, d, swept)
		}
		if swept[layout.Blob] > 0 {
			if err := os.WriteFile(filepath.Join(place, "swept"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if n == 0 {
			if err := os.WriteFile(filepath.Join(place, "sweeping"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// sweepRound tries rows, parents first. It is a careless sweeper: half of its cutoffs are younger than
// what the server owes, it does not ask what is unreferenced, and it tries rows that were used just now.
func sweepRound(t *testing.T, st index.Store, d disk, swept map[layout.Kind]int) {
	rows := slices.Collect(maps.Values(dump(t, st)))
	slices.SortFunc(rows, func(a, b index.Row) int { return int(b.Key.Kind) - int(a.Key.Kind) })
	for _, r := range rows {
		if st.Now().Sub(r.AccessedAt) < racePolicy.Grace && rand.IntN(4) > 0 {
			continue
		}
		cut := cutoffs{names: st.Back(raceLease), content: st.Back(raceLease)}
		if rand.IntN(2) == 0 {
			cut = cutoffs{names: st.Now(), content: st.Now()}
		}
		gone, err := Retire(t.Context(), st, r.Key, cut.victim, d.remove)
		if err != nil {
			t.Fatalf("retire %v: %v", r.Key, err)
		}
		if gone != nil {
			swept[gone.Key.Kind]++
		}
	}
}

// process starts this test binary as another process on a place.
func process(t *testing.T, place string, env ...string) (cmd *exec.Cmd, stdin io.Closer, out *strings.Builder) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd = exec.Command(exe, "-test.run=^"+name+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), sweepPlace+"="+place), env...)
	out = &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	pipe, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, pipe, out
}

// raceScene is a place with real time, and a server that has promised.
func raceScene(t *testing.T, open Open) (*scene, disk, string) {
	t.Helper()
	place := t.TempDir()
	s := &scene{T: t, Store: open(t, place, Serve, time.Now)}
	t.Cleanup(func() { _ = s.Close() })
	s.openGate()
	s.must(s.Promise(t.Context(), racePolicy))
	d := disk{filepath.Join(place, "disk")}
	s.must(d.make())
	return s, d, place
}

func testRace(t *testing.T, open Open) {
	s, d, place := raceScene(t, open)
	reader := open(t, place, Beside, time.Now)
	defer reader.Close()
	sweeper, stdin, out := process(t, place)
	await(t, filepath.Join(place, "sweeping"))

	w := &witness{T: t, disk: d, reader: reader, deleted: map[layout.Key]time.Time{}}
	length := 2500 * time.Millisecond
	if testing.Short() {
		length = 800 * time.Millisecond
	}
	start := time.Now()
	over := func() bool { // on a machine that is busy otherwise it takes a while until the first blob went
		if took := time.Since(start); took < length || took > time.Minute {
			return took > length
		}
		_, err := os.Stat(filepath.Join(place, "swept"))
		return err == nil
	}
	var all sync.WaitGroup
	memory := &memory{leased: map[layout.Key]time.Time{}}
	clients := make([]*client, 6)
	for i := range clients {
		clients[i] = &client{witness: w, Store: s, memory: memory, start: start, done: map[string]int{}}
		all.Go(func() { clients[i].work(over) })
	}
	all.Go(func() {
		for n := 0; !over(); n++ {
			if n%20 == 0 {
				s.check(s.Beat(t.Context()) == nil, "the server's heart stopped")
				w.scan(s)
			}
			w.watch()
			time.Sleep(2 * time.Millisecond)
		}
	})
	all.Wait()
	_ = stdin.Close()
	if err := sweeper.Wait(); err != nil {
		t.Errorf("the sweeper: %v\n%s", err, out)
	}
	done := map[string]int{}
	for _, c := range clients {
		for what, n := range c.done {
			done[what] += n
		}
	}
	t.Logf("%d promises, done: %v\n%s", w.made, done, out)
	if w.made == 0 || !strings.Contains(out.String(), "retired map[blob:") {
		t.Errorf("nothing was promised, or nothing retired")
	}
	w.scan(s)
	nothingStays(s, d)
}

// nothingStays sweeps when the last lease is over.
func nothingStays(s *scene, d disk) {
	s.Helper()
	time.Sleep(raceLease + 10*time.Millisecond)
	swept := map[layout.Kind]int{}
	for range 5 { // a round goes over the rows in no order, and what it retires frees others
		sweepRound(s.T, s.Store, d, swept)
	}
	for k, r := range dump(s.T, s.Store) {
		s.Errorf("%v stays after the last sweep: %+v", k, r)
	}
	for _, k := range d.keys() {
		if d.has(k) {
			s.Errorf("the file of %v stays after the last sweep", k)
		}
	}
	s.check(s.totals() == index.Totals{}, "totals %+v, want none", s.totals())
}

func await(t *testing.T, path string) {
	t.Helper()
	for range 2000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the other process did not start")
}

func testKilled(t *testing.T, open Open) {
	s, d, place := raceScene(t, open)
	k := link("a", "l0")
	for _, c := range []index.Claim{blobClaim("l0"), {Key: k}} {
		s.must(Place(t.Context(), s, c, func() error { return os.WriteFile(d.path(c.Key), nil, 0o644) }))
	}
	time.Sleep(raceLease + 10*time.Millisecond)
	sweeper, stdin, out := process(t, place, sweepOnce+"=1")
	defer stdin.Close()
	if err := sweeper.Wait(); err == nil || strings.Contains(out.String(), "not killed") {
		t.Fatalf("the sweeper was not killed: %v\n%s", err, out)
	}
	s.check(!d.has(k), "the sweeper was killed too early")
	s.check(s.row(k).Placed, "the row went without the end of its transaction")
	s.check(s.lease(k), "the row was not found")
	s.missing(k)
	s.put(index.Claim{Key: k})
}

// witness knows what was promised, and looks whether it is there.
type witness struct {
	*testing.T
	disk   disk
	reader index.Store

	mu       sync.Mutex // guards the rest and what a client deletes; held over a stat or a rename
	promises []promise
	deleted  map[layout.Key]time.Time // when a client took the name away
	made     int
}

type promise struct {
	k     layout.Key
	since time.Time // of the lease
	why   string
}

func (p promise) until() time.Time { return p.since.Add(racePolicy.Grace - time.Millisecond) }

// promise notes that all of ks were said to exist, under a lease that began at since.
func (w *witness) promise(since time.Time, why string, ks ...layout.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range ks {
		w.promises = append(w.promises, promise{k, since, why})
		w.made++
	}
}

// watch looks at everything that is promised now.
func (w *witness) watch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []promise
	for _, p := range w.promises {
		if w.deleted[p.k].After(p.since) {
			continue
		}
		there := w.disk.has(p.k)
		switch now := time.Now(); {
		case now.After(p.until()):
		case !there:
			w.Errorf("%v is gone %v after the lease of a %s", p.k, now.Sub(p.since), p.why)
		default:
			left = append(left, p)
		}
	}
	w.promises = left
}

// refused is for what is not there: an error if a lease since then promised it.
func (w *witness) refused(since time.Time, k layout.Key, why string) {
	now := time.Now() // after the look that found nothing
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Before(promise{since: since}.until()) && !w.deleted[k].After(since) {
		w.Errorf("%s: %v is not there, %v after its lease", why, k, now.Sub(since))
	}
}

// remove takes a file away at a client's request, inside a transaction.
func (w *witness) remove(k layout.Key) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deleted[k] = time.Now()
	err := os.Remove(w.disk.path(k))
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// scan holds the write lock, so that nothing comes or goes, and compares files with files and with rows.
func (w *witness) scan(st index.Store) {
	err := st.Adopt(w.Context(), func() (index.Adoption, bool, error) {
		rows := dump(w.T, w.reader)
		for _, k := range w.disk.keys() {
			r, known := rows[k]
			if there := w.disk.has(k); there != (known && r.Placed) {
				w.Errorf("%v: file %v, row %v, placed %v", k, there, known, r.Placed)
			} else if !there {
				continue
			}
			for _, n := range w.disk.needs(k) {
				if !w.disk.has(n) {
					w.Errorf("%v is on disk without %v", k, n)
				}
			}
			if to, ok := w.disk.target(k); k.Kind == layout.Tag && (!ok || to != r.Digest) {
				w.Errorf("%v points to %v on disk, to %v in the index", k, to, r.Digest)
			}
		}
		return index.Adoption{Claim: blobClaim("nothing")}, false, nil
	})
	if err != nil {
		w.Errorf("scan: %v", err)
	}
}

var errMissing = fmt.Errorf("what it refers to is not there")
