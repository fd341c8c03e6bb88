package inspect

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Blob is a file below blobs/.
type Blob struct {
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`
	Kind         string        `json:"kind"` // layer, config, manifest, index or other
	CreatedAt    stamp.Time    `json:"created_at"`
	LastAccess   stamp.Time    `json:"last_access"`
	ExpiresAt    stamp.Time    `json:"expires_at"`   // null: never
	Repositories []string      `json:"repositories"` // in which it can be pulled, A to Z
	Manifests    int           `json:"manifests"`    // how many name it, each digest once
}

// Image is a top-level manifest of a repository with its tags, or one of those tags.
type Image struct {
	Repository  string        `json:"repository"`
	Tag         string        `json:"tag"` // tags are joined by a space; empty: untagged
	Digest      digest.Digest `json:"digest"`
	MediaType   string        `json:"media_type"`
	Size        int64         `json:"size"`         // with everything it consists of, each blob once
	UniqueBytes int64         `json:"unique_bytes"` // what would go from the disk with it
	LastAccess  stamp.Time    `json:"last_access"`
	ExpiresAt   stamp.Time    `json:"expires_at"` // null: never
	KeptBy      string        `json:"kept_by"`    // one of the Kept constants

	created time.Time
}

// What keeps an image: a tag; a manifest that names it; its subject; what a server promised after its
// last use; its last use alone. Empty: nothing, it goes with the next expiry run.
const (
	KeptByTag     = "tag"
	KeptByParent  = "parent"
	KeptBySubject = "subject"
	KeptByGrace   = "grace"
	KeptByTTL     = "ttl"
)

var (
	blobColumns  = []string{"digest", "size", "kind", "created_at", "last_access", "expires_at", "repositories", "manifests"}
	imageColumns = []string{"repository", "tag", "digest", "media_type", "size", "unique_bytes", "last_access", "expires_at", "kept_by"}
)

func (b Blob) record() []string {
	return []string{b.Digest.String(), decimal(b.Size), b.Kind, b.CreatedAt.String(), b.LastAccess.String(), b.ExpiresAt.String(),
		strings.Join(b.Repositories, " "), strconv.Itoa(b.Manifests)}
}

func (i Image) record() []string {
	return []string{i.Repository, i.Tag, i.Digest.String(), i.MediaType, decimal(i.Size), decimal(i.UniqueBytes),
		i.LastAccess.String(), i.ExpiresAt.String(), i.KeptBy}
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func (b Blob) rank(s Sort) int64 { return rank(s, b.LastAccess, time.Time(b.CreatedAt), b.Size) }

func (i Image) rank(s Sort) int64 { return rank(s, i.LastAccess, i.created, i.Size) }

func rank(s Sort, accessed stamp.Time, created time.Time, size int64) int64 {
	switch s {
	case ByAccess:
		return time.Time(accessed).UnixMilli()
	case ByCreated:
		return created.UnixMilli()
	case BySize:
		return size
	}
	return 0 // the name decides
}

func (b Blob) compareName(c Blob) int { return cmp.Compare(b.Digest, c.Digest) }

func (i Image) compareName(j Image) int {
	return cmp.Or(cmp.Compare(i.Repository, j.Repository), cmp.Compare(i.Tag, j.Tag), cmp.Compare(i.Digest, j.Digest))
}
