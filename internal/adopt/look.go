// Package adopt reads from the tree what a row of the index has to say: it turns files into adoptions.
//
// It only reads. What is read inside an index transaction is true for as long as that lasts, since every writer renames
// and removes files inside one. What takes long, reading a blob to its end, is done before the transaction, which then
// only asks whether that file is still the same.
package adopt

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Age gives what is adopted a last use, from the time when its file was modified. A zero time is now.
type Age func(modified time.Time) (lastUse time.Time)

// Now counts a blob, link or manifest as used when it is found.
func Now(time.Time) time.Time { return time.Time{} }

// Unreadable is the media type of a row whose manifest cannot be parsed. The row stays, and refers to nothing.
const Unreadable = "application/vnd.dcs.unreadable"

// Look reads from disk what the row of a key has to say. A link or tag is looked at alone, without its blob.
func Look(dir tree.Dir, k layout.Key, age Age) index.Look {
	return func() (index.Adoption, bool, error) {
		a := index.Adoption{Claim: index.Claim{Key: k}}
		fi, err := dir.Stat(k)
		if absent(err) {
			return a, false, nil
		}
		if err != nil {
			return a, false, err
		}
		a.At = age(fi.ModTime())
		switch k.Kind {
		case layout.Blob:
			a.Size, a.Disk = fi.Size(), dir.TakenBy(k)
			return a, a.Size > 0 || IsEmpty(k.Digest), nil
		case layout.Tag:
			a.Disk = dir.TakenByHistory(k)
			a.Digest, err = dir.Link(k)
			switch {
			case tree.Failed(err):
				return a, false, err
			case tree.Missing(err):
				return a, false, nil
			} // else the link holds no digest: the tag cannot be pulled, and expires like one that points to nothing
		case layout.Manifest:
			return lookManifest(dir, a)
		}
		return a, true, nil
	}
}

// lookManifest reads the manifest that a revision link makes part of its repository.
func lookManifest(dir tree.Dir, a index.Adoption) (index.Adoption, bool, error) {
	data, err := dir.ReadManifest(a.Key.Digest)
	if absent(err) {
		return a, false, nil
	}
	if err != nil {
		return a, false, err
	}
	a.Size = int64(len(data))
	a.Claim.Manifest, err = manifest.Parse(data)
	if err != nil {
		a.Claim.Manifest = &manifest.Manifest{MediaType: Unreadable}
	}
	return a, true, nil
}

// absent says that no file of the tree has the name, but at most a directory, a pipe or the like.
func absent(err error) bool { return tree.Missing(err) || errors.Is(err, disk.ErrNotRegular) }

// IsEmpty says whether a digest is that of no bytes.
func IsEmpty(d digest.Digest) bool { return d == d.Algorithm().FromBytes(nil) }
