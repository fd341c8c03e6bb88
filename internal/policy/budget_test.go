package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

func TestWhatABudgetDemands(t *testing.T) {
	const gib = 1 << 30
	percent := func(p float64) rule.Size { return rule.Size{Percent: p} }
	for _, c := range []struct {
		what   string
		budget rule.Budget
		disk   Disk
		want   Demand
	}{
		{"no budget", rule.Budget{}, Disk{Used: 100, Free: 0, Size: 100}, Demand{}},
		{"at the high mark", rule.Budget{MaxSize: rule.Size{Bytes: 1000}}, Disk{Used: 950, Free: 0, Size: 0}, Demand{}},
		{"above it", rule.Budget{MaxSize: rule.Size{Bytes: 1000}}, Disk{Used: 951, Free: 0, Size: 0}, Demand{Size: 51}},
		{"uploads under way", rule.Budget{MaxSize: rule.Size{Bytes: 1000}}, Disk{Used: 900, Coming: 51}, Demand{Size: 51}},
		{"a share of the disk", rule.Budget{MaxSize: percent(50)}, Disk{Used: 600, Free: 0, Size: 1000}, Demand{Size: 150}},
		{"a disk of exabytes", rule.Budget{MaxSize: rule.Size{Bytes: 8 << 60 / 100 * 99}}, Disk{Used: 100, Free: 0, Size: 0}, Demand{}},
		{"enough is free", rule.Budget{MinFree: percent(5)}, Disk{Used: 0, Free: 50, Size: 1000}, Demand{}},
		{"too little is free", rule.Budget{MinFree: percent(5)}, Disk{Used: 0, Free: 10 * gib, Size: 1000 * gib},
			Demand{Free: 40*gib + 50*gib/20, Reach: 40 * gib}},
	} {
		if got := Demanded(c.budget, c.disk); got != c.want {
			t.Errorf("%s: %+v; want %+v", c.what, got, c.want)
		}
	}
}

// farm is a random world: images with their layers, some of which they share, and a demand.
type farm struct {
	images []Image
	layers map[layout.Key][]int
	bytes  []int64 // of each layer
	need   Demand
}

func newFarm(rnd *rand.Rand) farm {
	f := farm{layers: map[layout.Key][]int{}}
	for range 1 + rnd.IntN(12) {
		f.bytes = append(f.bytes, int64(rnd.IntN(100)))
	}
	for i := range rnd.IntN(20) {
		k := layout.ManifestKey("app", digest.FromString(string(rune('a'+i))))
		m := Image{Key: k, Used: noon.Add(-time.Duration(rnd.IntN(6)) * time.Hour), Weight: 1, Stays: rnd.IntN(5) == 0}
		if len(f.images) > 0 && rnd.IntN(5) == 0 {
			m.After = append(m.After, f.images[rnd.IntN(len(f.images))].Key)
		}
		if rnd.IntN(20) == 0 {
			m.After = append(m.After, layout.ManifestKey("app", "sha256:of no image that is listed"))
		}
		for range 1 + rnd.IntN(3) {
			f.layers[k] = append(f.layers[k], rnd.IntN(len(f.bytes)))
		}
		f.images = append(f.images, m)
	}
	rnd.Shuffle(len(f.images), func(i, j int) { f.images[i], f.images[j] = f.images[j], f.images[i] })
	f.need.Size = int64(rnd.IntN(400))
	if rnd.IntN(3) == 0 {
		f.need.Reach = int64(1 + rnd.IntN(600))
		f.need.Free = f.need.Reach + int64(rnd.IntN(50))
	}
	return f
}

// goes returns the images that go, and what that frees.
func (f farm) goes() (gone []Image, freed int64, met, vain bool) {
	in := Order(f.images, noon)
	sums := []int64{0}
	for n := range in {
		sums = append(sums, f.frees(in[:n+1]))
	}
	n, met, vain := f.need.Fewest(sums, true)
	return in[:n], sums[n], met, vain
}

// frees is the size of the layers that only some images have.
func (f farm) frees(gone []Image) (bytes int64) {
	for layer, size := range f.bytes {
		has := func(m Image) bool { return slices.Contains(f.layers[m.Key], layer) }
		stays := func(m Image) bool {
			return has(m) && !slices.ContainsFunc(gone, func(g Image) bool { return g.Key == m.Key })
		}
		if slices.ContainsFunc(gone, has) && !slices.ContainsFunc(f.images, stays) {
			bytes += size
		}
	}
	return bytes
}

func TestABudgetTakesTheLeastRecentlyUsed(t *testing.T) {
	taken, belong := 0, 0
	for seed := range uint64(4000) {
		f := newFarm(rand.New(rand.NewPCG(seed, 4)))
		gone, freed, met, vain := f.goes()
		taken += len(gone)
		went := map[layout.Key]bool{}
		for n, m := range gone {
			if m.Stays {
				t.Fatalf("seed %d: one goes that is kept", seed)
			}
			for _, k := range m.After {
				if belong++; !went[k] {
					t.Fatalf("seed %d: one goes before what it belongs to", seed)
				}
			}
			went[m.Key] = true
			if n > 0 && len(m.After) == 0 && len(gone[n-1].After) == 0 && m.Used.Before(gone[n-1].Used) {
				t.Fatalf("seed %d: one goes after one that was used later", seed)
			}
		}
		for _, m := range f.images {
			for _, g := range gone {
				if !m.Stays && !went[m.Key] && len(m.After) == 0 && m.Used.Before(g.Used) && len(g.After) == 0 {
					t.Fatalf("seed %d: one stays that was used before one that goes", seed)
				}
			}
		}
		// Whatever may go is enough, or all of it goes.
		most := f.frees(Order(f.images, noon))
		want := f.need.Size
		if most >= f.need.Reach {
			want = max(want, f.need.Free)
		}
		if vain != (most < f.need.Reach) {
			t.Fatalf("seed %d: %d may go of %+v; vain %v", seed, most, f.need, vain)
		}
		if freed < min(want, most) || met != (freed >= f.need.Size && freed >= f.need.Free) {
			t.Fatalf("seed %d: %d of %d go for %+v, met %v", seed, freed, most, f.need, met)
		}
		if n := len(gone); n > 0 && f.frees(gone[:n-1]) >= want {
			t.Fatalf("seed %d: more goes than has to", seed)
		}
	}
	if taken < 1000 || belong < 100 {
		t.Errorf("only %d went, %d of them with another", taken, belong)
	}
}

func TestASmallerBudgetOrLessThatIsKeptTakesNoLess(t *testing.T) {
	for seed := range uint64(4000) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		f := newFarm(rnd)
		f.need.Free, f.need.Reach = 0, 0
		before, freed, _, _ := f.goes()
		tighter := f
		tighter.need.Size += int64(rnd.IntN(100))
		if gone, _, _, _ := tighter.goes(); len(gone) < len(before) {
			t.Fatalf("seed %d: %d go for less room, %d for more", seed, len(gone), len(before))
		}
		looser := f
		looser.images = slices.Clone(f.images)
		for i := range looser.images {
			looser.images[i].Stays = false
		}
		if _, more, _, _ := looser.goes(); more < min(freed, f.need.Size) {
			t.Fatalf("seed %d: %d bytes go where nothing is kept, %d before", seed, more, freed)
		}
	}
}

func TestAnImageOfALargeWeightGoesAsIfItWereOlder(t *testing.T) {
	image := func(name string, age time.Duration, weight float64) Image {
		return Image{Key: layout.ManifestKey(name, "d"), Used: noon.Add(-age), Weight: weight}
	}
	var got []string
	for _, m := range Order([]Image{image("a", time.Hour, 1), image("b", 2*time.Hour, 1), image("c", 40*time.Minute, 2),
		image("d", 2*time.Hour, 1)}, noon) {
		got = append(got, m.Key.Repository)
	}
	if want := []string{"b", "d", "c", "a"}; !slices.Equal(got, want) {
		t.Errorf("in the order %v; want %v", got, want)
	}
}

func TestTheRequestOfACommandReplacesWhatItSets(t *testing.T) {
	last := random(rand.New(rand.NewPCG(1, 1)))
	last.Budget = rule.Budget{MaxSize: rule.Size{Bytes: 5}, MinFree: rule.Size{Percent: 5}}
	if got := (Request{}).Resolve(last, last, true); got.Budget != last.Budget {
		t.Errorf("without a request %+v", got.Budget)
	}
	most := rule.Size{Percent: 80}
	r := Request{MaxSize: &most}
	if got := r.Resolve(last, last, true).Budget; got.MaxSize != most || got.MinFree != last.Budget.MinFree ||
		!r.Explicit() {
		t.Errorf("with another max_size %+v", got)
	}
}
