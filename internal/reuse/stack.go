package reuse

// entry is an object or a tag of the sample. Its fields fit into 24 bytes.
type entry struct {
	key  Key
	size int64  // bytes; of a tag those of its image, when it was used last
	used uint32 // last use, in seconds of the state's clock
	kind kind

	// An object that was offered was found with this age and distance. The pull that follows has them: at its own time
	// it would find that the object was used a moment ago.
	age      uint8
	distance uint16
}

type kind uint8

// The kinds of entries, with a flag or none.
const (
	dead    kind = 0 // the slot is free, or its object was used since and has another one
	object  kind = 1
	tag     kind = 2
	offered kind = 4 // age and distance are set
	absent  kind = 8 // a pull found that it was gone
)

func (e *entry) is(k kind) bool { return e.kind&k != 0 }

// stored is how many bytes an entry has by itself. A tag has none: its image has entries of its own.
func (e *entry) stored() int64 {
	if e.is(tag) {
		return 0
	}
	return e.size
}

// chance is the probability that an entry is in the sample. It must not change, so that of a tag is for no bytes.
func (e *entry) chance(r rate) float64 { return r.chance(e.stored()) }

// sampled says whether an entry is in the sample at a rate.
func (e *entry) sampled(r rate) bool { return r.samples(e.key, e.stored()) }

// MostSize keeps sums far from the largest number, in bytes: no entry has more, and none stands for more. It is 32 TiB.
// A manifest may say more of its parts.
const MostSize = 1 << 45

// weight is how many bytes of the store an entry stands for. It is a whole number: sums of these do not depend on the
// order in which they are made.
func (e *entry) weight(r rate) int64 { return int64(min(float64(e.stored())/e.chance(r), MostSize)) }

// stack has the entries in the order of their last use. Each has a slot; a use gives it the next free one. When there
// is no free slot, compact moves the entries together. The weights of the entries are summed up in a Fenwick tree, so
// that a distance is found in the logarithm of their number. Nothing is allocated after newStack.
type stack struct {
	slots []entry  // oldest use first, up to next
	sums  []int64  // slot i, from 1, has the weights of the slots (i - lowest bit of i, i]
	table []uint32 // by key: slot + 1, 0 is none; open addressing
	next  int      // the first slot that was not given yet
	live  int      // slots that are not dead
	rate  rate     // by which entries are weighed
}

func newStack(limit int) stack {
	return stack{slots: make([]entry, slotsFor(limit)), sums: make([]int64, slotsFor(limit)+1),
		table: make([]uint32, tableFor(limit)), rate: all}
}

// slotsFor makes a compaction, which looks at all slots, as rare as one in half as many uses as there are entries.
func slotsFor(limit int) int { return limit + limit/2 }

// tableFor is the least power of two that leaves a third of the table free.
func tableFor(limit int) int {
	n := 16
	for n < limit+limit/2 {
		n *= 2
	}
	return n
}

// find returns where the table has a key, or would have it.
func (s *stack) find(k Key) (at int) {
	mask := len(s.table) - 1
	for at = int(k) & mask; s.table[at] != 0 && s.slots[s.table[at]-1].key != k; at = (at + 1) & mask {
	}
	return at
}

// lookup returns the entry of a key, or nil.
func (s *stack) lookup(k Key) *entry {
	if slot := s.table[s.find(k)]; slot != 0 {
		return &s.slots[slot-1]
	}
	return nil
}

// above is how many bytes were used since an entry was.
func (s *stack) above(k Key) (sum int64) {
	for i := s.next; i > 0; i &= i - 1 {
		sum += s.sums[i]
	}
	for i := int(s.table[s.find(k)]); i > 0; i &= i - 1 {
		sum -= s.sums[i]
	}
	return sum
}

// use puts an entry on top, in place of the one that its key had.
func (s *stack) use(e entry) {
	if s.next == len(s.slots) {
		s.compact(func(*entry) bool { return true })
	}
	at := s.find(e.key)
	if old := s.table[at]; old != 0 {
		s.add(int(old), -s.slots[old-1].weight(s.rate))
		s.slots[old-1].kind = dead
		s.live--
	}
	s.slots[s.next] = e
	s.next++
	s.live++
	s.table[at] = uint32(s.next) //nolint:gosec // a slot of some thousand
	s.add(s.next, e.weight(s.rate))
}

func (s *stack) add(slot int, weight int64) {
	for i := slot; i < len(s.sums); i += i & -i {
		s.sums[i] += weight
	}
}

// compact moves the entries that are to be kept to the first slots.
func (s *stack) compact(keep func(*entry) bool) {
	n := 0
	for i := range s.slots[:s.next] {
		if e := &s.slots[i]; e.kind != dead && keep(e) {
			s.slots[n] = *e
			n++
		}
	}
	clear(s.slots[n:s.next])
	clear(s.table)
	clear(s.sums)
	s.next, s.live = n, n
	for i := range s.slots[:n] {
		s.table[s.find(s.slots[i].key)] = uint32(i + 1) //nolint:gosec // as above
		s.sums[i+1] += s.slots[i].weight(s.rate)
		if above := i + 1 + (i+1)&-(i+1); above < len(s.sums) {
			s.sums[above] += s.sums[i+1]
		}
	}
	for i := n + 1; i < len(s.sums); i++ {
		if above := i + i&-i; above < len(s.sums) {
			s.sums[above] += s.sums[i]
		}
	}
}

// all calls f with each entry, oldest use first.
func (s *stack) all(f func(*entry)) {
	for i := range s.slots[:s.next] {
		if e := &s.slots[i]; e.kind != dead {
			f(e)
		}
	}
}
