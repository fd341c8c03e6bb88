package inspect

// dominators say with what each manifest goes: the last manifest without which no tag, and nothing else
// that lives by itself, would keep it. It is what compilers call the immediate dominator, in the graph of
// what keeps what; found by the algorithm of Cooper, Harvey and Kennedy ("A Simple, Fast Dominance
// Algorithm", 2001).
type dominators struct {
	with  []int32 // of each node; none: it lives by itself, or in more than one way
	rank  []int32 // what keeps comes before what it keeps, but for circles
	order []int32 // nodes by rank
	bytes []int64 // of the blobs that go with a node; after sum with all that goes with it too
}

// findDominators enters the graph at tags and at what nothing keeps. Circles that nothing outside keeps are
// entered at the images among them.
func (n *names) findDominators(images []int32) *dominators {
	d := &dominators{with: make([]int32, len(n.nodes)), rank: make([]int32, len(n.nodes)), bytes: make([]int64, len(n.nodes))}
	entry := make([]bool, len(n.nodes))
	seen := make([]bool, len(n.nodes))
	var finished []int32
	enter := func(i int32) {
		if !seen[i] {
			finished = n.walk(i, seen, finished)
			entry[i] = true
		}
	}
	for i := range n.nodes {
		if n.nodes[i].tagged || len(n.above(int32(i))) == 0 {
			enter(int32(i))
			entry[i] = true
		}
	}
	for _, i := range images {
		enter(i)
	}
	for i := range n.nodes {
		enter(int32(i))
	}
	for i := len(finished) - 1; i >= 0; i-- {
		d.rank[finished[i]] = int32(len(d.order))
		d.order = append(d.order, finished[i])
	}
	d.solve(n, entry)
	return d
}

// walk appends what a node keeps and was not seen yet, what is kept before what keeps it.
func (n *names) walk(top int32, seen []bool, finished []int32) []int32 {
	type step struct {
		node  int32
		below []edge
	}
	seen[top] = true
	for path := []step{{top, n.below(top)}}; len(path) > 0; {
		s := &path[len(path)-1]
		if len(s.below) == 0 {
			finished = append(finished, s.node)
			path = path[:len(path)-1]
			continue
		}
		to := s.below[0].to
		s.below = s.below[1:]
		if !seen[to] {
			seen[to] = true
			path = append(path, step{to, n.below(to)})
		}
	}
	return finished
}

// unknown is the dominator of a node that was not looked at yet.
const unknown = -2

func (d *dominators) solve(n *names, entry []bool) {
	for i := range d.with {
		d.with[i] = unknown
		if entry[i] {
			d.with[i] = none
		}
	}
	for changed := true; changed; {
		changed = false
		for _, i := range d.order {
			if entry[i] {
				continue
			}
			with := int32(unknown)
			for _, e := range n.above(i) {
				switch {
				case d.with[e.from] == unknown:
				case with == unknown:
					with = e.from
				default:
					with = d.common(with, e.from)
				}
			}
			if with != d.with[i] {
				d.with[i], changed = with, true
			}
		}
	}
}

// common is the last node with which both of two nodes go.
func (d *dominators) common(a, b int32) int32 {
	for a != b {
		if a == none || b == none {
			return none
		}
		if d.rank[a] > d.rank[b] {
			a = d.with[a]
		} else {
			b = d.with[b]
		}
	}
	return a
}

// sum adds to each node what goes with it.
func (d *dominators) sum() {
	for i := len(d.order) - 1; i >= 0; i-- {
		node := d.order[i]
		if with := d.with[node]; with >= 0 {
			d.bytes[with] += d.bytes[node]
		}
	}
}
