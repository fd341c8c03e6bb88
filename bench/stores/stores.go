// Package stores makes stores to measure on: straight to disk in distribution's layout, or an index alone.
//
// The same Shape always gives the same store, byte by byte. Disk writes what a registry would have stored, without
// asking one: any registry can serve it, and dcs adopts it. Index writes what dcs would know about such a store, which
// is all that inspect, a start and a gc without anything to remove look at: a million blobs on disk are five million
// inodes.
package stores

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Shape says what is in a store: images of a manifest, a config and layers, over repositories.
type Shape struct {
	Images       int
	Repositories int // by turns
	Layers       int // that only the image has
	Shared       int // layers that Sharers images of a repository have in common
	Sharers      int
	Size         int // of a layer and of a config, in bytes; 0 is 32
	// Untagged is how many of five images have no tag.
	Untagged int
}

// Own is how many blobs an image adds to the store, leaving aside what it shares.
func (s Shape) Own() int { return 2 + s.Layers }

// Blob is a file.
type Blob struct {
	Digest digest.Digest
	Data   []byte
}

// Image is what a push brings.
type Image struct {
	Repository string
	Tag        string // empty: untagged
	Manifest   Blob
	Blobs      []Blob // the config, then the layers
}

// Image makes the image of a number.
func (s Shape) Image(i int) Image {
	repo := i % s.Repositories
	im := Image{Repository: fmt.Sprintf("team-%d/app-%d", repo%30, repo)}
	if i%5 >= s.Untagged {
		im.Tag = fmt.Sprintf("v%d", i)
	}
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","image":%d}`, i)
	for len(config) < s.Size {
		config = append(config, ' ')
	}
	im.add(config)
	for n := range s.Shared {
		im.add(s.layer(1, repo, i/s.Repositories/s.Sharers, n))
	}
	for n := range s.Layers {
		im.add(s.layer(2, i, n))
	}
	im.Manifest = manifestOf(im.Blobs)
	return im
}

func (im *Image) add(data []byte) {
	im.Blobs = append(im.Blobs, Blob{digest.FromBytes(data), data})
}

// layer is noise that only these numbers give.
func (s Shape) layer(numbers ...int) []byte {
	var seed [32]byte
	for i, n := range numbers {
		binary.LittleEndian.PutUint64(seed[8*i:], uint64(n))
	}
	data := make([]byte, max(s.Size, 32))
	_, _ = rand.NewChaCha8(seed).Read(data) // never fails
	return data
}

func manifestOf(blobs []Blob) Blob {
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for i, b := range blobs {
		desc := v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: b.Digest, Size: int64(len(b.Data))}
		if i == 0 {
			desc.MediaType = v1.MediaTypeImageConfig
			m.Config = desc
			continue
		}
		m.Layers = append(m.Layers, desc)
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers
	}
	return Blob{digest.FromBytes(data), data}
}
