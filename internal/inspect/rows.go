package inspect

import (
	"slices"
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
// last use; a rule or a pin, for longer than the ttl would; its last use alone. Empty: nothing, it goes with the next
// run.
const (
	KeptByTag     = "tag"
	KeptByParent  = "parent"
	KeptBySubject = "subject"
	KeptByGrace   = "grace"
	KeptByTTL     = "ttl"
	KeptByRule    = "rule"
	KeptByPin     = "pin"
)

// imageRow makes a row of an image, without its sizes.
func (x expiry) imageRow(i index.Image) Image {
	used := i.AccessedAt.UnixMilli()
	expires := x.imageDue(i.Key, used)
	row := Image{Repository: i.Key.Repository, Tag: strings.Join(i.Tags, " "), Tags: append([]string{}, i.Tags...),
		Digest: i.Digest, MediaType: i.MediaType, LastAccess: stampOf(used), ExpiresAt: stampOf(expires),
		CreatedAt: stamp.Time(i.CreatedAt)}
	row.KeptBy = x.keptBy(used, expires, owners{tagged: len(i.Tags) > 0, parent: i.HasParent, subject: i.HasHost,
		by: x.ruled[i.Key]})
	return row
}

// tagRow makes a row of a tag, without its sizes.
func (x expiry) tagRow(t index.Image) Image {
	used := t.AccessedAt.UnixMilli()
	expires := x.imageDue(t.Key, used)
	return Image{Repository: t.Key.Repository, Tag: t.Key.Tag, Digest: t.Digest, MediaType: t.MediaType,
		LastAccess: stampOf(used), ExpiresAt: stampOf(expires), CreatedAt: stamp.Time(t.CreatedAt),
		KeptBy: x.keptBy(used, expires, owners{tagged: true, by: x.ruled[t.Key]})}
}

// blobRow makes a row of a blob. It expires with the image that expires last, and not before its own grace is over.
func (x expiry) blobRow(b index.Blob) Blob {
	expires := max(x.contentDue(b.OwnUse.UnixMilli()), x.contentDue(b.LastUse.UnixMilli()))
	if !b.NamedUse.IsZero() && len(b.Owners) == 0 {
		expires = max(expires, x.plainDue(b.NamedUse.UnixMilli()))
	}
	for _, o := range b.Owners {
		if r, is := x.ruled[o.Key]; is {
			expires = max(expires, r.due)
		} else if !o.Use.IsZero() {
			expires = max(expires, x.plainDue(o.Use.UnixMilli()))
		}
	}
	return Blob{Digest: b.Digest, Size: b.Size, Kind: kindOf(b), CreatedAt: stamp.Time(b.CreatedAt),
		LastAccess: stamp.Time(b.LastUse), ExpiresAt: stampOf(expires), Repositories: b.Repositories,
		Manifests: b.Manifests}
}

// The kinds of blobs in Blob.Kind, and of nodes.
const (
	kindLayer    = "layer"
	kindConfig   = "config"
	kindManifest = "manifest"
	kindIndex    = "index"
	kindOther    = "other"
)

// kindOf says what a blob is, as far as its owners know. What a config is one manifest says: the bytes are not read.
func kindOf(b index.Blob) string {
	switch {
	case slices.Contains(indexTypes, b.MediaType):
		return kindIndex
	case b.IsManifest:
		return kindManifest
	case b.Config:
		return kindConfig
	case b.Owned:
		return kindLayer
	}
	return kindOther
}

// indexTypes are the media types of image indexes.
var indexTypes = []string{
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
}

// owners says which owners an image has, and whether a rule or a pin keeps it for longer than the ttl would.
type owners struct {
	tagged, parent, subject bool
	by                      ruled
}

// keptBy says what keeps an image: the first that applies. An owner comes before the times, since an operator who wants
// the image removed has to remove the owner; an image with neither owner nor time goes with the next run. A rule or a
// pin comes before all, since without it the rest would keep the image no longer.
func (x expiry) keptBy(used, expires int64, o owners) string {
	switch {
	case o.by.pinned:
		return KeptByPin
	case o.by.kept && x.now <= expires:
		return KeptByRule
	case o.tagged:
		return KeptByTag
	case o.parent:
		return KeptByParent
	case o.subject:
		return KeptBySubject
	case x.now <= x.contentDue(used):
		return KeptByGrace
	case x.now <= expires:
		return KeptByTTL
	}
	return ""
}
