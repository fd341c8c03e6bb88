package inspecttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Shop is a World with a data directory.
type Shop struct {
	*World
	Dir tree.Dir
}

// NewShop makes an empty Shop.
func NewShop(t *testing.T) Shop {
	return Shop{New(t), tree.Dir(t.TempDir())}
}

// Write writes a file.
func (s Shop) Write(k layout.Key, data string) {
	s.T.Helper()
	file := s.Dir.File(k.Path())
	s.Must(errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(data), 0o644)))
}

// Layer uploads a blob of a size, of which the file has the name.
func (s Shop) Layer(repo, name string, size int64) {
	s.T.Helper()
	s.Blob(repo, name, size)
	s.Write(layout.BlobKey(Dgst(name)), name)
	s.Write(layout.LayerKey(repo, Dgst(name)), Dgst(name).String())
}

// Push puts a manifest under a tag, or under none.
func (s Shop) Push(repo, tag, text string) digest.Digest {
	s.T.Helper()
	d := digest.FromString(text)
	c, err := manifest.Parse([]byte(text))
	s.Must(err)
	s.Put(index.Claim{Key: layout.BlobKey(d), Size: int64(len(text))})
	s.Put(index.Claim{Key: layout.ManifestKey(repo, d), Size: int64(len(text)), Manifest: c})
	s.Write(layout.BlobKey(d), text)
	s.Write(layout.ManifestKey(repo, d), d.String())
	if tag != "" {
		s.Must(indextest.MoveTag(context.Background(), s, repo, tag, d, Nop))
		s.Write(layout.TagKey(repo, tag), d.String())
	}
	return d
}

// OCILayer is the media type of layers.
const OCILayer = "application/vnd.oci.image.layer.v1.tar+gzip"

// Descriptor is one of 7 bytes.
func Descriptor(mediaType string, d digest.Digest, more string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7%s}`, mediaType, d, more)
}

// ManifestOf is a manifest of a config and layers, in this order.
func ManifestOf(more, config string, layers ...string) string {
	var all []string
	for _, l := range layers {
		all = append(all, Descriptor(OCILayer, Dgst(l), ""))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]%s}`, OCIManifest,
		Descriptor("application/vnd.oci.image.config.v1+json", Dgst(config), ""), strings.Join(all, ","), more)
}

// IndexOf is an index of descriptors.
func IndexOf(children ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, OCIIndex, strings.Join(children, ","))
}

// Fill sells an image of two platforms with what BuildKit and cosign hang on it.
//
//	day 0  lib/core:3 with layer base
//	day 1  team/app:1.0 with layers base and old
//	day 2  team/app:1.1, also 1.1.0: linux/amd64 of base, app-amd and gone (which is lost), linux/arm of
//	       base-arm and one that lives elsewhere, an attestation; signed on day 3
func (s Shop) Fill() (top digest.Digest) {
	s.Layer("lib/core", "base", 30<<20)
	s.Layer("lib/core", "core-config", 900)
	s.Push("lib/core", "3", ManifestOf("", "core-config", "base"))
	s.At(Day)
	s.Layer("team/app", "base", 30<<20)
	s.Layer("team/app", "old", 1<<20)
	s.Layer("team/app", "old-config", 900)
	s.Push("team/app", "1.0", ManifestOf("", "old-config", "base", "old"))
	s.At(2 * Day)
	for name, size := range map[string]int64{"app-amd": 20 << 20, "gone": 5, "base-arm": 28 << 20, "amd-config": 1536,
		"arm-config": 1540, "provenance": 8000, "no-config": 2} {
		s.Layer("team/app", name, size)
	}
	amd := s.Push("team/app", "", ManifestOf("", "amd-config", "base", "app-amd", "gone"))
	arm := s.Push("team/app", "", strings.Replace(ManifestOf("", "arm-config", "base-arm", "windows"),
		Descriptor(OCILayer, Dgst("windows"), ""),
		Descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Dgst("windows"),
			`,"urls":["https://example.com/windows"]`), 1))
	attested := s.Push("team/app", "", ManifestOf("", "no-config", "provenance"))
	top = s.Push("team/app", "1.1", IndexOf(
		Descriptor(OCIManifest, amd, `,"platform":{"os":"linux","architecture":"amd64"}`),
		Descriptor(OCIManifest, arm, `,"platform":{"os":"linux","architecture":"arm","variant":"v7"}`),
		Descriptor(OCIManifest, attested, `,"platform":{"os":"unknown","architecture":"unknown"},`+
			`"annotations":{"vnd.docker.reference.type":"attestation-manifest"}`)))
	s.Must(indextest.MoveTag(context.Background(), s, "team/app", "1.1.0", top, Nop))
	s.Write(layout.TagKey("team/app", "1.1.0"), top.String())
	s.Must(os.Remove(s.Dir.File(layout.BlobKey(Dgst("gone")).Path())))
	s.At(3 * Day)
	s.Layer("team/app", "sig", 200)
	s.Push("team/app", "", ManifestOf(`,"artifactType":"application/vnd.dev.cosign.artifact.sig.v1+json",`+
		`"subject":`+Descriptor(OCIIndex, top, ""), "no-config", "sig"))
	s.At(20 * Day)
	return top
}
