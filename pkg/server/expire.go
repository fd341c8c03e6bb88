package server

import (
	"context"
	"fmt"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/gc"
)

// ExpireOptions say what a run removes. The zero value does what the server's own cleaner does.
type ExpireOptions struct {
	// TTL is for how long an image must be unused to be removed. Default 0, the ttl of the configuration. A ttl that is
	// shorter than the grace counts as one of the grace.
	TTL time.Duration
	// DryRun reports what a run would remove, and removes nothing.
	DryRun bool
}

// Expiry is what a run removed, or would remove.
type Expiry struct {
	StartedAt  time.Time // UTC, in milliseconds
	Duration   time.Duration
	Cutoff     time.Time // images that were used after that stay; zero: the ttl is 0, never
	Removed    Removed
	FreedBytes int64 // sum of the sizes of the blob files that were removed, each once
	Remaining  Stats
	Images     []ExpiredImage // oldest first
}

// Removed counts what a run removed.
type Removed struct {
	Tags      int64
	Manifests int64 // in each repository
	Blobs     int64 // files, manifests included
	Uploads   int64 // unfinished ones whose client did not come back within the grace
}

// ExpiredImage is a tag that was removed, or an untagged image.
type ExpiredImage struct {
	Repository  string
	Tag         string // empty: untagged
	Digest      string
	LastAccess  time.Time
	Reason      string // "ttl", "untagged" or "rule"; there may be others
	UniqueBytes int64  // bytes that were freed by its removal
}

// Expire does one run of gc now and returns what it did. The result is never nil, also together with an error: it
// says what was removed before the error, and the next run continues. The server goes on serving. Expire may be
// called at any time, also during another run. When ctx ends, a run stops between two steps and returns the error of
// ctx.
//
// While the index is being compared with the disk, after a start, only unfinished uploads can be removed: that is
// ErrIncomplete. A server that was shut down is ErrClosed.
func (s *Server) Expire(ctx context.Context, o ExpireOptions) (*Expiry, error) {
	if o.TTL < 0 {
		return &Expiry{}, fmt.Errorf("server.Expire: the ttl %s is negative; 0 is that of the configuration", o.TTL)
	}
	rep, err := s.s.Expire(ctx, o.TTL, o.DryRun)
	if err != nil {
		err = fmt.Errorf("server.Expire: %w", err)
	}
	return newExpiry(rep), err
}

func newExpiry(rep gc.Report) *Expiry {
	e := &Expiry{StartedAt: utc(rep.StartedAt), Duration: time.Duration(rep.DurationMS) * time.Millisecond,
		Cutoff: utc(rep.Cutoff), Removed: Removed(rep.Removed), FreedBytes: rep.FreedBytes,
		Remaining: Stats(rep.Remaining)}
	for _, i := range rep.Images {
		e.Images = append(e.Images, ExpiredImage{Repository: i.Repository, Tag: i.Tag, Digest: i.Digest.String(),
			LastAccess: utc(i.LastAccess), Reason: i.Reason, UniqueBytes: i.UniqueBytes})
	}
	return e
}
