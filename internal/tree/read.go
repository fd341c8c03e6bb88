package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// Has says whether the file of a key exists. The file of a tag is its link.
func (d Dir) Has(k layout.Key) (bool, error) { return d.exists(d.File(k.Path())) }

func (d Dir) exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if Missing(err) {
		return false, nil
	}
	return err == nil, err
}

// HasRepository says whether a repository has a directory for manifests or for layers.
func (d Dir) HasRepository(repo string) (bool, error) {
	there, err := d.exists(d.Native(layout.ManifestsDir(repo)))
	if there || err != nil {
		return there, err
	}
	return d.exists(d.Native(layout.LinksDir(layout.Layer, repo)))
}

// Stat describes the file of a key. What is no regular file is disk.ErrNotRegular.
func (d Dir) Stat(k layout.Key) (fs.FileInfo, error) {
	path := d.File(k.Path())
	fi, err := os.Stat(path)
	if err == nil && !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: disk.ErrNotRegular}
	}
	return fi, err
}

// Version tells the file of a key from what it was before, and from another file in its place.
func (d Dir) Version(k layout.Key) (disk.Version, error) { return disk.VersionOf(d.File(k.Path())) }

// Leads says whether the file of a key is a symbolic link.
func (d Dir) Leads(k layout.Key) bool {
	fi, err := os.Lstat(d.File(k.Path()))
	return err == nil && fi.Mode()&fs.ModeSymlink != 0
}

// Open opens the file of a key.
func (d Dir) Open(k layout.Key) (*disk.File, error) { return disk.Open(d.File(k.Path())) }

// Link reads the digest that the file of a layer, a manifest or a tag holds.
func (d Dir) Link(k layout.Key) (digest.Digest, error) {
	f, err := d.Open(k)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var data [256]byte // longer than any digest
	n, err := f.Read(data[:])
	if err != nil && err != io.EOF {
		return "", err
	}
	to, err := layout.ParseDigest(strings.TrimSpace(string(data[:n])))
	if err != nil {
		return "", fmt.Errorf("link %s: %w", k.Path(), err)
	}
	return to, nil
}

// ReadManifest reads the bytes of a manifest. Of a file that is longer than any manifest it returns as many zeros as
// make it too long for one.
func (d Dir) ReadManifest(of digest.Digest) ([]byte, error) {
	f, err := d.Open(layout.BlobKey(of))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() > manifest.MaxManifest {
		return make([]byte, manifest.MaxManifest+1), nil
	}
	data := make([]byte, f.Size())
	n, err := f.Read(data)
	if err == io.EOF {
		err = nil // it was cut short since it was opened
	}
	return data[:n], err
}

// Verify reads a blob to its end. right says whether its bytes have its digest, and file is the version that was read.
// read is called with the number of bytes of each piece.
func (d Dir) Verify(ctx context.Context, of digest.Digest, read func(n int)) (right bool, file disk.Version,
	err error) {
	f, err := d.Open(layout.BlobKey(of))
	if err != nil {
		return false, disk.Version{}, err
	}
	defer f.Close()
	v := of.Verifier()
	_, err = io.CopyBuffer(v, reading{ctx, f, read}, make([]byte, 1<<20))
	return v.Verified(), f.Version(), err
}

// reading reports how far a reader is, and ends it when ctx ends.
type reading struct {
	ctx  context.Context
	from io.Reader
	tell func(n int)
}

func (r reading) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.from.Read(p)
	r.tell(n)
	return n, err
}

// Missing says that a file does not exist. A path below a file, or one with a name that is too long for the file
// system, does not exist either.
func Missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

// Failed says that a file may exist, whole or damaged, and could not be looked at: no descriptor was free, the disk
// failed, access was denied.
func Failed(err error) bool { return errors.As(err, new(*fs.PathError)) && !Missing(err) }
