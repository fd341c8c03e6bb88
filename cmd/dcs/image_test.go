package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// platforms pushes an index of two images that share their layers with an image under another tag.
func (s *server) platforms(ref, base string) v1.ImageIndex {
	s.t.Helper()
	shared := s.push(base)
	layer, err := random.Layer(2048, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		s.t.Fatal(err)
	}
	more, err := mutate.AppendLayers(shared, layer)
	if err != nil {
		s.t.Fatal(err)
	}
	idx := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: shared, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux",
			Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: more, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux",
			Architecture: "arm64"}}})
	if err := remote.WriteIndex(s.ref(ref), idx); err != nil {
		s.t.Fatalf("push %s: %v", ref, err)
	}
	return idx
}

// imageTree is the JSON of dcs inspect NAME, as a script would read it.
type imageTree struct {
	Repository, Tag, Digest, Kind string
	Size                          int64
	UniqueBytes                   int64 `json:"unique_bytes"`
	Children                      []struct {
		Digest, Kind, Platform string
		Shared, Missing        bool
		SharedWith             []string `json:"shared_with"`
		Children               []struct{ Digest, Kind string }
	}
}

func TestInspectAnImage(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	idx := s.platforms("team/app:1.0", "team/app:base")
	dgst, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	look := func(args ...string) (int, string, string) {
		t.Helper()
		return dcs(t, append([]string{"inspect", "--storage.directory", s.dir}, args...)...)
	}
	check := func(when string) {
		t.Helper()
		for _, name := range []string{"team/app:1.0", "team/app@" + dgst.String(), "team/app@" + dgst.String()[:19],
			"team/app:no-such@" + dgst.String()} {
			code, out, stderr := look(name, "--format", "json")
			var tree imageTree
			if err := json.Unmarshal([]byte(out), &tree); code != 0 || err != nil {
				t.Fatalf("%s, %s: exit %d, %v\n%s", when, name, code, err, stderr)
			}
			if tree.Repository != "team/app" || tree.Tag != "1.0" || tree.Digest != dgst.String() ||
				tree.Kind != "index" || len(tree.Children) != 2 {
				t.Fatalf("%s, %s: %s", when, name, out)
			}
			amd, arm := tree.Children[0], tree.Children[1]
			if amd.Platform != "linux/amd64" || !amd.Shared || fmt.Sprint(amd.SharedWith) != "[team/app:base]" ||
				len(amd.Children) != 3 || amd.Missing {
				t.Errorf("%s: %+v", when, amd)
			}
			if arm.Platform != "linux/arm64" || arm.Shared || len(arm.Children) != 4 ||
				arm.Children[0].Kind != "config" || arm.Children[3].Kind != "layer" {
				t.Errorf("%s: %+v", when, arm)
			}
			if tree.UniqueBytes <= 2048 || tree.Size <= tree.UniqueBytes+2*4096 {
				t.Errorf("%s: %d bytes, %d its own", when, tree.Size, tree.UniqueBytes)
			}
		}
	}
	check("beside the server")
	manifest, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	layer := imageLayers(t, idx, manifest.Manifests[1].Digest)[0]
	for _, tt := range []struct {
		args []string
		code int
		says string
		hint string
	}{
		{[]string{"team/app"}, 1, "repository team/app has no tag latest", "it has "},
		{[]string{"team/ap:1.0"}, 1, "repository team/ap is unknown", "did you mean team/app?"},
		{[]string{s.host + "/team/app:1.0"}, 1, "is unknown",
			"repository names carry no host: dcs inspect team/app:1.0"},
		{[]string{"team/app@" + layer}, 1, "is a layer or a config, not an image", "team/app:"},
		{[]string{"team/app@sha256:0000000"}, 1, "has no manifest sha256:0000000",
			"dcs inspect --images --repository team/app"},
		{[]string{"Team/App"}, 2, "is no name of a repository", "lower case"},
		{[]string{"team/app@1a2b"}, 2, "is no digest", "NAME@sha256:"},
		{[]string{"team/app:1.0", "other"}, 2, `unexpected argument "other"`, "one image at a time"},
		{[]string{"team/app:1.0", "--tags"}, 2, "--tags cannot be combined with an image", "leave it out"},
		{[]string{"team/app:1.0", "--limit", "3"}, 2, "--limit cannot be combined with an image", "leave it out"},
		{[]string{"team/app:1.0", "--format", "csv"}, 2, "csv cannot be combined with an image", "--format json"},
		{[]string{"team/app:1.0", "--format", "xml"}, 2, `--format "xml" is not known`, "table"},
	} {
		code, out, stderr := look(tt.args...)
		told, hint, _ := strings.Cut(stderr, "dcs: hint: ")
		if code != tt.code || out != "" || !strings.HasPrefix(told, "dcs: error: ") ||
			!strings.Contains(told, tt.says) || !strings.Contains(hint, tt.hint) {
			t.Errorf("%v: exit %d, printed %q\n%s", tt.args, code, out, stderr)
		}
	}
	s.stop(syscall.SIGTERM)
	check("after the server")
	if err := os.RemoveAll(filepath.Join(s.dir, ".metadata")); err != nil {
		t.Fatal(err)
	}
	check("without an index")
	code, out, stderr := look("team/app:1.0")
	if code != 0 || !strings.HasPrefix(out, "image        team/app:1.0\n") ||
		!strings.Contains(out, "manifest linux/arm64") || strings.Contains(out, "\x1b") {
		t.Errorf("exit %d\n%s%s", code, out, stderr)
	}
}

func imageLayers(t *testing.T, idx v1.ImageIndex, dgst v1.Hash) (layers []string) {
	t.Helper()
	img, err := idx.Image(dgst)
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Layers {
		layers = append(layers, l.Digest.String())
	}
	return layers
}

// Looking at an image is not use, and changes nothing.
func TestInspectAnImageChangesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	s.push("app:latest")
	s.stop(syscall.SIGTERM)
	before := snapshot(t, s.dir)
	for _, args := range [][]string{{"app"}, {"app", "--format", "json"}, {"nothing"}} {
		dcs(t, append([]string{"inspect", "--storage.directory", s.dir}, args...)...)
	}
	if after := snapshot(t, s.dir); after != before {
		t.Errorf("the directory changed from\n%s\nto\n%s", before, after)
	}
}
