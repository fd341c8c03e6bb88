// Package room knows how many bytes a store may still take under its budget.
//
// Its law: no upload takes bytes for which it has not reserved room. What the store uses, what was written since it was
// counted, and what is reserved stay below the limit together. So an upload that does not fit is refused before its
// bytes come, and not when the disk is full of parts of uploads.
//
//   - A claim is what one request has reserved. It grows before bytes are taken, shrinks as they are written, and ends
//     with the request, however that ends. So nothing is forgotten, and what an upload has on disk when its client
//     leaves, or its server ends, is in what the store uses.
//   - What is used is counted a few times a second at most. Between two counts the room adds what was written.
//   - Above the high mark it asks for an eviction. An upload that does not fit waits for one, for a bounded time. It is
//     refused when an eviction said that nothing more may go, by a count that began after the upload had asked.
//
// It knows no HTTP, no file and no SQL. Without a budget it refuses nothing, and does not ask what is used.
package room

import (
	"context"
	"sync"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/content"
)

// Used counts the bytes that the store takes on disk: all that was written before the call, unfinished uploads
// included. It is called by one goroutine at a time.
type Used func(context.Context) (int64, error)

// Room is that of one store. Its methods may be called concurrently.
type Room struct {
	used     Used
	patience time.Duration // how long an upload waits for an eviction
	pause    time.Duration // between two counts
	pressed  chan struct{}

	mu       sync.Mutex    // guards the rest; held over no I/O
	budget   int64         // 0: none
	reserved int64         // by claims, and not written yet
	wanted   int64         // by claims that wait
	counted  int64         // what used said last
	since    int64         // written since that count began
	count    int           // the number of that count; 0: there was none
	counts   int           // how many were begun
	began    time.Time     // when the last of them was
	counting chan struct{} // closed when it ends; nil: it has
	changed  chan struct{} // closed when there may be more room
	barren   time.Time     // until then the last eviction counts, which said that nothing more may go
}

// The marks, in percent of the budget. An eviction begins above the high one; uploads are refused above the limit.
const (
	highMark  = 95
	limitMark = 105
)

// Patience is how long an upload waits for an eviction at most. Clients and proxies wait a minute or longer.
const Patience = 30 * time.Second

// countPause is the least time between the beginnings of two counts.
const countPause = 250 * time.Millisecond

// recheck is after how long a claim that waits looks again by itself: what another process removed tells nothing.
const recheck = time.Second

// An eviction after which nothing more may go counts for a second, or for ten times as long as it took. In that time no
// other is asked for.
const (
	barrenFor   = time.Second
	barrenTimes = 10
)

// New makes a room without a budget. Uploads wait for the patience at most.
func New(used Used, patience time.Duration) *Room {
	return &Room{used: used, patience: patience, pause: countPause, pressed: make(chan struct{}, 1),
		changed: make(chan struct{})}
}

// SetBudget bounds what the store may use, in bytes; 0: no bound. What is reserved stays reserved.
func (r *Room) SetBudget(budget int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if budget == r.budget {
		return
	}
	r.budget, r.barren = budget, time.Time{}
	r.changedLocked()
	if budget > 0 {
		r.pressLocked()
	}
}

// Stats are figures in bytes.
type Stats struct {
	Budget   int64 // 0: none
	Reserved int64 // what uploads may still bring
}

// Stats counts now.
func (r *Room) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{r.budget, r.reserved}
}

// Pressed has a value when an eviction is due: the store may be above its high mark, or an upload waits for room. One
// goroutine receives from it.
func (r *Room) Pressed() <-chan struct{} { return r.pressed }

// Coming is how many bytes are reserved, or waited for, beyond what the store uses. An eviction makes room for them,
// too. They are never more than the limit, unless the budget was lowered.
func (r *Room) Coming() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reserved + r.wanted
}

// Evicting says that an eviction begins. Its caller says when it ended, and whether more may go: false when it did not
// reach its mark since all that is left has to stay. Then uploads that do not fit are refused.
func (r *Room) Evicting() (ended func(more bool)) {
	began := time.Now()
	return func(more bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.barren = time.Time{}
		if now := time.Now(); !more {
			r.barren = now.Add(max(barrenFor, barrenTimes*now.Sub(began)))
		}
		r.began = time.Time{} // what is used changed: it may be counted at once
		r.changedLocked()
	}
}

// reserve takes room for n bytes, or waits for it. *content.FullError, and errors of the context and of a count.
func (r *Room) reserve(ctx context.Context, n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.budget == 0 {
		r.reserved += n
		return nil
	}
	before := r.counts
	if r.count == 0 {
		if err := r.countLocked(ctx, 0); err != nil {
			return err
		}
	} else if r.counting == nil && time.Since(r.began) >= r.pause {
		_ = r.askLocked(ctx) // else the last count goes on, with all that was written since
	}
	if r.takeLocked(n) {
		return nil
	}
	if full := r.fullLocked(n, r.reserved+r.wanted); !full.Helps() {
		return full // no eviction could help
	}
	r.wanted += n
	defer func() { r.wanted -= n }()
	return r.awaitLocked(ctx, n, before)
}

// takeLocked takes room for n bytes, if they fit by the last count, and asks for an eviction above the high mark.
func (r *Room) takeLocked(n int64) bool {
	taken := r.counted + r.since + r.reserved + n
	if r.budget > 0 && taken > percent(limitMark, r.budget) {
		return false
	}
	r.reserved += n
	if r.budget > 0 && taken > percent(highMark, r.budget) && time.Now().After(r.barren) {
		r.pressLocked()
	}
	return true
}

// awaitLocked takes room for n bytes, for which its caller waits. It asked after so many counts had begun.
func (r *Room) awaitLocked(ctx context.Context, n int64, before int) error {
	for end := time.Now().Add(r.patience); ; before = r.counts {
		if err := r.countLocked(ctx, before); err != nil {
			return err
		}
		if r.takeLocked(n) {
			return nil
		}
		now := time.Now()
		if now.Before(r.barren) || now.After(end) {
			return r.fullLocked(n, r.reserved+r.wanted-n)
		}
		r.pressLocked()
		if err := r.waitLocked(ctx, r.changed, min(recheck, end.Sub(now)+1)); err != nil || r.takeLocked(n) {
			return err
		}
	}
}

// countLocked returns when a count has ended that is none of the first so many. One goroutine at a time counts.
func (r *Room) countLocked(ctx context.Context, before int) error {
	for r.budget > 0 && r.count <= before {
		var err error
		if soon := r.pause - time.Since(r.began); r.counting != nil {
			err = r.waitLocked(ctx, r.counting, recheck)
		} else if soon > 0 {
			err = r.waitLocked(ctx, r.changed, soon)
		} else {
			err = r.askLocked(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// askLocked counts. What is written from here on is added to what it finds, also if that has it already: until the next
// count, too much is better than too little.
func (r *Room) askLocked(ctx context.Context) error {
	done, before := make(chan struct{}), r.since
	r.counts++
	number := r.counts
	r.counting, r.began = done, time.Now()
	defer func() {
		r.counting = nil
		close(done)
	}()
	n, err := r.unlocked(ctx)
	if err == nil {
		r.counted, r.since, r.count = n, r.since-before, number
	}
	return err
}

func (r *Room) unlocked(ctx context.Context) (int64, error) {
	r.mu.Unlock()
	defer r.mu.Lock()
	return r.used(ctx)
}

// waitLocked waits until done is closed, for so long at most.
func (r *Room) waitLocked(ctx context.Context, done <-chan struct{}, most time.Duration) error {
	r.mu.Unlock()
	defer r.mu.Lock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// fullLocked is why n bytes do not fit beside what others have, or wait for.
func (r *Room) fullLocked(n, others int64) *content.FullError {
	return &content.FullError{Asked: n, Used: r.counted + r.since, Reserved: others, Budget: r.budget,
		Limit: percent(limitMark, r.budget)}
}

func (r *Room) pressLocked() {
	select {
	case r.pressed <- struct{}{}:
	default: // it is asked for
	}
}

func (r *Room) changedLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// percent is a part of a budget. A budget of more than 4 EiB counts as that.
func percent(p, budget int64) int64 {
	budget = min(budget, 1<<62)
	return budget/100*p + budget%100*p/100
}
