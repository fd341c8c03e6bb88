package indextest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// What the processes of a race push. Names of layers and of manifests; what a manifest names.
var (
	raceRepos  = []string{"a", "b"}
	raceLayers = []string{"l0", "l1", "l2", "l3", "alone", "last"}
	raceImages = map[string][]string{"m0": {"l0", "l1"}, "m1": {"l1", "l2"}, "m2": {"l3", "l0"}, "i0": {"m0", "l2"}, "s0": {"l3"}, "short": {"last"}}
	raceTags   = []string{"v1", "v2"}
)

func raceContent(name string) *index.Content {
	if name == "s0" {
		return content("m0", raceImages[name]...)
	}
	return content("", raceImages[name]...)
}

// disk is the files of a race: one for each row that is placed. That of a tag says what it points to.
type disk struct{ root string }

func (d disk) path(k index.Key) string {
	name := k.Tag
	if k.Kind != index.Tag {
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
	return os.MkdirAll(filepath.Join(d.root, index.Blob.String()), 0o755)
}

func (d disk) has(k index.Key) bool {
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
func (d disk) target(k index.Key) (digest.Digest, bool) {
	text, err := os.ReadFile(d.path(k))
	return digest.Digest(text), err == nil && len(text) > 0
}

// needs are the files without which that of k is broken: directly.
func (d disk) needs(k index.Key) []index.Key {
	switch k.Kind {
	case index.Layer:
		return []index.Key{index.BlobKey(k.Digest)}
	case index.Tag:
		if to, ok := d.target(k); ok {
			return []index.Key{index.ManifestKey(k.Repository, to)}
		}
	case index.Manifest:
		all := []index.Key{index.BlobKey(k.Digest)}
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
func (d disk) all(k index.Key) []index.Key {
	ks := []index.Key{k}
	for _, n := range d.needs(k) {
		ks = append(ks, d.all(n)...)
	}
	return ks
}

// named is the row that a manifest of a repository means by a name.
func named(repo, name string) index.Key {
	if _, ok := raceImages[name]; ok {
		return man(repo, name)
	}
	return link(repo, name)
}

// keys are all that can be there.
func (d disk) keys() (all []index.Key) {
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
func (d disk) remove(r index.Row) error {
	err := os.Remove(d.path(r.Key))
	if !r.Placed && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
