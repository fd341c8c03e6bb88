package policy

import (
	"cmp"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// The marks of a budget, in percent of its MaxSize: above the high one images go until the low one is reached. Between
// them there is room for what is pushed during a run.
const (
	highMark = 95
	lowMark  = 90
)

// above is what goes for MinFree beyond it, as its part: one of a twentieth keeps the next run away for a while.
const above = 20

// Disk is the state of the disk that a store is on, in bytes.
type Disk struct {
	Used int64 // by the store
	// Coming is what uploads under way have announced and not written yet.
	Coming int64
	Free   int64 // for it
	Size   int64 // of the file system
}

// Demand is how many bytes have to go. Nothing has to, if it is zero.
type Demand struct {
	Size int64 // so that the low mark of MaxSize is reached, as far as that may be
	Free int64 // so that MinFree is free, and a twentieth more
	// Reach is how many bytes lack to MinFree: Free counts only if so many may go, since less would be in vain.
	Reach int64
}

// Demanded returns what a budget demands of a disk.
func Demanded(b rule.Budget, d Disk) (need Demand) {
	need.Size = toLowMark(b.MaxSize.Of(d.Size), d.Used+d.Coming)
	if least := b.MinFree.Of(d.Size); d.Free < least {
		need.Reach = least - d.Free
		need.Free = need.Reach + least/above
	}
	return need
}

// toLowMark returns how many bytes lie above the low mark of a budget, if more than the high one are used.
func toLowMark(most, used int64) int64 {
	if most == 0 || used <= most/100*highMark+most%100*highMark/100 {
		return 0
	}
	return used - (most/100*lowMark + most%100*lowMark/100)
}

// Any says whether anything is demanded.
func (d Demand) Any() bool { return d != Demand{} }

// Fewest returns how many images have to go. freed has at n the bytes that go with the first n of them; at 0 those that
// go anyway. all says that no other image may go. vain says that images go for Free only if Reach can be reached, and
// that it cannot; met says that all that is demanded goes.
func (d Demand) Fewest(freed []int64, all bool) (n int, met, vain bool) {
	first := func(need int64) int {
		i := slices.IndexFunc(freed, func(f int64) bool { return f >= need })
		if i < 0 {
			met, i = false, len(freed)-1
		}
		return i
	}
	met = true
	n = first(d.Size)
	if most := freed[len(freed)-1]; most < d.Reach && all {
		return n, false, true
	}
	return max(n, first(d.Free)), met, false
}

// Image is what a budget takes or leaves as a whole: a manifest with its tags.
type Image struct {
	Key  layout.Key // of its manifest
	Used time.Time  // the last use of it and its tags
	// Weight is how many times as old as it is the image counts, above 0.
	Weight float64
	// Stays says that the image is not taken, whatever is demanded.
	Stays bool
	// After are images that this one does not outlive, and that do not outlive it the other way: it belongs to them, by
	// the name of a tag or as a part. It goes after them, or stays as they do.
	After []layout.Key
}

// Order returns the images that may go, in the order in which they do: the one first that was used least recently. Of
// those with one last use the first goes first. now is the time from which ages count.
func Order(images []Image, now time.Time) []Image {
	o := order{now: now, place: map[layout.Key]int{}, images: images, known: map[layout.Key]*standing{}}
	for i, m := range images {
		if !m.Stays {
			o.place[m.Key] = i
		}
	}
	for again := true; again; { // what belongs to one that stays does so, too
		again = false
		for _, m := range images {
			if _, goes := o.place[m.Key]; goes && slices.ContainsFunc(m.After, func(k layout.Key) bool {
				_, goes := o.place[k]
				return !goes
			}) {
				delete(o.place, m.Key)
				again = true
			}
		}
	}
	var goes []Image
	for _, m := range images {
		if _, ok := o.place[m.Key]; ok {
			goes = append(goes, m)
		}
	}
	slices.SortStableFunc(goes, func(a, b Image) int {
		x, y := o.standing(a.Key), o.standing(b.Key)
		return cmp.Or(x.since.Compare(y.since), cmp.Compare(x.anchor, y.anchor), cmp.Compare(x.depth, y.depth))
	})
	return goes
}

type order struct {
	now    time.Time
	images []Image
	place  map[layout.Key]int // of those that may go
	known  map[layout.Key]*standing
}

// standing is what an image is sorted by: when it counts as used last, with what it belongs to; the place of that; and
// how many images lie between.
type standing struct {
	since  time.Time
	anchor int
	depth  int
}

func (o *order) standing(k layout.Key) standing {
	if s := o.known[k]; s != nil {
		return *s // of a circle that is not closed yet it is the image's own
	}
	m := o.images[o.place[k]]
	age := o.now.Sub(m.Used)
	s := &standing{o.now.Add(-time.Duration(float64(age) * m.Weight)), o.place[k], 0}
	if m.Weight == 1 {
		s.since = m.Used
	}
	o.known[k] = s
	for _, after := range m.After {
		b := o.standing(after)
		if c := b.since.Compare(s.since); c > 0 || c == 0 && b.depth >= s.depth {
			s.since, s.anchor, s.depth = b.since, b.anchor, b.depth+1
		}
	}
	return *s
}
