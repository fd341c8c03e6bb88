package index

import (
	"bytes"
	_ "crypto/sha256" // go-digest knows an algorithm when it is linked in
	_ "crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

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

// ParseContent reads what a manifest of any kind says about itself. References are followed by digest,
// whatever their type: BuildKit's cache index lists layers under "manifests".
func ParseContent(data []byte) (*Content, error) {
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
	c := &Content{MediaType: m.MediaType, ArtifactType: m.ArtifactType}
	if c.MediaType == "" {
		c.MediaType = impliedType(m.Manifests != nil)
	}
	if m.Config.given {
		c.Config = m.Config.Digest
		if c.ArtifactType == "" {
			c.ArtifactType = m.Config.MediaType // OCI 1.1: the config's type stands in
		}
		m.Layers = append(m.Layers, m.Config.descriptor)
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
				if len(d.URLs) > 0 && foreign[d.MediaType] {
					c.Foreign = append(c.Foreign, d.Digest)
				}
			}
		}
	}
	if seen[c.Subject] {
		c.Subject = "" // it is a part already: that each keeps the other would be a circle
	}
	return c, nil
}

// IsIndex says whether a manifest lists others of which a client needs one.
func (c *Content) IsIndex() bool {
	return c.MediaType == impliedType(true) || c.MediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

// foreign are the types of layers that may live elsewhere, and come with URLs then.
var foreign = map[string]bool{
	"application/vnd.oci.image.layer.nondistributable.v1.tar":      true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": true,
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    true,
	"application/vnd.docker.image.rootfs.foreign.diff.tar":         true,
}

// CheckUnambiguous refuses JSON in which a name stands twice in one object, or once more in other letter
// case. Readers differ in which of the two counts, and each must see the references that we saw.
func CheckUnambiguous(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	type object struct {
		names map[string]bool // nil: an array
		value bool            // a value comes next, not a name
	}
	var open []object
	done := func() { // a value was read
		if n := len(open); n > 0 && open[n-1].names != nil {
			open[n-1].value = false
		}
	}
	for {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) && len(open) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("manifest is not JSON: %w", err)
		}
		if n := len(open); n > 0 && open[n-1].names != nil && !open[n-1].value && t != json.Delim('}') {
			name := strings.ToLower(t.(string)) // between names and values the decoder gives strings only
			if open[n-1].names[name] {
				return fmt.Errorf("manifest has the name %q twice in one object", name)
			}
			open[n-1].names[name], open[n-1].value = true, true
			continue
		}
		switch t {
		case json.Delim('{'):
			open = append(open, object{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, object{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			done()
		default:
			done()
		}
	}
}

// impliedType is the OCI media type of a manifest that does not name its own.
func impliedType(index bool) string {
	if index {
		return "application/vnd.oci.image.index.v1+json"
	}
	return "application/vnd.oci.image.manifest.v1+json"
}
