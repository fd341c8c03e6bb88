package inspect

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
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
	ExpiresAt   stamp.Time    `json:"expires_at"`    // null: never
	KeptBy      string        `json:"kept_by"`       // one of the Kept constants
	Tags        []string      `json:"tags,omitzero"` // of an image, A to Z; nil for a tag

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
	tagColumns   = []string{"repository", "tag", "digest", "media_type", "size", "unique_bytes", "last_access", "expires_at", "kept_by"}
	imageColumns = append(slices.Clip(tagColumns), "tags")
)

func (b Blob) record() []string {
	return []string{b.Digest.String(), decimal(b.Size), b.Kind, b.CreatedAt.String(), b.LastAccess.String(), b.ExpiresAt.String(),
		strings.Join(b.Repositories, " "), strconv.Itoa(b.Manifests)}
}

func (i Image) record() []string {
	record := []string{i.Repository, i.Tag, i.Digest.String(), i.MediaType, decimal(i.Size), decimal(i.UniqueBytes),
		i.LastAccess.String(), i.ExpiresAt.String(), i.KeptBy}
	if i.Tags != nil {
		record = append(record, strings.Join(i.Tags, " "))
	}
	return record
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func (b Blob) rank(s Sort) int64 {
	return rank(s, b.LastAccess, time.Time(b.CreatedAt), b.Size, b.expires())
}

func (i Image) rank(s Sort) int64 { return rank(s, i.LastAccess, i.created, i.Size, i.expires()) }

func (b Blob) expires() time.Time  { return time.Time(b.ExpiresAt) }
func (i Image) expires() time.Time { return time.Time(i.ExpiresAt) }

func rank(s Sort, accessed stamp.Time, created time.Time, size int64, expires time.Time) int64 {
	switch s {
	case ByAccess:
		return time.Time(accessed).UnixMilli()
	case ByCreated:
		return created.UnixMilli()
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

func (b Blob) dgst() digest.Digest  { return b.Digest }
func (i Image) dgst() digest.Digest { return i.Digest }

func (b Blob) name() string { return b.Digest.String() }

func (i Image) name() string { return i.Repository + "\x00" + i.Tag + "\x00" + i.Digest.String() }

// imageRow makes a row of a manifest with its tags, without its sizes.
func imageRow(m index.Row, tags []index.Row, used, expires int64) Image {
	names := []string{}
	for _, t := range tags {
		names = append(names, t.Key.Tag)
	}
	return Image{Repository: m.Key.Repository, Tag: strings.Join(names, " "), Tags: names, Digest: m.Digest, MediaType: m.MediaType,
		LastAccess: stampOf(used), ExpiresAt: stampOf(expires), created: m.CreatedAt}
}

// tagRow makes a row of a tag, without its sizes. It was used when itself or its manifest was, however
// that is kept.
func (l lifetimes) tagRow(t, manifest index.Row) Image {
	used := t.AccessedAt
	if manifest.AccessedAt.After(used) {
		used = manifest.AccessedAt
	}
	return Image{Repository: t.Key.Repository, Tag: t.Key.Tag, Digest: t.Digest, MediaType: manifest.MediaType,
		LastAccess: stampOf(used.UnixMilli()), ExpiresAt: stampOf(l.nameDue(used.UnixMilli())), KeptBy: KeptByTag, created: t.CreatedAt}
}

// reason says in words why an image is there. What is tagged expires all the same.
func (i Image) reason() string {
	switch i.KeptBy {
	case KeptByTag:
		return "tagged"
	case KeptByParent:
		return "part of an index"
	case KeptBySubject:
		return "attached to an image"
	case KeptByGrace:
		if time.Time(i.LastAccess).Sub(i.created) < time.Minute {
			return "just pushed"
		}
		return "just used"
	case KeptByTTL:
		return "used within the ttl"
	}
	return ""
}

// hold says what there is that could keep an image.
type hold struct{ tagged, parent, subject bool }

// keptBy says what keeps an image.
func (l lifetimes) keptBy(used, expires int64, h hold) string {
	switch {
	case h.tagged:
		return KeptByTag
	case h.parent:
		return KeptByParent
	case h.subject:
		return KeptBySubject
	case l.now <= l.contentDue(used):
		return KeptByGrace
	case l.now <= expires:
		return KeptByTTL
	}
	return ""
}
