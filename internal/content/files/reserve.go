package files

import (
	"context"
	"errors"
	"io"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/room"
)

// reserve has a claim grow. Where the budget has no room, uploads whose clients hung up make some, as on a full disk.
func (s *Store) reserve(ctx context.Context, c *room.Claim, n int64) error {
	err := c.Grow(ctx, n)
	if full := (*content.FullError)(nil); errors.As(err, &full) && full.Helps() && s.makeRoom() {
		err = c.Grow(ctx, n)
	}
	return err
}

// unannounced reads what comes for an upload from a client that did not say how much that is. It reserves room before
// it reads.
type unannounced struct {
	io.Reader
	ctx  context.Context // of the request
	u    *upload
	came int64 // bytes
	room int64 // bytes that may still come
}

// mostAhead is how many bytes are reserved at a time for a long upload, of which nothing says how long it is. A short
// one has no more than twice its length.
const mostAhead = 1 << 20

// Read implements io.Reader. *content.FullError.
func (r *unannounced) Read(p []byte) (int, error) {
	if r.room < int64(len(p)) {
		more := max(int64(len(p)), min(r.came, mostAhead))
		if err := r.u.s.reserve(r.ctx, &r.u.claim, more); err != nil {
			return 0, err
		}
		r.room += more
	}
	n, err := r.Reader.Read(p)
	r.came, r.room = r.came+int64(n), r.room-int64(n)
	return n, err
}
