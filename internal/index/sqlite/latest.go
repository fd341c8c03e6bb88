package sqlite

import (
	"container/heap"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// latestLayers reads the links of all repositories, last used first. They are ordered by time in each
// repository only: one more tree of links, in the order of time alone, would cost each use that is
// written down a quarter more.
func (q querier) latestLayers() (index.Cursor, error) {
	m := &merge{q: q}
	err := q.each(func(a *answer) error {
		h := &links{}
		err := a.scan(&h.repo, &h.at)
		m.heads = append(m.heads, h)
		return err
	}, `SELECT id, accessed_at FROM (SELECT id, (SELECT max(accessed_at) FROM layers WHERE repo = id) AS accessed_at FROM repositories)
		WHERE accessed_at IS NOT NULL`)
	heap.Init(m)
	return m, err
}

// links are those of a repository that were not returned yet.
type links struct {
	repo  int64
	at    int64       // none of them was used later
	rows  []index.Row // the first of them, or nothing
	after index.Row   // the last one that was read; zero: none was
}

// merge is a heap of repositories by the last use of their links.
type merge struct {
	q     querier
	heads []*links
}

func (m *merge) Len() int           { return len(m.heads) }
func (m *merge) Less(i, j int) bool { return m.heads[i].at > m.heads[j].at }
func (m *merge) Swap(i, j int)      { m.heads[i], m.heads[j] = m.heads[j], m.heads[i] }
func (m *merge) Push(any)           { panic("a repository does not come later") }
func (m *merge) Pop() any {
	last := m.heads[len(m.heads)-1]
	m.heads = m.heads[:len(m.heads)-1]
	return last
}

// linksAtOnce are read of a repository at a time: they were used together as a rule.
const linksAtOnce = 16

// Next implements index.Cursor.
func (m *merge) Next() (row index.Row, ok bool, err error) {
	for len(m.heads) > 0 {
		h := m.heads[0]
		if len(h.rows) == 0 {
			if err := m.read(h); err != nil {
				return row, false, err
			}
		}
		if len(h.rows) == 0 {
			heap.Pop(m)
		} else if at := h.rows[0].AccessedAt.UnixMilli(); at < h.at {
			h.at = at
			heap.Fix(m, 0)
		} else {
			row, h.rows = h.rows[0], h.rows[1:]
			return row, true, nil
		}
	}
	return row, false, nil
}

func (m *merge) read(h *links) (err error) {
	const first, more = "FROM layers m WHERE m.repo = ?1 ", "AND (m.accessed_at, m.digest) < (?3, ?4) "
	const order = "ORDER BY m.accessed_at DESC, m.digest DESC LIMIT ?2 + 0"
	if h.after.Digest == "" {
		h.rows, err = m.q.list(layout.Layer, first+order, h.repo, linksAtOnce)
	} else {
		h.rows, err = m.q.list(layout.Layer, first+more+order, h.repo, linksAtOnce, h.after.AccessedAt.UnixMilli(), packed(h.after.Digest))
	}
	if n := len(h.rows); n > 0 {
		h.after = h.rows[n-1]
	}
	return err
}

// Close implements index.Cursor. Between two rows nothing is open.
func (m *merge) Close() {}
