package reuse

import (
	"container/list"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// The figures that dcs inspect --what-if shows.
var (
	shares = []float64{0.25, 0.5, 1, 2, 4}
	ttls   = []time.Duration{day, 3 * day, 7 * day, 14 * day, 30 * day, 90 * day}
)

const day = 24 * time.Hour

// part is a blob or a manifest of a trace.
type part struct {
	id     int
	digest digest.Digest
	size   int64
}

// image is a manifest with its layers, which others may have too.
type image struct {
	manifest part
	layers   []part
}

// pull is one pull of an image: of its manifest, and of the layers that the client does not have.
type pull struct {
	at    time.Time
	image *image
	takes []part
	push  bool // it is a push, which takes nothing
}

// trace is what happens in a farm.
type trace struct {
	*rand.Rand
	now   time.Time
	made  int // parts
	pulls []pull
}

func newTrace(seed uint64) *trace {
	return &trace{Rand: rand.New(rand.NewPCG(seed, 16)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// part makes a blob of a digest of its own.
func (tr *trace) part(size int64) part {
	sum := make([]byte, 32)
	for i := range 4 {
		binary.BigEndian.PutUint64(sum[8*i:], tr.Uint64())
	}
	tr.made++
	return part{tr.made - 1, digest.Digest("sha256:" + hex.EncodeToString(sum)), size}
}

// size is that of a layer: most have a few megabytes, and a few have a gigabyte.
func (tr *trace) size() int64 { return int64(math.Exp(14.5+1.8*tr.NormFloat64())) + 100 }

// image makes an image with some layers of its own, on a base.
func (tr *trace) image(own int, base ...part) *image {
	i := &image{manifest: tr.part(1000 + tr.Int64N(2000)), layers: base[:len(base):len(base)]}
	for range own {
		i.layers = append(i.layers, tr.part(tr.size()))
	}
	return i
}

// pull has a client pull an image. It has each layer already with the probability.
func (tr *trace) pull(i *image, has float64) {
	p := pull{at: tr.now, image: i, takes: []part{i.manifest}}
	for _, l := range i.layers {
		if tr.Float64() >= has {
			p.takes = append(p.takes, l)
		}
	}
	tr.pulls = append(tr.pulls, p)
}

// push has a client push an image.
func (tr *trace) push(i *image) { tr.pulls = append(tr.pulls, pull{at: tr.now, image: i, push: true}) }

// pass lets time pass, on average so much.
func (tr *trace) pass(mean time.Duration) {
	tr.now = tr.now.Add(time.Duration(tr.ExpFloat64() * float64(mean)))
}

// zipf draws numbers below n, small ones more often.
func (tr *trace) zipf(s float64, n int) *rand.Zipf { return rand.NewZipf(tr.Rand, s, 8, uint64(n-1)) }

// exact is what a store finds that removes whole images, those unused for longest first; what two images share goes
// with the last of them.
type exact struct {
	budget int64         // bytes; 0: none
	ttl    time.Duration // 0: none

	used    *list.List // of *image, newest first
	at      map[*image]*list.Element
	last    map[*image]time.Time
	holders []int // by part
	bytes   int64

	pulls, hits         int64
	pullBytes, hitBytes int64
}

func newExact(of *trace, budget int64, ttl time.Duration) *exact {
	return &exact{budget: budget, ttl: ttl, used: list.New(), at: map[*image]*list.Element{},
		last: map[*image]time.Time{}, holders: make([]int, of.made)}
}

func (x *exact) parts(i *image) []part { return append([]part{i.manifest}, i.layers...) }

func (x *exact) step(p pull) {
	for oldest := x.used.Back(); x.ttl > 0 && oldest != nil; oldest = x.used.Back() {
		if i := oldest.Value.(*image); p.at.Sub(x.last[i]) > x.ttl {
			x.remove(i)
		} else {
			break
		}
	}
	for _, t := range p.takes {
		x.pulls, x.pullBytes = x.pulls+1, x.pullBytes+t.size
		if x.holders[t.id] > 0 {
			x.hits, x.hitBytes = x.hits+1, x.hitBytes+t.size
		}
	}
	x.last[p.image] = p.at
	if e := x.at[p.image]; e != nil {
		x.used.MoveToFront(e)
		return
	}
	x.at[p.image] = x.used.PushFront(p.image)
	for _, t := range x.parts(p.image) {
		if x.holders[t.id]++; x.holders[t.id] == 1 {
			x.bytes += t.size
		}
	}
	for x.budget > 0 && x.bytes > x.budget && x.used.Len() > 0 {
		x.remove(x.used.Back().Value.(*image))
	}
}

func (x *exact) remove(i *image) {
	x.used.Remove(x.at[i])
	delete(x.at, i)
	for _, t := range x.parts(i) {
		if x.holders[t.id]--; x.holders[t.id] == 0 {
			x.bytes -= t.size
		}
	}
}

func (x *exact) ratio() Ratio {
	return Ratio{float64(x.hits) / float64(x.pulls), float64(x.hitBytes) / float64(x.pullBytes)}
}

// run has the store see a trace.
func (x *exact) run(pulls []pull) Ratio {
	for _, p := range pulls {
		x.step(p)
	}
	return x.ratio()
}

// play tells a sampler what a server would: a client asks for the manifest and then for layers.
func play(s *Sampler, now *time.Time, pulls []pull) (accesses int) {
	for _, p := range pulls {
		*now = p.at
		m := p.image.manifest
		tell := s.Offered
		if p.push {
			tell = s.Pushed
			s.Pushed(OfDigest(m.digest), m.size)
		} else {
			s.Offered(OfDigest(m.digest), m.size) // the client asks for the manifest by HEAD
			s.Pulled(OfDigest(m.digest), m.size, m.size)
		}
		for _, l := range p.image.layers {
			tell(OfDigest(l.digest), l.size)
		}
		for _, l := range p.takes[min(1, len(p.takes)):] {
			s.Pulled(OfDigest(l.digest), l.size, l.size)
		}
		accesses += len(p.takes)
	}
	return accesses
}

// farms are the traces.
var farms = []struct {
	name string
	make func(tr *trace)
}{
	{"Zipf", func(tr *trace) {
		var images []*image
		for range 30_000 {
			images = append(images, tr.image(1))
		}
		for draw := tr.zipf(1.1, len(images)); len(tr.pulls) < 200_000; tr.pass(40 * time.Second) {
			tr.pull(images[draw.Uint64()], 0)
		}
	}},
	{"a scan", func(tr *trace) { // each image is pulled once, some days after its push
		var waiting []*image
		for range 60_000 {
			tr.pass(time.Minute)
			i := tr.image(1)
			tr.push(i)
			if waiting = append(waiting, i); len(waiting) > 10_000 {
				n := tr.IntN(len(waiting))
				tr.pull(waiting[n], 0)
				waiting = slices.Delete(waiting, n, n+1)
			}
		}
	}},
	{"a loop", func(tr *trace) {
		var images []*image
		for range 20_000 {
			images = append(images, tr.image(1))
		}
		for n := range 160_000 {
			tr.pull(images[n%len(images)], 0)
			tr.pass(30 * time.Second)
		}
	}},
	{"mixed", func(tr *trace) { // hot images, a loop of nightly builds, and a scan of branches
		var hot, nightly []*image
		for range 5_000 {
			hot, nightly = append(hot, tr.image(2)), append(nightly, tr.image(3))
		}
		draw := tr.zipf(1.2, len(hot))
		for n := range 120_000 {
			tr.pass(time.Minute)
			switch n % 4 {
			case 0, 1:
				tr.pull(hot[draw.Uint64()], 0)
			case 2:
				tr.pull(nightly[n/4%len(nightly)], 0)
			case 3:
				i := tr.image(2)
				tr.push(i)
				tr.pull(i, 0)
			}
		}
	}},
	{"shared layers, and clients that have some", func(tr *trace) {
		var bases [][]part
		for range 300 {
			bases = append(bases, tr.image(4).layers)
		}
		base := tr.zipf(1.3, len(bases))
		var images []*image
		for len(tr.pulls) < 100_000 {
			tr.pass(70 * time.Second)
			if len(images) == 0 || tr.IntN(6) == 0 {
				images = append(images, tr.image(2, bases[base.Uint64()]...))
				tr.push(images[len(images)-1])
				continue
			}
			back := min(int(tr.ExpFloat64()*2000), len(images)-1) // builds are pulled while they are new
			tr.pull(images[len(images)-1-back], 0.5)
		}
	}},
	{"sizes from one megabyte to a hundred gigabytes", func(tr *trace) {
		var images []*image
		for range 20_000 {
			i := tr.image(0)
			i.layers = []part{tr.part(int64(1e6 / math.Pow(1-tr.Float64(), 1.1)))}
			i.layers[0].size = min(i.layers[0].size, 1e11)
			images = append(images, i)
		}
		for draw := tr.zipf(1.05, len(images)); len(tr.pulls) < 200_000; tr.pass(40 * time.Second) {
			tr.pull(images[draw.Uint64()], 0)
		}
	}},
	{"a small store, all of which is in the sample", func(tr *trace) {
		var images []*image
		for range 300 {
			images = append(images, tr.image(3))
		}
		for draw := tr.zipf(1.2, len(images)); len(tr.pulls) < 40_000; tr.pass(4 * time.Minute) {
			tr.pull(images[draw.Uint64()], 0.3)
		}
	}},
}

// TestEstimatesAreWithinFivePointsOfAnExactStore compares, for each budget and each ttl, with a store that removes
// whole images. The present bytes are a part of what the trace holds, so that no budget is just as large as a loop:
// there a byte more or less decides about everything.
func TestEstimatesAreWithinFivePointsOfAnExactStore(t *testing.T) {
	const points = 0.05
	for _, farm := range farms {
		t.Run(farm.name, func(t *testing.T) {
			t.Parallel()
			tr := newTrace(1)
			farm.make(tr)
			now := tr.pulls[0].at
			s := New(1<<20, nil, func() time.Time { return now })
			accesses := play(s, &now, tr.pulls)
			r := recorded(t, s)
			all := newExact(tr, 0, 0)
			all.run(tr.pulls)
			present := all.bytes * 2 / 5
			t.Logf("%d pulls of %d objects, %.0f GiB; %+v", accesses, tr.made, float64(all.bytes)/(1<<30), r.Summary())
			worst := 0.0
			compare := func(what string, got, want Ratio) {
				worst = max(worst, math.Abs(got.Bytes-want.Bytes))
				t.Logf("%8s: bytes %.3f, exact %.3f; pulls %.3f, exact %.3f", what, got.Bytes, want.Bytes, got.Pulls,
					want.Pulls)
				if math.Abs(got.Bytes-want.Bytes) > points {
					t.Errorf("%s: byte hit ratio %.3f; exact %.3f", what, got.Bytes, want.Bytes)
				}
			}
			for _, share := range shares {
				budget := int64(share * float64(present))
				compare(fmt.Sprint("x", share), r.WithBudget(budget), newExact(tr, budget, 0).run(tr.pulls))
			}
			for _, ttl := range ttls {
				compare(ttl.String(), r.WithTTL(ttl), newExact(tr, 0, ttl).run(tr.pulls))
			}
			t.Logf("worst: %.1f points", 100*worst)
		})
	}
}

// recorded is what a sampler knows, by way of a file.
func recorded(t testing.TB, s *Sampler) *Recording {
	t.Helper()
	r, err := Decode(s.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return r
}
