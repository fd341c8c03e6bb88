package inspect

import (
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Row is a Blob, an Image, or a Repository.
type Row interface {
	rank(Sort) int64    // the larger comes first
	name() string       // decides between equal ranks, A to Z
	expires() time.Time // zero: never
	pack() string       // a text that unpack makes a row of
}

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

	CreatedAt stamp.Time `json:"-"` // when the manifest was pushed, or the tag was made or moved
}

// Repository is what is stored under one name.
type Repository struct {
	Repository  string     `json:"repository"`
	Images      int64      `json:"images"`       // top-level manifests, tagged or not
	Size        int64      `json:"size"`         // of all blobs that can be pulled from it, each once
	UniqueBytes int64      `json:"unique_bytes"` // of the blobs that no other repository has
	LastAccess  stamp.Time `json:"last_access"`  // of what was used last in it
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

// imageRow makes a row of a manifest with its tags, without its sizes.
func imageRow(m index.Row, tags []index.Row, used, expires int64) Image {
	names := []string{}
	for _, t := range tags {
		names = append(names, t.Key.Tag)
	}
	return Image{Repository: m.Key.Repository, Tag: strings.Join(names, " "), Tags: names, Digest: m.Digest, MediaType: m.MediaType,
		LastAccess: stampOf(used), ExpiresAt: stampOf(expires), CreatedAt: stamp.Time(m.CreatedAt)}
}

// tagRow makes a row of a tag, without its sizes. It was used when itself or its manifest was, however
// that is kept.
func (x expiry) tagRow(t, manifest index.Row) Image {
	used := t.AccessedAt
	if manifest.AccessedAt.After(used) {
		used = manifest.AccessedAt
	}
	return Image{Repository: t.Key.Repository, Tag: t.Key.Tag, Digest: t.Digest, MediaType: manifest.MediaType,
		LastAccess: stampOf(used.UnixMilli()), ExpiresAt: stampOf(x.imageDue(used.UnixMilli())), KeptBy: KeptByTag, CreatedAt: stamp.Time(t.CreatedAt)}
}

// hold says what there is that could keep an image.
type hold struct{ tagged, parent, subject bool }

// keptBy says what keeps an image.
func (x expiry) keptBy(used, expires int64, h hold) string {
	switch {
	case h.tagged:
		return KeptByTag
	case h.parent:
		return KeptByParent
	case h.subject:
		return KeptBySubject
	case x.now <= x.contentDue(used):
		return KeptByGrace
	case x.now <= expires:
		return KeptByTTL
	}
	return ""
}
