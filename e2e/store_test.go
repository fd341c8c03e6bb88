//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// What a server holds, seen from both sides: over HTTP by go-containerregistry, and as files.

func reference(t *testing.T, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newImage makes an image of two random layers of that many bytes each.
func newImage(t *testing.T, layerSize int64) v1.Image {
	t.Helper()
	img, err := random.Image(layerSize, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// newIndex makes a multi-arch image; its children have no tags of their own.
func newIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        newImage(t, 1<<10),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return index
}

func pushImage(t *testing.T, ref string, img v1.Image, opts ...remote.Option) v1.Hash {
	t.Helper()
	if err := remote.Write(reference(t, ref), img, opts...); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	dgst, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return dgst
}

func pushIndex(t *testing.T, ref string, index v1.ImageIndex, opts ...remote.Option) v1.Hash {
	t.Helper()
	if err := remote.WriteIndex(reference(t, ref), index, opts...); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	dgst, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return dgst
}

// pull reads an image, or all images of an index, to the last byte and holds every byte against its digest.
func pull(ref name.Reference, want v1.Hash, opts ...remote.Option) error {
	desc, err := remote.Get(ref, opts...)
	if err != nil {
		return err
	}
	if desc.Digest != want {
		return fmt.Errorf("%s is %s, want %s", ref, desc.Digest, want)
	}
	if !desc.MediaType.IsIndex() {
		img, err := desc.Image()
		if err != nil {
			return err
		}
		return readImage(img)
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, child := range manifest.Manifests {
		img, err := index.Image(child.Digest)
		if err != nil {
			return err
		}
		if err := readImage(img); err != nil {
			return fmt.Errorf("%s of %s: %w", child.Digest, ref, err)
		}
	}
	return nil
}

func readImage(img v1.Image) error {
	if _, err := img.RawConfigFile(); err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		r, err := layer.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r) // the reader of a remote layer verifies size and digest
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func mustPull(t *testing.T, ref string, want v1.Hash, opts ...remote.Option) {
	t.Helper()
	if err := pull(reference(t, ref), want, opts...); err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
}

// blob is a file under blobs/ and its size.
type blob struct {
	file string
	size int64
}

// blobsOf returns the blob files of an image in a data directory: manifest, configuration, layers. All must be there.
func blobsOf(t *testing.T, dir string, img v1.Image) []blob {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	dgst, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	digests := []v1.Hash{dgst, manifest.Config.Digest}
	for _, layer := range manifest.Layers {
		digests = append(digests, layer.Digest)
	}
	var blobs []blob
	for _, d := range digests {
		file := filepath.Join(dir, "docker/registry/v2/blobs", d.Algorithm, d.Hex[:2], d.Hex, "data")
		info, err := os.Stat(file)
		if err != nil {
			t.Fatalf("just pushed, but not on disk: %v", err)
		}
		blobs = append(blobs, blob{file, info.Size()})
	}
	return blobs
}

func bytesOf(blobs []blob) (sum int64) {
	for _, b := range blobs {
		sum += b.size
	}
	return sum
}

// stillThere is nil once none of the files exists.
func stillThere(blobs []blob) error {
	for _, b := range blobs {
		if _, err := os.Stat(b.file); err == nil {
			return fmt.Errorf("%s is still there", b.file)
		}
	}
	return nil
}

// leftovers is nil once nothing of the repository is on disk, nor trash, nor a directory that holds nothing.
// Only a repository that lives may have its _uploads empty: any push leaves it so.
func leftovers(dir, repository string) error {
	root := filepath.Join(dir, "docker/registry/v2")
	if _, err := os.Stat(filepath.Join(root, "repositories", repository)); err == nil {
		return fmt.Errorf("repository %s still has a directory", repository)
	}
	if trash, err := os.ReadDir(filepath.Join(dir, ".metadata/trash")); err == nil && len(trash) > 0 {
		return fmt.Errorf("%d files in the trash", len(trash))
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || entry.Name() == "_uploads" {
			return err
		}
		if entries, err := os.ReadDir(path); err == nil && len(entries) == 0 {
			return fmt.Errorf("%s is empty", path)
		}
		return nil
	})
}

// indexSlack is what the write-ahead log of the index may grow by between two looks at the disk: SQLite
// folds it back into the database at 1,000 pages of 4 KiB.
const indexSlack = 1000 * 4096

// du is the disk space of all that is below dir, like du(1). Files may come and go meanwhile.
func du(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info, err := entry.Info(); err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// unlinked is how soon after a blob left its place a server has unlinked it: that is done at the end of
// a run, outside of any lock.
const unlinked = 5 * time.Second

// wantFreed fails unless at least freed bytes of disk space came back since before, or come back in time.
func wantFreed(t *testing.T, dir string, before, freed int64, within time.Duration) {
	t.Helper()
	eventually(t, within, "free disk space", func() error {
		if after := du(t, dir); after > before-freed+indexSlack {
			return fmt.Errorf("du of the data directory: %d before, %d after, although %d bytes were to go", before,
				after, freed)
		}
		return nil
	})
}

// isStatus tells whether a registry answered with this status.
func isStatus(err error, status int) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == status
}
