// Package adopt reads what the tree on disk says about a thing, as the index wants to know it.
//
// It only reads. A look taken inside an index transaction is the truth at that moment: whoever wants to
// change the file must hold the same transaction.
package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Age says how old content is that dcs did not know.
type Age func(modified time.Time) (lastUse time.Time)

// Now counts content as used when it is found.
func Now(time.Time) time.Time { return time.Time{} }

// Unreadable is the media type of a manifest that cannot be parsed. It is kept, and holds nothing.
const Unreadable = "application/vnd.dcs.unreadable"

// Path is where the thing of a key is in the tree.
func Path(k index.Key) layout.Path {
	switch k.Kind {
	case index.Blob:
		return layout.Path{Kind: layout.BlobData, Digest: k.Digest}
	case index.Layer:
		return layout.Path{Kind: layout.LayerLink, Repository: k.Repository, Digest: k.Digest}
	case index.Manifest:
		return layout.Path{Kind: layout.RevisionLink, Repository: k.Repository, Digest: k.Digest}
	}
	return layout.Path{Kind: layout.TagLink, Repository: k.Repository, Tag: k.Tag}
}

// Look reads the thing of a key.
func Look(dir layout.Dir, k index.Key, age Age) index.Look {
	return func() (index.Adoption, bool, error) {
		a := index.Adoption{Claim: index.Claim{Key: k}}
		fi, err := os.Stat(dir.File(Path(k)))
		if Missing(err) || (err == nil && !fi.Mode().IsRegular()) {
			return a, false, nil
		}
		if err != nil {
			return a, false, err
		}
		a.At = age(fi.ModTime())
		switch k.Kind {
		case index.Blob:
			a.Size = fi.Size()
		case index.Tag:
			a.Digest, err = Link(dir, Path(k))
			if Failed(err) {
				return a, false, err
			}
			if err != nil {
				return a, false, nil // a tag to nowhere is no tag
			}
		case index.Manifest:
			return lookManifest(dir, a)
		}
		return a, true, nil
	}
}

// lookManifest reads the manifest that a revision link makes part of its repository.
func lookManifest(dir layout.Dir, a index.Adoption) (index.Adoption, bool, error) {
	data, err := Content(dir, a.Key.Digest)
	if Missing(err) {
		return a, false, nil
	}
	if err != nil {
		return a, false, err
	}
	a.Size = int64(len(data))
	a.Claim.Content, err = index.ParseContent(data)
	if err != nil {
		a.Claim.Content = &index.Content{MediaType: Unreadable}
	}
	return a, true, nil
}

// Content reads a manifest's bytes, of which there are never many.
func Content(dir layout.Dir, d digest.Digest) ([]byte, error) {
	path := dir.File(layout.Path{Kind: layout.BlobData, Digest: d})
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Size() > index.MaxManifest {
		return make([]byte, index.MaxManifest+1), nil // not a manifest, and not worth reading
	}
	return os.ReadFile(path)
}

// Link reads the digest that a link file holds.
func Link(dir layout.Dir, p layout.Path) (digest.Digest, error) {
	f, err := Open(dir.File(p))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var data [256]byte // longer than any digest
	n, err := f.Read(data[:])
	if err != nil {
		return "", err
	}
	d, err := layout.ParseDigest(strings.TrimSpace(string(data[:n])))
	if err != nil {
		return "", fmt.Errorf("link %s: %w", p, err)
	}
	return d, nil
}

// Exists says whether there is a file of the tree at p.
func Exists(dir layout.Dir, p layout.Path) (bool, error) {
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
