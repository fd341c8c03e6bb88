package layout

import (
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Kind says what a row stands for.
type Kind uint8

// The kinds of rows.
const (
	Blob Kind = iota + 1
	Layer
	Manifest
	Tag
)

func (k Kind) String() string {
	return [...]string{"row", "blob", "layer", "manifest", "tag"}[k]
}

// Key names a row.
type Key struct {
	Kind       Kind
	Repository string        // empty for blobs
	Digest     digest.Digest // empty for tags
	Tag        string        // tags only
}

func (k Key) String() string {
	switch k.Kind {
	case Blob:
		return fmt.Sprintf("blob %s", k.Digest)
	case Tag:
		return fmt.Sprintf("tag %s:%s", k.Repository, k.Tag)
	}
	return fmt.Sprintf("%s %s@%s", k.Kind, k.Repository, k.Digest)
}

// BlobKey, LayerKey, ManifestKey and TagKey name rows of their kind.
func BlobKey(d digest.Digest) Key { return Key{Kind: Blob, Digest: d} }
func LayerKey(repo string, d digest.Digest) Key {
	return Key{Kind: Layer, Repository: repo, Digest: d}
}
func ManifestKey(repo string, d digest.Digest) Key {
	return Key{Kind: Manifest, Repository: repo, Digest: d}
}
func TagKey(repo, name string) Key { return Key{Kind: Tag, Repository: repo, Tag: name} }

// Path is the file of a key.
func (k Key) Path() Path {
	switch k.Kind {
	case Blob:
		return Path{Kind: BlobData, Digest: k.Digest}
	case Layer:
		return Path{Kind: LayerLink, Repository: k.Repository, Digest: k.Digest}
	case Manifest:
		return Path{Kind: RevisionLink, Repository: k.Repository, Digest: k.Digest}
	}
	return Path{Kind: TagLink, Repository: k.Repository, Tag: k.Tag}
}

// Key is the key whose file a path is. False for files that no row stands for: a tag's history, those of an upload.
func (p Path) Key() (Key, bool) {
	switch p.Kind {
	case BlobData:
		return BlobKey(p.Digest), true
	case LayerLink:
		return LayerKey(p.Repository, p.Digest), true
	case RevisionLink:
		return ManifestKey(p.Repository, p.Digest), true
	case TagLink:
		return TagKey(p.Repository, p.Tag), true
	}
	return Key{}, false
}
