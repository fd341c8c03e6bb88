// Package tree reads what the tree on disk says about a thing, as the index wants to know it.
//
// It only reads. A look taken inside an index transaction is the truth at that moment: whoever wants to
// change the file must hold the same transaction.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// Age says how old content is that dcs did not know.
type Age func(modified time.Time) (lastUse time.Time)

// Now counts content as used when it is found.
func Now(time.Time) time.Time { return time.Time{} }

// Unreadable is the media type of a manifest that cannot be parsed. It is kept, and holds nothing.
const Unreadable = "application/vnd.dcs.unreadable"

// Look reads the thing of a key.
func Look(dir Dir, k layout.Key, age Age) index.Look {
	return func() (index.Adoption, bool, error) {
		a := index.Adoption{Claim: index.Claim{Key: k}}
		fi, err := os.Stat(dir.File(k.Path()))
		if Missing(err) || (err == nil && !fi.Mode().IsRegular()) {
			return a, false, nil
		}
		if err != nil {
			return a, false, err
		}
		a.At = age(fi.ModTime())
		switch k.Kind {
		case layout.Blob:
			a.Size = fi.Size()
			return a, a.Size > 0 || IsEmpty(k.Digest), nil
		case layout.Tag:
			a.Digest, err = Link(dir, k.Path())
			switch {
			case Failed(err):
				return a, false, err
			case Missing(err):
				return a, false, nil
			} // else it says no digest: nobody can pull it, and it expires as if that were not there
		case layout.Manifest:
			return lookManifest(dir, a)
		}
		return a, true, nil
	}
}

// lookManifest reads the manifest that a revision link makes part of its repository.
func lookManifest(dir Dir, a index.Adoption) (index.Adoption, bool, error) {
	data, err := Content(dir, a.Key.Digest)
	if Missing(err) || errors.Is(err, disk.ErrNotRegular) {
		return a, false, nil
	}
	if err != nil {
		return a, false, err
	}
	a.Size = int64(len(data))
	a.Claim.Content, err = manifest.Parse(data)
	if err != nil {
		a.Claim.Content = &manifest.Manifest{MediaType: Unreadable}
	}
	return a, true, nil
}

// IsEmpty says whether a digest is that of nothing.
func IsEmpty(d digest.Digest) bool { return d == d.Algorithm().FromBytes(nil) }

// Content reads a manifest's bytes, of which there are never many.
func Content(dir Dir, d digest.Digest) ([]byte, error) {
	f, err := disk.Open(dir.File(layout.Path{Kind: layout.BlobData, Digest: d}))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() > manifest.MaxManifest {
		return make([]byte, manifest.MaxManifest+1), nil // not a manifest, and not worth reading
	}
	data := make([]byte, f.Size())
	n, err := f.Read(data)
	return data[:n], ended(err)
}

// Link reads the digest that a link file holds.
func Link(dir Dir, p layout.Path) (digest.Digest, error) {
	f, err := disk.Open(dir.File(p))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var data [256]byte // longer than any digest
	n, err := f.Read(data[:])
	if ended(err) != nil {
		return "", err
	}
	d, err := layout.ParseDigest(strings.TrimSpace(string(data[:n])))
	if err != nil {
		return "", fmt.Errorf("link %s: %w", p, err)
	}
	return d, nil
}

// ended is what is left of an error when the end of a file is none.
func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// Exists says whether there is a file of the tree at p.
func Exists(dir Dir, p layout.Path) (bool, error) {
	_, err := os.Stat(dir.File(p))
	if Missing(err) {
		return false, nil
	}
	return err == nil, err
}

// Missing says that a path is not there. A file where a directory should be counts too, and so does a
// name that no file system takes.
func Missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

// Failed says that a file may be there, whole or damaged, and could not be looked at: no descriptor was
// free, the disk failed, access was denied.
func Failed(err error) bool { return errors.As(err, new(*fs.PathError)) && !Missing(err) }
