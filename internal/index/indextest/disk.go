package indextest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// What the processes of a race push. Names of layers and of manifests; what a manifest names.
var (
	raceRepos  = []string{"a", "b"}
	raceLayers = []string{"l0", "l1", "l2", "l3", "alone", "last"}
	raceImages = map[string][]string{"m0": {"l0", "l1"}, "m1": {"l1", "l2"}, "m2": {"l3", "l0"},
		"i0": {"m0", "l2"}, "s0": {"l3"}, "short": {"last"},
	}
	raceTags = []string{"v1", "v2"}
)

func raceContent(name string) *manifest.Manifest {
	if name == "s0" {
		return content("m0", raceImages[name]...)
	}
	return content("", raceImages[name]...)
}

// disk is the files of a race: one for each row that is placed. That of a tag says what it points to.
type disk struct{ root string }

func (d disk) path(k layout.Key) string {
	name := k.Tag
	if k.Kind != layout.Tag {
		name = k.Digest.Encoded()
	}
	return filepath.Join(d.root, k.Kind.String(), k.Repository, name)
}

func (d disk) make() error {
	for _, repo := range raceRepos {
		for _, kind := range kinds[1:] {
			if err := os.MkdirAll(filepath.Join(d.root, kind.String(), repo), 0o755); err != nil {
				return err
			}
		}
	}
	return os.MkdirAll(filepath.Join(d.root, layout.Blob.String()), 0o755)
}

func (d disk) has(k layout.Key) bool {
	_, err := os.Lstat(d.path(k))
	return err == nil
}

// prepare writes a file beside its place.
func (d disk) prepare(text string) (string, error) {
	f, err := os.CreateTemp(d.root, "new-")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	return f.Name(), errors.Join(err, f.Close())
}

// target is what a tag points to on disk.
func (d disk) target(k layout.Key) (digest.Digest, bool) {
	text, err := os.ReadFile(d.path(k))
	return digest.Digest(text), err == nil && len(text) > 0
}

// needs are the files without which that of k is broken: directly.
func (d disk) needs(k layout.Key) []layout.Key {
	switch k.Kind {
	case layout.Layer:
		return []layout.Key{layout.BlobKey(k.Digest)}
	case layout.Tag:
		if to, ok := d.target(k); ok {
			return []layout.Key{layout.ManifestKey(k.Repository, to)}
		}
	case layout.Manifest:
		all := []layout.Key{layout.BlobKey(k.Digest)}
		for name, refs := range raceImages {
			if dg(name) != k.Digest {
				continue
			}
			for _, ref := range refs {
				all = append(all, named(k.Repository, ref))
			}
		}
		return all
	}
	return nil
}

// all is k with everything it needs, directly or not.
func (d disk) all(k layout.Key) []layout.Key {
	ks := []layout.Key{k}
	for _, n := range d.needs(k) {
		ks = append(ks, d.all(n)...)
	}
	return ks
}

// named is the row that a manifest of a repository means by a name.
func named(repo, name string) layout.Key {
	if _, ok := raceImages[name]; ok {
		return man(repo, name)
	}
	return link(repo, name)
}

// keys are all that can be there.
func (d disk) keys() (all []layout.Key) {
	for _, l := range raceLayers {
		all = append(all, blob(l))
	}
	for m := range raceImages {
		all = append(all, blob(m))
	}
	for _, repo := range raceRepos {
		for _, l := range raceLayers {
			all = append(all, link(repo, l))
		}
		for m := range raceImages {
			all = append(all, man(repo, m))
		}
		for _, t := range raceTags {
			all = append(all, tagged(repo, t))
		}
	}
	return all
}

// remove takes the file of a row away. A claim has none.
func (d disk) remove(r index.Row) (index.Removed, error) {
	err := os.Remove(d.path(r.Key))
	if !r.Placed && errors.Is(err, fs.ErrNotExist) {
		return index.Removed{}, nil
	}
	return index.Removed{File: err == nil}, err
}
