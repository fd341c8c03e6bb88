package inspect

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// part is what a manifest says about something that it names.
type part struct {
	Digest      digest.Digest     `json:"digest"`
	MediaType   string            `json:"mediaType"`
	Size        int64             `json:"size"`
	URLs        []string          `json:"urls"`
	Platform    platform          `json:"platform"`
	Annotations map[string]string `json:"annotations"`

	config bool
}

// platform is what an image index says of the machines that a manifest is for.
type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

// String is "linux/arm/v7", and empty for what runs nowhere.
func (p platform) String() string {
	if p.OS == "" || p.OS == "unknown" {
		return ""
	}
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// foreign says whether a part may live elsewhere: a layer of such a type that comes with URLs.
func (p part) foreign() bool {
	return len(p.URLs) > 0 &&
		(strings.Contains(p.MediaType, ".foreign.") || strings.Contains(p.MediaType, ".nondistributable."))
}

// referenceType is how BuildKit marks what it lists beside the platforms.
const referenceType = "vnd.docker.reference.type"

// note is what a part is for, when its kind does not say so.
func (p part) note() string { return strings.TrimSuffix(p.Annotations[referenceType], "-manifest") }

// manifestTypes are the media types of manifests that name a config and layers.
var manifestTypes = []string{
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json",
}

// kind is that of a Node. m is the row of a manifest of the repository, which knows better.
func (p part) kind(m *index.Row) string {
	mediaType := p.MediaType
	if m != nil {
		mediaType = m.MediaType
	}
	switch {
	case slices.Contains(indexTypes, mediaType):
		return kindIndex
	case m != nil, slices.Contains(manifestTypes, mediaType):
		return kindManifest
	case p.config:
		return kindConfig
	}
	return kindLayer
}

// partsOf returns what a manifest names: its config, then the rest in the order of the manifest. What
// the index has from elsewhere comes last, and all of it in the order of digests when the file cannot be
// read.
func (b *builder) partsOf(d digest.Digest) ([]part, error) {
	if parts, known := b.parts[d]; known {
		return parts, nil
	}
	named, err := b.References(b.repo, d)
	if err != nil {
		return nil, err
	}
	row, err := b.Row(layout.ManifestKey(b.repo, d))
	if err != nil {
		return nil, err
	}
	slices.Sort(named)
	if row != nil && row.Config != "" {
		named = slices.Insert(named, 0, row.Config)
	}
	parts := b.written(d)
	for _, n := range named {
		parts = append(parts, part{Digest: n, config: row != nil && n == row.Config})
	}
	seen := map[digest.Digest]bool{}
	parts = slices.DeleteFunc(parts, func(p part) bool {
		again := seen[p.Digest] || p.Digest.Validate() != nil
		seen[p.Digest] = true
		return again
	})
	b.parts[d] = parts
	return parts, nil
}

// written returns the parts as the file of a manifest has them; none if it does not say. That is no error: the index
// still knows which parts there are, and a check is what finds damaged files.
func (b *builder) written(d digest.Digest) (parts []part) {
	if b.dir == "" {
		return nil
	}
	data, err := b.dir.ReadManifest(d)
	if err != nil {
		return nil
	}
	var m struct {
		Config    part   `json:"config"`
		Layers    []part `json:"layers"`
		Blobs     []part `json:"blobs"`
		Manifests []part `json:"manifests"`
		FSLayers  []struct {
			BlobSum digest.Digest `json:"blobSum"`
		} `json:"fsLayers"`
	}
	if json.Unmarshal(data, &m) != nil {
		return nil
	}
	m.Config.config = true
	parts = append(parts, m.Config)
	for _, l := range slices.Backward(m.FSLayers) { // schema 1 begins at the top
		parts = append(parts, part{Digest: l.BlobSum})
	}
	return slices.Concat(parts, m.Layers, m.Blobs, m.Manifests)
}
