package registry

import (
	"context"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// memory bounds the bytes of manifests and lists that are in memory while a client sends or takes them. When it is
// full, a request waits for a moment. Then the client that holds most has to give way, with its oldest request. So
// neither many addresses with one manifest each, nor one address with many, keep out a client that sends a small
// manifest, or a large one fast.
type memory struct {
	limit int64

	mu      sync.Mutex // guards the rest, and that of each holding; held over no I/O
	used    int64
	held    map[*holding]struct{}
	changed chan struct{} // closed when there may be more room
}

// holding is what one request has of the memory.
type holding struct {
	of     *memory
	client string
	since  time.Time
	cut    func() // ends the wait for the client; nil: the request does not wait for it
	bytes  int64
	lost   bool // it had to give way
}

// manifestMemory has place for sixteen of the largest manifests, or thousands of usual ones.
const manifestMemory = 64 << 20

var (
	errGaveWay = errcode.ErrorCodeTooManyRequests.WithMessage("too many manifests and lists are being transferred, " +
		"most of them by this client; ask for fewer at a time, and try again")
	errNoRoom = errcode.ErrorCodeUnavailable.WithMessage(
		"too many manifests and lists are being transferred; try again soon")
)

func newMemory(limit int64) *memory {
	return &memory{limit: limit, held: map[*holding]struct{}{}, changed: make(chan struct{})}
}

// enter is for a request that holds nothing yet. The caller must call leave.
func (m *memory) enter(client string, cut func()) *holding {
	h := &holding{of: m, client: client, since: time.Now(), cut: cut}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[h] = struct{}{}
	return h
}

// fair is how long a manifest may be transferred while others wait for room. A client nearby needs no longer for 4 MiB;
// a slow one has as long as no other waits.
const fair = time.Second

// noRoomAfter is how long to wait for manifests that are being worked on.
const noRoomAfter = 30 * time.Second

// grow takes n bytes more. It waits for them, or takes them from a slow client.
func (h *holding) grow(ctx context.Context, n int64) error {
	for end := time.Now().Add(noRoomAfter); ; {
		changed, wait, err := h.try(n, time.Now())
		if err != nil || changed == nil {
			return err
		}
		wait = min(wait, time.Until(end))
		if wait <= 0 {
			return errNoRoom
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			err = errClientLeft
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// try takes the bytes, and returns nil; or it returns what to wait for, and for how long at most.
func (h *holding) try(n int64, now time.Time) (changed <-chan struct{}, wait time.Duration, err error) {
	m := h.of
	m.mu.Lock()
	defer m.mu.Unlock()
	for !h.lost && m.used+n > m.limit {
		other := m.mostLocked()
		if other == nil {
			return m.changed, noRoomAfter, nil
		}
		if wait := fair - now.Sub(other.since); wait > 0 {
			return m.changed, wait, nil
		}
		m.dropLocked(other)
		other.lost = true
		if other != h {
			other.cut()
		}
	}
	if h.lost {
		return nil, 0, errGaveWay
	}
	h.bytes, m.used = h.bytes+n, m.used+n
	return nil, 0, nil
}

// arrived says that the request waits for its client no more, and so does not have to give way any more.
func (h *holding) arrived() error {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.cut = nil
	if h.lost {
		return errGaveWay
	}
	return nil
}

// leave gives everything back.
func (h *holding) leave() {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.of.dropLocked(h)
	delete(h.of.held, h)
}

func (h *holding) size() int64 {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	return h.bytes
}

func (m *memory) dropLocked(h *holding) {
	m.used -= h.bytes
	h.bytes = 0
	close(m.changed)
	m.changed = make(chan struct{})
}

// mostLocked is the oldest waiting request of the client that holds most; nil: no request waits for its client.
func (m *memory) mostLocked() (oldest *holding) {
	of := map[string]int64{}
	for h := range m.held {
		if h.cut != nil {
			of[h.client] += h.bytes
		}
	}
	for h := range m.held {
		if h.cut == nil || h.bytes == 0 {
			continue
		}
		if oldest == nil || of[h.client] > of[oldest.client] ||
			h.client == oldest.client && h.since.Before(oldest.since) {
			oldest = h
		}
	}
	return oldest
}
