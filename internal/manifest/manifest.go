// Package manifest reads what a manifest says: what it refers to, its subject, its config and its types.
//
// It follows references by digest, whatever their type: BuildKit's cache index lists layers under "manifests".
package manifest

import (
	_ "crypto/sha256" // go-digest knows an algorithm when it is linked in
	_ "crypto/sha512"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// MaxManifest is the largest manifest that is read, in bytes: distribution's limit for a PUT.
const MaxManifest = 4 << 20

// SchemaOne is the media type of the manifests that registries before 2.3 wrote. They are kept, not taken.
const SchemaOne = "application/vnd.docker.distribution.manifest.v1+json"

// Manifest is what a manifest says about itself. It follows from the digest alone.
type Manifest struct {
	MediaType    string
	ArtifactType string
	Config       digest.Digest   // empty when there is none
	Subject      digest.Digest   // empty when there is none
	References   []digest.Digest // everything it names but its subject, whatever the type
	Parts        []Part          // the same, each as what it is named
}

// Part is something that a manifest names, with what all its descriptors in the manifest say of it.
type Part struct {
	Digest digest.Digest
	Size   int64 // in bytes; Unsaid, or Contradictory
	// Blob and Manifest are as what clients ask for it. Neither: as one or the other, which depends on the client.
	Blob, Manifest bool
	Foreign        bool // all descriptors are those of a layer that may live elsewhere
}

// Sizes of a part that no file has.
const (
	Unsaid        int64 = -1 // no descriptor says a size
	Contradictory int64 = -2 // a descriptor says what cannot be a size, or two say different ones
)

// Fits says whether a part may have so many bytes.
func (p Part) Fits(size int64) bool { return p.Size == size || p.Size == Unsaid }

// descriptor is what the walker follows: any object with a digest, whatever its media type says.
type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      *size         `json:"size"`
	URLs      []string      `json:"urls"`
}

// size is that of a descriptor. What is no size makes no manifest unreadable that is stored already.
type size int64

// UnmarshalJSON implements json.Unmarshaler.
func (s *size) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseInt(string(data), 10, 64)
	if *s = size(n); err != nil || n < 0 {
		*s = size(Contradictory)
	}
	return nil
}

// config is a descriptor that may be missing. As in distribution null does not take it back.
type config struct {
	descriptor
	given bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *config) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	c.given = true
	return json.Unmarshal(data, &c.descriptor)
}

// Parse reads what a manifest of any kind says about itself. References are followed by digest,
// whatever their type: BuildKit's cache index lists layers under "manifests".
func Parse(data []byte) (*Manifest, error) {
	var m struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		ArtifactType  string       `json:"artifactType"`
		Config        config       `json:"config"`
		Layers        []descriptor `json:"layers"`
		Blobs         []descriptor `json:"blobs"` // ORAS artifact manifests, from before OCI 1.1
		Manifests     []descriptor `json:"manifests"`
		Subject       *descriptor  `json:"subject"`
		FSLayers      []struct {   // Docker schema 1, in directories of old registries
			BlobSum digest.Digest `json:"blobSum"`
		} `json:"fsLayers"`
	}
	if len(data) > MaxManifest {
		return nil, fmt.Errorf("manifest has %d bytes, more than %d", len(data), MaxManifest)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("manifest is not JSON: %w", err)
	}
	if m.SchemaVersion != 1 && m.SchemaVersion != 2 {
		return nil, fmt.Errorf("manifest has schemaVersion %d, want 2", m.SchemaVersion)
	}
	if m.SchemaVersion == 1 {
		m.MediaType = SchemaOne
	}
	for _, l := range m.FSLayers {
		m.Layers = append(m.Layers, descriptor{Digest: l.BlobSum})
	}
	c := &Manifest{MediaType: m.MediaType, ArtifactType: m.ArtifactType}
	if c.MediaType == "" {
		c.MediaType = impliedType(m.Manifests != nil)
	}
	if m.Subject != nil {
		c.Subject = m.Subject.Digest
		if err := c.Subject.Validate(); err != nil {
			return nil, fmt.Errorf("subject %q: %w", c.Subject, err)
		}
	}
	var configs []descriptor
	if m.Config.given {
		c.Config = m.Config.Digest
		if c.ArtifactType == "" {
			c.ArtifactType = m.Config.MediaType // OCI 1.1: the config's type stands in
		}
		configs = append(configs, m.Config.descriptor)
	}
	parts := parts{Manifest: c, at: map[digest.Digest]int{}}
	for _, list := range []struct {
		descriptors         []descriptor
		elsewhere, children bool // may be foreign; may be manifests
	}{{m.Layers, true, false}, {configs, false, false}, {m.Blobs, true, false}, {m.Manifests, true, true}} {
		for _, d := range list.descriptors {
			if err := d.Digest.Validate(); err != nil {
				return nil, fmt.Errorf("reference %q: %w", d.Digest, err)
			}
			parts.add(d, list.children, list.elsewhere && len(d.URLs) > 0 && foreign[d.MediaType])
		}
	}
	if _, is := parts.at[c.Subject]; is {
		c.Subject = "" // it is a part already: that each keeps the other would be a circle
	}
	return c, nil
}

// parts gathers what a manifest names, each digest once.
type parts struct {
	*Manifest
	at map[digest.Digest]int
}

// add counts a descriptor, which lists its part among the children of an index, or among layers.
func (ps *parts) add(d descriptor, child, foreign bool) {
	i, known := ps.at[d.Digest]
	if !known {
		i = len(ps.Parts)
		ps.at[d.Digest] = i
		ps.References = append(ps.References, d.Digest)
		ps.Parts = append(ps.Parts, Part{Digest: d.Digest, Size: Unsaid, Foreign: true})
	}
	p := &ps.Parts[i]
	p.Foreign = p.Foreign && foreign
	switch {
	case child && isManifest[d.MediaType]:
		p.Manifest = true
	case child && d.MediaType != "", !child && !isManifest[d.MediaType]:
		p.Blob = true // BuildKit's cache index lists layers among its children
	}
	switch {
	case d.Size == nil || p.Size == int64(*d.Size):
	case p.Size == Unsaid:
		p.Size = int64(*d.Size)
	default:
		p.Size = Contradictory
	}
}

// isManifest are the types of what clients ask for as manifests. Those that they find among the layers of an
// image some ask for as blobs.
var isManifest = map[string]bool{
	"application/vnd.oci.image.manifest.v1+json":                true,
	"application/vnd.oci.image.index.v1+json":                   true,
	"application/vnd.oci.artifact.manifest.v1+json":             true,
	"application/vnd.docker.distribution.manifest.v2+json":      true,
	"application/vnd.docker.distribution.manifest.list.v2+json": true,
	"application/vnd.docker.distribution.manifest.v1+prettyjws": true,
	SchemaOne: true,
}

// IsIndex says whether a manifest lists others of which a client needs one.
func (c *Manifest) IsIndex() bool {
	return c.MediaType == impliedType(true) ||
		c.MediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

// foreign are the types of layers that may live elsewhere, and come with URLs then.
var foreign = map[string]bool{
	"application/vnd.oci.image.layer.nondistributable.v1.tar":      true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": true,
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    true,
	"application/vnd.docker.image.rootfs.foreign.diff.tar":         true,
}

// impliedType is the OCI media type of a manifest that does not name its own.
func impliedType(index bool) string {
	if index {
		return "application/vnd.oci.image.index.v1+json"
	}
	return "application/vnd.oci.image.manifest.v1+json"
}
