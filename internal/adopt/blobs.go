package adopt

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Disk reads blobs, and remembers which of them were read to their end.
//
// A power loss may leave a file of a stock registry empty or short. So the size of a file is compared with the size in
// its row, or in a descriptor. Where they differ the digest decides, since a descriptor may be wrong, too: the file is
// read, once as long as it stays the same. Methods may be called concurrently.
type Disk struct {
	dir  tree.Dir
	read *lru.Cache[digest.Digest, blobVerdict]
}

// blobVerdict is what a blob was found to be when it was read.
type blobVerdict struct {
	file  disk.Version
	right bool
}

// maxVerdicts is how many are remembered. Few files have another size than their row or descriptor.
const maxVerdicts = 1024

// On makes a Disk. It reads nothing yet.
func On(dir tree.Dir) *Disk {
	read, _ := lru.New[digest.Digest, blobVerdict](maxVerdicts) // fails for sizes below 1 only
	return &Disk{dir, read}
}

// Blob says whether a blob exists with all its bytes, and how many these are. said is how many they should be; 0 or
// less if that is not known.
func (d *Disk) Blob(ctx context.Context, dgst digest.Digest, said int64) (size int64, whole bool, err error) {
	fi, err := d.dir.Stat(layout.BlobKey(dgst))
	if tree.Missing(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	whole, err = d.Whole(ctx, dgst, fi.Size(), said)
	return fi.Size(), whole, err
}

// Whole says whether a blob whose file has size bytes is complete.
func (d *Disk) Whole(ctx context.Context, dgst digest.Digest, size, said int64) (bool, error) {
	switch {
	case size == 0:
		return IsEmpty(dgst), nil
	case said <= 0 || size == said:
		return true, nil
	}
	v, err := d.verify(ctx, dgst)
	if tree.Missing(err) {
		return false, nil
	}
	return v.right, err
}

// verify reads a blob, unless this version of its file was read before.
func (d *Disk) verify(ctx context.Context, dgst digest.Digest) (blobVerdict, error) {
	now, err := d.dir.Version(layout.BlobKey(dgst))
	if err != nil {
		return blobVerdict{}, err
	}
	if v, ok := d.read.Get(dgst); ok && v.file == now {
		return v, nil
	}
	right, file, err := d.dir.Verify(ctx, dgst, func(int) {})
	if err != nil {
		return blobVerdict{}, err
	}
	v := blobVerdict{file, right}
	d.read.Add(dgst, v)
	return v, nil
}

// LookAtBlob is Look for a blob that should have a number of bytes, as a row or a descriptor says. It reads the blob
// now if it has to be read, so that no request waits for that under the write lock.
func (d *Disk) LookAtBlob(ctx context.Context, dgst digest.Digest, said int64, age Age) (index.Look, error) {
	look := Look(d.dir, layout.BlobKey(dgst), age)
	size, _, err := d.Blob(ctx, dgst, said)
	if err != nil || size == 0 || said <= 0 || size == said {
		return look, err
	}
	v, err := d.verify(ctx, dgst)
	if tree.Missing(err) {
		return look, nil
	}
	if err != nil {
		return nil, err
	}
	return func() (index.Adoption, bool, error) {
		a, there, err := look()
		if err != nil || !there {
			return a, there, err
		}
		now, err := d.dir.Version(a.Key)
		switch {
		case err != nil || now != v.file:
			return a, there, nil // a push mends it, and writes that into its row
		case v.right:
			a.Bytes = index.Right
		default:
			a.Bytes, a.Size = index.Damaged, said
		}
		return a, true, nil
	}, nil
}

// LookAtManifest is Look for a manifest, with one more for each blob that has not the size in the manifest. It reads
// now what has to be read.
func (d *Disk) LookAtManifest(ctx context.Context, k layout.Key, age Age) (looks []index.Look, err error) {
	a, there, err := lookManifest(d.dir, index.Adoption{Claim: index.Claim{Key: k}})
	if err != nil {
		return nil, err
	}
	if !there {
		return []index.Look{Look(d.dir, k, age)}, nil
	}
	looks = append(looks, func() (index.Adoption, bool, error) {
		found := a
		link, err := d.dir.Stat(k)
		if err == nil {
			found.At = age(link.ModTime())
			_, err = d.dir.Stat(layout.BlobKey(k.Digest))
		}
		if absent(err) {
			return found, false, nil
		}
		return found, err == nil, err
	})
	for _, p := range a.Manifest.Parts {
		fi, err := d.dir.Stat(layout.BlobKey(p.Digest))
		if err != nil || p.Fits(fi.Size()) {
			continue // a blob that is missing or cannot be read is found by a walk
		}
		look, err := d.LookAtBlob(ctx, p.Digest, p.Size, Now)
		if err != nil {
			return nil, err
		}
		looks = append(looks, look)
	}
	return looks, nil
}
