package inspect

import (
	"time"

	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// rank of a blob, an image or a tag: they have all that can be sorted by. It is a number, so that rows of all kinds are
// sorted in one way, also in a temporary file.
func (b Blob) rank(s Sort) int64 { return rank(s, b.LastAccess, b.CreatedAt, b.Size, b.expires()) }

func (i Image) rank(s Sort) int64 { return rank(s, i.LastAccess, i.CreatedAt, i.Size, i.expires()) }

// rank of a repository. Check refuses the orders for which it has no time.
func (r Repository) rank(s Sort) int64 {
	return rank(s, r.LastAccess, stamp.Time{}, r.Size, time.Time{})
}

// rank returns what is sorted by: milliseconds since 1970, or bytes. The soonest expiry comes first, so it is the
// largest number.
func rank(s Sort, accessed, created stamp.Time, size int64, expires time.Time) int64 {
	switch s {
	case ByAccess:
		return time.Time(accessed).UnixMilli()
	case ByCreated:
		return time.Time(created).UnixMilli()
	case BySize:
		return size
	case ByExpiry:
		if expires.IsZero() {
			return -never
		}
		return -expires.UnixMilli()
	}
	return 0 // the name decides
}

// A repository has no time of its own at which it expires: it is gone with its last blob.
func (b Blob) expires() time.Time     { return time.Time(b.ExpiresAt) }
func (i Image) expires() time.Time    { return time.Time(i.ExpiresAt) }
func (Repository) expires() time.Time { return time.Time{} }

// A name decides between equal ranks, so that two listings of one state have one order. NUL is in no name, and sorts
// before all that is.
func (b Blob) name() string       { return b.Digest.String() }
func (i Image) name() string      { return i.Repository + "\x00" + i.Tag + "\x00" + i.Digest.String() }
func (r Repository) name() string { return r.Repository }
