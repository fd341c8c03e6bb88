package index

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Image is a row of a listing of images or tags.
//
// An image is a placed manifest that has a tag, or that no placed manifest keeps: neither by naming it nor as its
// subject. So a referrer without a tag is part of its subject, and not an image of its own.
type Image struct {
	Row                // of the manifest, or of the tag, then with the media type of its manifest
	Tags      []string // of an image, A to Z
	Absent    bool     // of a tag: its manifest is a claim, or has no row
	HasParent bool     // a claim names the image
	HasHost   bool     // the subject of the image is a claim
}

// Blob is a row of a listing of blobs: a blob whose file is on disk, and its owners.
//
// A manifest owns its own blob, and what it names as far as its repository has a link or a manifest of it. A link that
// no manifest of its repository names owns its blob, too.
type Blob struct {
	Digest       digest.Digest
	Size         int64 // bytes
	CreatedAt    time.Time
	LastUse      time.Time // of the owner that was used last; of a blob without an owner its own
	NamedUse     time.Time // the last use of the images that own it, perhaps by claims; zero: none does
	OwnUse       time.Time // the last use of the blob, its links and the claims that own it
	IsManifest   bool      // of a repository
	MediaType    string    // of a manifest
	Config       bool      // a manifest names it as its config
	Owned        bool      // it has an owner
	Tagged       bool      // a tag owns it, perhaps by other manifests
	Repositories []string  // in which it can be pulled, A to Z
	Manifests    int       // how many name it, each digest once
	Images       []Share   // that it is part of; see BlobListing
	Unnamed      bool      // a link owns it that no manifest of its repository names
	Owners       []Owner   // the manifests that own it; see BlobListing
}

// Owner is a manifest that owns a blob, perhaps a claim.
type Owner struct {
	Key layout.Key
	Use time.Time // its last use; of a claim that of the images that keep it, zero if none does
}

// BlobListing says which blobs are listed, and what is told of them.
type BlobListing struct {
	Latest int  // see Reader
	Images bool // set Blob.Images, which takes longer; not with Latest
	Owners bool // set Blob.Owners
}

// Share is an image, or a claim, of which a blob is a part.
type Share struct {
	Repository string
	Digest     digest.Digest
	Own        bool // not only by a referrer
}

// Repository is a row of a listing of repositories.
type Repository struct {
	Name      string
	Tags      int64
	Manifests int64 // that are placed
	LastUse   time.Time
}
