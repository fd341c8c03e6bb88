package reuse

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// farm is a sampler with a clock that a test moves.
type farm struct {
	*testing.T
	*Sampler
	now time.Time
}

func newFarm(t *testing.T) *farm {
	f := &farm{T: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	f.Sampler = New(1<<20, nil, f.clock)
	return f
}

func (f *farm) clock() time.Time { return f.now }

func (f *farm) pass(d time.Duration) { f.now = f.now.Add(d) }

// wantPulls compares the number of pulls, and the parts of their bytes that a budget and a ttl would have found.
func (f *farm) wantPulls(pulls int64, budget int64, inBudget float64, ttl time.Duration, inTTL float64) {
	f.Helper()
	r := recorded(f, f.Sampler)
	if got := r.Summary().Pulls; got != pulls {
		f.Errorf("%d pulls; want %d", got, pulls)
	}
	if got := r.WithBudget(budget).Bytes; math.Abs(got-inBudget) > 1e-9 {
		f.Errorf("a budget of %d finds %.3f; want %.3f", budget, got, inBudget)
	}
	if got := r.WithTTL(ttl).Bytes; math.Abs(got-inTTL) > 1e-9 {
		f.Errorf("a ttl of %v finds %.3f; want %.3f", ttl, got, inTTL)
	}
}

const mb = 1 << 20

func key(of string) Key { return OfDigest(digest.FromString(of)) }

func TestKeys(t *testing.T) {
	if k := OfDigest("sha256:00000000000000ff" + "0000000000000000000000000000000000000000000000000000000000"); k != 0xff {
		t.Errorf("%x", k)
	}
	if k := OfDigest("sha512:0123456789abcdef01"); k != 0x0123456789abcdef {
		t.Errorf("%x", k)
	}
	if OfTag("a", "b") == OfTag("a:b", "") || OfTag("app", "v1") == OfTag("app", "v2") {
		t.Error("two tags have one key")
	}
	for _, odd := range []digest.Digest{"", ":", "sha256:", "sha256:1", "no digest"} {
		OfDigest(odd)
	}
}

// TestOnlyPullsCount: a push is none, and a HEAD is none.
func TestOnlyPullsCount(t *testing.T) {
	f := newFarm(t)
	f.Pushed(key("a"), 10*mb)
	f.pass(2 * day)
	f.Offered(key("a"), 10*mb)
	f.wantPulls(0, mb, 1, day, 1)
	f.pass(time.Hour)
	f.Pulled(key("a"), 10*mb, 10*mb) // an hour after the last use
	f.wantPulls(1, 20*mb, 1, day, 1)
	f.wantPulls(1, 5*mb, 0, day, 1)
}

// TestAFirstUseIsMissed by every budget and every ttl.
func TestAFirstUseIsMissed(t *testing.T) {
	f := newFarm(t)
	f.Pulled(key("a"), 10*mb, 10*mb)
	f.wantPulls(1, 1<<50, 0, 90*day, 0)
	if s := recorded(t, f.Sampler).Summary(); s.First != (Ratio{1, 1}) {
		t.Errorf("%+v", s)
	}
}

// TestAPullHasTheAgeThatItHadBeforeItsOffer: a client asks for a manifest first, and then for the layers that it names.
func TestAPullHasTheAgeThatItHadBeforeItsOffer(t *testing.T) {
	f := newFarm(t)
	f.Pushed(key("layer"), 10*mb)
	f.Pushed(key("other"), 90*mb)
	f.pass(5 * day)
	f.Offered(key("layer"), 10*mb)
	f.pass(time.Minute)
	f.Offered(key("layer"), 10*mb) // to a second client, before the first one pulls
	f.pass(time.Minute)
	f.Pulled(key("layer"), 10*mb, 10*mb)
	f.wantPulls(1, 50*mb, 0, 3*day, 0)
	f.wantPulls(1, 200*mb, 1, 7*day, 1)
	f.Pulled(key("layer"), 10*mb, 10*mb) // by the second client: the pull of the first one brought it
	f.wantPulls(2, 50*mb, 0.5, 3*day, 0.5)
	f.pass(2 * day)
	f.Offered(key("layer"), 10*mb) // to one that has it
	f.pass(2 * day)
	f.Pulled(key("layer"), 10*mb, 10*mb)
	f.wantPulls(3, 50*mb, 2./3, 3*day, 2./3)
}

// TestAPopularImageIsLookedAtNowAndThen, and its size is known for longer.
func TestAPopularImageIsLookedAtNowAndThen(t *testing.T) {
	f := newFarm(t)
	if f.Lately(key("a")) || f.ImageSize(key("a")) != 0 {
		t.Error("an image is known that was never used")
	}
	f.Remember(key("a"), mb)
	f.pass(moment - time.Second)
	if !f.Lately(key("a")) || f.Lately(key("a")+images) || f.ImageSize(key("a")+images) != 0 {
		t.Error("an image is not known that was used a moment ago, or another one is")
	}
	f.pass(time.Second)
	if f.Lately(key("a")) || f.ImageSize(key("a")) != mb {
		t.Error("an image is not looked at again, or its size is lost")
	}
}

// TestWhatIsGoneIsJudgedOnce: another ttl would have found it. Clients that go on asking do not count.
func TestWhatIsGoneIsJudgedOnce(t *testing.T) {
	f := newFarm(t)
	f.Named(OfTag("app", "v1"), 100*mb)
	f.pass(day)
	f.Pushed(key("later"), 400*mb)
	f.pass(9 * day)
	for range 1000 {
		f.Missed(OfTag("app", "v1"))
		f.Missed(OfTag("app", "never-there"))
		f.pass(time.Minute)
	}
	f.wantPulls(1, 200*mb, 0, 7*day, 0)
	f.wantPulls(1, 600*mb, 1, 14*day, 1)
	if s := recorded(t, f.Sampler).Summary(); s.Missed != (Ratio{1, 1}) || s.Bytes != 100*mb {
		t.Errorf("%+v", s)
	}
	f.Named(OfTag("app", "v1"), 100*mb) // it is pushed again
	f.pass(day)
	f.Missed(OfTag("app", "v1"))
	f.wantPulls(2, 600*mb, 1, 7*day, 0.5)
}

// TestDowntimeIsNoAge, as for the ttl. A restart of an hour is.
func TestDowntimeIsNoAge(t *testing.T) {
	f := newFarm(t)
	f.Pushed(key("a"), mb)
	for _, off := range []time.Duration{60 * day, time.Hour} {
		r := recorded(t, f.Sampler)
		f.pass(off)
		f.Sampler = New(1<<20, r, f.clock)
	}
	f.Pulled(key("a"), mb, mb)
	f.wantPulls(1, 1<<40, 1, time.Hour, 1)
	f.wantPulls(1, 1<<40, 1, time.Minute, 1./60)
}

// TestARecordingGoesOn in a new sampler as if it had not ended.
func TestARecordingGoesOn(t *testing.T) {
	tr := newTrace(7)
	farms[4].make(tr)
	now := tr.pulls[0].at
	clock := func() time.Time { return now }
	whole, parts := New(200<<10, nil, clock), New(200<<10, nil, clock)
	for chunk := range slices.Chunk(tr.pulls[:20_000], 3000) {
		start := now
		play(whole, &now, chunk)
		now = start
		play(parts, &now, chunk)
		parts = New(200<<10, recorded(t, parts), clock)
	}
	if !bytes.Equal(whole.Encode(), parts.Encode()) {
		t.Error("a recording that was read again is another one")
	}
	if whole.Changed() {
		t.Error("nothing happened, and the recording changed")
	}
	if now = now.Add(unwatched); !whole.Changed() {
		t.Error("a long time without pulls would be taken for one without a server")
	}
}

// TestLessMemoryKeepsWhatFits, and the estimates stay good.
func TestLessMemoryKeepsWhatFits(t *testing.T) {
	tr := newTrace(8)
	farms[4].make(tr)
	now := tr.pulls[0].at
	clock := func() time.Time { return now }
	s := New(1<<20, nil, clock)
	half := len(tr.pulls) / 2
	play(s, &now, tr.pulls[:half])
	before := recorded(t, s).Summary()
	s = New(256<<10, recorded(t, s), clock)
	after := recorded(t, s).Summary()
	if after.Samples < before.Samples/20 || after.Samples > before.Samples/2 || after.Bytes != before.Bytes {
		t.Errorf("%+v became %+v", before, after)
	}
	play(s, &now, tr.pulls[half:])
	s = New(4<<20, recorded(t, s), clock) // more memory does not bring back what was dropped
	r := recorded(t, s)
	for _, ttl := range ttls {
		if got, want := r.WithTTL(ttl).Bytes, newExact(tr, 0, ttl).run(tr.pulls).Bytes; math.Abs(got-want) > 0.05 {
			t.Errorf("%v: %.3f; exact %.3f", ttl, got, want)
		}
	}
}

// TestMemoryIsBounded measures it, for as many objects as a store may ever have.
func TestMemoryIsBounded(t *testing.T) {
	for _, memory := range []int64{LeastMemory, 256 << 10, 1 << 20, 8 << 20} {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		src, clock := rand.New(rand.NewPCG(1, 2)), func() time.Time { return now }
		before := heap()
		s := New(memory, nil, clock)
		for range 500_000 {
			now = now.Add(10 * time.Second)
			k := Key(src.Uint64())
			s.Pushed(k, src.Int64N(100*mb))
			s.Pulled(k, mb, mb)
		}
		s.Encode()
		took := heap() - before
		t.Logf("%d bytes of %d: %d samples of %d", took, memory, s.state.live, s.state.limit)
		if took > memory {
			t.Errorf("it takes %d bytes; %d are allowed", took, memory)
		}
		if took < memory*3/4 || s.state.live < s.state.limit*3/4 {
			t.Errorf("it takes %d bytes of %d, for %d samples of %d", took, memory, s.state.live, s.state.limit)
		}
		runtime.KeepAlive(s)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestWhatIsOldIsForgottenFirst, before the rate falls: a store that pushes for years keeps its rate.
func TestWhatIsOldIsForgottenFirst(t *testing.T) {
	f := newFarm(t)
	a := f.state.limit
	for n := range 10 * a {
		f.Pushed(Key(rand.New(rand.NewPCG(3, uint64(n))).Uint64()), mb)
		f.pass(forgotten * 2 / time.Duration(a))
	}
	if f.state.rate != all {
		t.Errorf("the rate fell to %v", f.state.rate)
	}
	if r := recorded(t, f.Sampler); r.Summary().To.Sub(r.Summary().From) > 2*lasts+day {
		t.Errorf("it says that it recorded from %v to %v", r.Summary().From, r.Summary().To)
	}
}

// TestUsesAtOnce: each is counted or dropped.
func TestUsesAtOnce(t *testing.T) {
	s := New(1<<20, nil, time.Now)
	const clients, each = 8, 5000
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			src := rand.New(rand.NewPCG(uint64(c), 1))
			for range each {
				k := Key(src.Uint64())
				s.Pulled(k, mb, 1)
				s.Pushed(k, mb)
				s.Missed(k)
				if src.IntN(1000) == 0 {
					s.Encode()
				}
			}
		})
	}
	all.Wait()
	r := recorded(t, s)
	pulls := r.periods[0].pulls
	if pulls > clients*each || pulls+r.dropped < clients*each || pulls != r.periods[0].bytes {
		t.Errorf("%d pulls, %d dropped uses, of %d", pulls, r.dropped, clients*each)
	}
}

// TestAFileThatWasCutShortIsRefused, wherever it ends, and so is one with a wrong byte.
func TestAFileThatWasCutShortIsRefused(t *testing.T) {
	f := newFarm(t)
	for n := range 20 {
		f.Pushed(key(fmt.Sprint(n)), mb)
	}
	file := f.Encode()
	for n := range file {
		if _, err := Decode(file[:n]); err == nil {
			t.Fatalf("the first %d bytes of %d are taken", n, len(file))
		}
		file[n] ^= 0x10
		if _, err := Decode(file); err == nil {
			t.Fatalf("byte %d is wrong, and taken", n)
		}
		file[n] ^= 0x10
	}
	if _, err := Decode(file); err != nil {
		t.Error(err)
	}
	if _, err := Decode(append(file, 0)); err == nil {
		t.Error("a byte too much is taken")
	}
}

// FuzzDecode writes numbers to places of a file, and gives it the right sum. What Decode takes can be gone on with.
func FuzzDecode(f *testing.F) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := New(LeastMemory, nil, func() time.Time { return now })
	for n := range 5 {
		s.Pushed(key(fmt.Sprint(n)), mb)
		s.Pulled(key(fmt.Sprint(n)), mb, mb)
	}
	whole := bytes.Clone(s.Encode())
	end := len(whole) - sumSize
	for at := len(magic); at < end; at += 5 {
		if at > len(magic)+headerSize+64 && at < end-6*entrySize && at%331 != 0 {
			continue // a histogram, whose numbers are all alike
		}
		for _, value := range []uint64{0, 1, 1 << 63, math.Float64bits(math.NaN()), math.Float64bits(1e300)} {
			f.Add(at, value, end-entrySize, value, end)
		}
	}
	entries := len(magic) + headerSize - 4 // their number
	f.Add(entries, uint64(6), end, uint64(0), end)
	first := end - 5*entrySize
	for _, odd := range []uint64{5 | ageBuckets<<8, 5 | distanceBuckets<<16, 3, 17} {
		f.Add(first+20, odd, end, uint64(0), end) // a kind, an age and a distance
	}
	f.Fuzz(func(t *testing.T, first int, a uint64, second int, b uint64, length int) {
		file := bytes.Clone(whole[:max(len(magic), min(length, end))])
		for at, value := range map[int]uint64{first: a, second: b} {
			if at >= len(magic) && at+8 <= len(file) {
				binary.LittleEndian.PutUint64(file[at:], value)
			}
		}
		file = binary.LittleEndian.AppendUint32(file, checksum(file))
		r, err := Decode(file)
		if err != nil {
			return
		}
		for _, ratio := range []Ratio{r.WithBudget(0), r.WithBudget(mb), r.WithBudget(math.MaxInt64), r.WithTTL(0),
			r.WithTTL(day), r.WithTTL(math.MaxInt64), r.Summary().First, r.Summary().Missed} {
			if !(ratio.Pulls >= 0 && ratio.Pulls <= 1 && ratio.Bytes >= 0 && ratio.Bytes <= 1) {
				t.Errorf("%+v", ratio)
			}
		}
		again := New(LeastMemory, r, func() time.Time { return now })
		for n := range 5 {
			again.Pulled(key(fmt.Sprint(n)), mb, mb)
			again.Missed(key(fmt.Sprint(n)))
		}
		again.Encode()
	})
}

// TestBuckets fit together, and each ttl that is shown ends one.
func TestBuckets(t *testing.T) {
	for b := range distanceBuckets {
		from, until := distanceBounds(b)
		if b > 0 && distanceBucket(from) != b || distanceBucket(until-1) != b {
			t.Errorf("bytes: bucket %d from %v until %v", b, from, until)
		}
	}
	for b := range ageBuckets {
		from, until := ageBounds(b)
		if ageBucket(from+1) != b || !math.IsInf(until, 1) && (ageBucket(until) != b || ageBucket(until+1) != b+1) {
			t.Errorf("age: bucket %d from %v until %v", b, from, until)
		}
	}
	for _, ttl := range ttls {
		if _, until := ageBounds(ageBucket(ttl.Seconds())); until != ttl.Seconds() {
			t.Errorf("%v is in a bucket until %vs", ttl, until)
		}
	}
	for _, odd := range []float64{-1, 0, math.Inf(1), math.MaxFloat64} {
		if b := distanceBucket(odd); b < 0 || b >= distanceBuckets {
			t.Errorf("%v bytes are in bucket %d", odd, b)
		}
		if b := ageBucket(odd); b < 0 || b >= ageBuckets {
			t.Errorf("%v seconds are in bucket %d", odd, b)
		}
	}
}

// BenchmarkPulled is what a GET pays: of an object that is not in the sample, and of one that is.
func BenchmarkPulled(b *testing.B) {
	s := New(1<<20, nil, time.Now)
	src := rand.New(rand.NewPCG(1, 1))
	digests := make([]digest.Digest, 1<<17)
	for i := range digests {
		digests[i] = digest.Digest(fmt.Sprintf("sha256:%016x%048x", src.Uint64(), i))
		s.Pulled(OfDigest(digests[i]), mb, mb)
	}
	var in, out []digest.Digest
	for _, d := range digests {
		if s.rate.load().samples(OfDigest(d), mb) {
			in = append(in, d)
		} else {
			out = append(out, d)
		}
	}
	for name, some := range map[string][]digest.Digest{"not sampled": out, "sampled": in, "any": digests} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				s.Pulled(OfDigest(some[n%len(some)]), mb, mb)
			}
		})
		b.Run(name+", clients at once", func(b *testing.B) {
			was := s.dropped.Load()
			b.RunParallel(func(pb *testing.PB) {
				for n := rand.Int(); pb.Next(); n++ {
					s.Pulled(OfDigest(some[n%len(some)]), mb, mb)
				}
			})
			b.ReportMetric(float64(s.dropped.Load()-was)/float64(b.N), "dropped/op")
		})
	}
	b.Run("a tag", func(b *testing.B) {
		for b.Loop() {
			s.Named(OfTag("team/services/frontend", "v1.2.3"), mb)
		}
	})
}
