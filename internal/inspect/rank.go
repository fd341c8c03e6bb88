package inspect

import (
	"time"

	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

func (b Blob) rank(s Sort) int64 { return rank(s, b.LastAccess, b.CreatedAt, b.Size, b.expires()) }

func (i Image) rank(s Sort) int64 { return rank(s, i.LastAccess, i.CreatedAt, i.Size, i.expires()) }

func (r Repository) rank(s Sort) int64 {
	return rank(s, r.LastAccess, stamp.Time{}, r.Size, time.Time{})
}

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

func (b Blob) expires() time.Time     { return time.Time(b.ExpiresAt) }
func (i Image) expires() time.Time    { return time.Time(i.ExpiresAt) }
func (Repository) expires() time.Time { return time.Time{} }

func (b Blob) name() string       { return b.Digest.String() }
func (i Image) name() string      { return i.Repository + "\x00" + i.Tag + "\x00" + i.Digest.String() }
func (r Repository) name() string { return r.Repository }
