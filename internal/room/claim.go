package room

import "context"

// Claim is the room that one request has reserved. It must not be used concurrently.
type Claim struct {
	room   *Room
	left   int64 // reserved and not written
	beside int64 // of what is stored beside the bytes
}

// block is how a file system counts: a file or a directory takes whole blocks.
const block = 4 << 10

// beside is what is stored beside the bytes of an upload, or of a manifest: directories, links, and rows.
const beside = 12 * block

// most bounds one claim, so that no length that a client announces makes the sums overflow: 1 PiB.
const most = 1 << 50

// Claim makes one that has reserved nothing. The caller ends it.
func (r *Room) Claim() Claim { return Claim{room: r} }

// Grow reserves room for n bytes more, and at first for what is stored beside them. It may wait for an eviction.
// *content.FullError: there is no room. Other errors are those of ctx, or say that what is used could not be counted.
func (c *Claim) Grow(ctx context.Context, n int64) error {
	n = (min(n, most) + block - 1) / block * block
	more := beside - c.beside
	if err := c.room.reserve(ctx, n+more); err != nil {
		return err
	}
	c.left, c.beside = c.left+n, c.beside+more
	return nil
}

// Wrote says that n of the bytes were written. From here on they count as used.
func (c *Claim) Wrote(n int64) {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	reserved := min(n, c.left)
	c.left -= reserved
	r.reserved -= reserved
	r.since += n
}

// End gives back what was not written. The claim has reserved nothing then, and may grow again.
func (c *Claim) End() {
	if c.left == 0 && c.beside == 0 {
		return
	}
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved -= c.left + c.beside
	r.since += c.beside
	c.left, c.beside = 0, 0
	if r.wanted > 0 {
		r.changedLocked()
	}
}
