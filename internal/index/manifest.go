package index

import (
	_ "crypto/sha256" // go-digest knows an algorithm when it is linked in
	_ "crypto/sha512"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// MaxManifest is the largest manifest that is read, in bytes: distribution's limit for a PUT.
const MaxManifest = 4 << 20

// SchemaOne is the media type of the manifests that registries before 2.3 wrote. They are kept, not taken.
const SchemaOne = "application/vnd.docker.distribution.manifest.v1+json"

// descriptor is what the walker follows: any object with a digest, whatever its media type says.
type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	URLs      []string      `json:"urls"`
}

// ParseContent reads what a manifest of any kind says about itself. References are followed by digest,
// whatever their type: BuildKit's cache index lists layers under "manifests".
func ParseContent(data []byte) (*Content, error) {
	var m struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		ArtifactType  string       `json:"artifactType"`
		Config        *descriptor  `json:"config"`
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
	c := &Content{MediaType: m.MediaType, ArtifactType: m.ArtifactType}
	if c.MediaType == "" {
		c.MediaType = impliedType(m.Manifests != nil)
	}
	if m.Config != nil {
		c.Config = m.Config.Digest
		if c.ArtifactType == "" {
			c.ArtifactType = m.Config.MediaType // OCI 1.1: the config's type stands in
		}
		m.Layers = append(m.Layers, *m.Config)
	}
	if m.Subject != nil {
		c.Subject = m.Subject.Digest
		if err := c.Subject.Validate(); err != nil {
			return nil, fmt.Errorf("subject %q: %w", c.Subject, err)
		}
	}
	seen := map[digest.Digest]bool{}
	for _, list := range [][]descriptor{m.Layers, m.Blobs, m.Manifests} {
		for _, d := range list {
			if err := d.Digest.Validate(); err != nil {
				return nil, fmt.Errorf("reference %q: %w", d.Digest, err)
			}
			if !seen[d.Digest] {
				seen[d.Digest] = true
				c.References = append(c.References, d.Digest)
				if len(d.URLs) > 0 {
					c.Foreign = append(c.Foreign, d.Digest)
				}
			}
		}
	}
	return c, nil
}

// impliedType is the OCI media type of a manifest that does not name its own.
func impliedType(index bool) string {
	if index {
		return "application/vnd.oci.image.index.v1+json"
	}
	return "application/vnd.oci.image.manifest.v1+json"
}
