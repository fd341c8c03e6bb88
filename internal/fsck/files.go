package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// files looks at the objects of a tree, whatever the index knows about them.
type files struct {
	ctx   context.Context
	dir   tree.Dir
	blobs *adopt.Disk
	// read is called with the number of bytes of each piece that is read of a blob. Nil: only blobs of another size
	// than expected are read.
	read func(n int)
}

func lookAt(ctx context.Context, dir tree.Dir) files {
	return files{ctx: ctx, dir: dir, blobs: adopt.On(dir)}
}

// onDisk is an object as it is on disk.
type onDisk struct {
	exists   bool
	size     int64         // of a blob
	target   digest.Digest // of a tag; empty: its link holds no digest
	problems []Problem
}

func (o *onDisk) add(f Flaw, k layout.Key, detail string, args ...any) {
	o.problems = append(o.problems, Problem{Flaw: f, Key: k, Detail: fmt.Sprintf(detail, args...)})
}

func (o *onDisk) misses() bool {
	return slices.ContainsFunc(o.problems, func(p Problem) bool { return p.Flaw == Missing })
}

// look reads an object. A blob has so many bytes as far as the index knows; 0: it does not know.
func (f files) look(k layout.Key, size int64) (o onDisk, err error) {
	if k.Kind == layout.Blob {
		return f.blob(k, size)
	}
	to, err := f.dir.Link(k)
	if tree.Missing(err) {
		return o, nil
	}
	o.exists = true
	switch {
	case errors.As(err, new(*fs.PathError)):
		return o, err
	case k.Kind == layout.Tag && err != nil:
		o.add(Nowhere, k, "its link holds no digest")
		return o, nil
	case k.Kind == layout.Tag:
		o.target = to
		return o, f.tag(&o, k)
	case err != nil || to != k.Digest:
		o.add(Dangling, k, "its link holds another digest than its name")
		return o, nil
	case k.Kind == layout.Layer:
		return o, f.layer(&o, k)
	}
	return o, f.manifest(&o, k)
}

func (f files) blob(k layout.Key, known int64) (o onDisk, err error) {
	fi, err := os.Stat(f.dir.File(k.Path()))
	if tree.Missing(err) {
		return onDisk{}, nil
	}
	o.exists = true
	if err != nil {
		return o, err
	}
	o.size = fi.Size()
	var right bool
	if f.read != nil {
		right, _, err = f.dir.Verify(f.ctx, k.Digest, f.read)
	} else {
		right, err = f.blobs.Whole(f.ctx, k.Digest, o.size, known)
	}
	if tree.Missing(err) {
		return onDisk{}, nil
	}
	if err == nil && !right {
		o.add(WrongDigest, k, "its content (%d bytes) does not match its digest", o.size)
	}
	return o, err
}

func (f files) layer(o *onDisk, k layout.Key) error {
	exists, err := f.dir.Has(layout.BlobKey(k.Digest))
	if err == nil && !exists {
		o.add(Dangling, k, "its blob is missing")
	}
	return err
}

func (f files) tag(o *onDisk, k layout.Key) error {
	exists, err := f.dir.Has(layout.ManifestKey(k.Repository, o.target))
	if err == nil && !exists {
		o.add(Nowhere, k, "manifest %s is not in its repository", o.target)
	}
	return err
}

func (f files) manifest(o *onDisk, k layout.Key) error {
	data, err := f.dir.ReadManifest(k.Digest)
	if tree.Missing(err) {
		o.add(Missing, k, "its own blob is missing")
		return nil
	}
	if err != nil {
		return err
	}
	m, err := manifest.Parse(data)
	if err != nil {
		o.add(Unparsable, k, "%v", err)
		return nil
	}
	if err := f.parts(o, k, m); err != nil {
		return err
	}
	return f.partial(o, k, m)
}

// parts adds what is wrong with the parts of a manifest.
func (f files) parts(o *onDisk, k layout.Key, m *manifest.Manifest) error {
	for _, p := range m.Parts {
		if p.Foreign {
			continue
		}
		if err := f.part(o, k, p); err != nil {
			return err
		}
	}
	return nil
}

// part adds what is wrong with one part of a manifest.
func (f files) part(o *onDisk, k layout.Key, p manifest.Part) error {
	fi, err := os.Stat(f.dir.File(layout.BlobKey(p.Digest).Path()))
	if tree.Missing(err) {
		o.add(Missing, k, "%s is missing", p.Digest)
		return nil
	}
	if err != nil {
		return err
	}
	whole, err := f.blobs.Whole(f.ctx, p.Digest, fi.Size(), p.Size)
	if err != nil {
		return err
	}
	switch {
	case !whole:
		o.add(Missing, k, "%s is damaged: it has %d bytes", p.Digest, fi.Size())
	case !p.Fits(fi.Size()):
		o.add(WrongSize, k, "%s has %d bytes, which is not what the manifest states", p.Digest, fi.Size())
	}
	return f.links(o, k, p)
}

// links adds that a part is not in the repository as what the manifest names it.
func (f files) links(o *onDisk, k layout.Key, p manifest.Part) error {
	layer, err := f.dir.Has(layout.LayerKey(k.Repository, p.Digest))
	if err != nil {
		return err
	}
	manifest, err := f.dir.Has(layout.ManifestKey(k.Repository, p.Digest))
	switch {
	case err != nil:
		return err
	case !layer && !manifest:
		o.add(Missing, k, "%s is not in its repository", p.Digest)
	case p.Blob && !layer:
		o.add(Missing, k, "%s is not in its repository as a blob", p.Digest)
	case p.Manifest && !manifest:
		o.add(Missing, k, "%s is not in its repository as a manifest", p.Digest)
	}
	return nil
}

// partial turns Missing into Partial for an image index of which another part can be pulled.
func (f files) partial(o *onDisk, k layout.Key, m *manifest.Manifest) error {
	if !o.misses() || !m.IsIndex() {
		return nil
	}
	usable, err := f.anyUsable(k.Repository, m, map[digest.Digest]bool{k.Digest: true})
	for i := range o.problems {
		if p := &o.problems[i]; usable && p.Flaw == Missing {
			p.Flaw, p.Detail = Partial, p.Detail+"; other parts of it can be pulled"
		}
	}
	return err
}

// broken says whether an object is on disk and cannot be pulled at all. It does not read blobs of the right size.
func (f files) broken(k layout.Key) (bool, error) {
	now, err := f.look(k, 0)
	wrong := func(p Problem) bool { return p.Flaw != Partial && p.Flaw != WrongSize } // which most clients never notice
	return now.exists && slices.ContainsFunc(now.problems, wrong), err
}

// usable says whether a client can pull a manifest: all of an image, or at least one manifest of an image index. seen
// has the manifests on the way to it, since two may name each other.
func (f files) usable(k layout.Key, seen map[digest.Digest]bool) (bool, error) {
	if seen[k.Digest] {
		return false, nil
	}
	seen[k.Digest] = true
	if exists, err := f.dir.Has(k); err != nil || !exists {
		return false, err
	}
	data, err := f.dir.ReadManifest(k.Digest)
	if tree.Missing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m, err := manifest.Parse(data)
	if err != nil {
		return false, nil // a client cannot parse it either
	}
	if m.IsIndex() {
		if usable, err := f.anyUsable(k.Repository, m, seen); usable || err != nil {
			return usable, err
		}
	}
	var o onDisk
	err = f.parts(&o, k, m)
	return !o.misses(), err
}

func (f files) anyUsable(repo string, m *manifest.Manifest, seen map[digest.Digest]bool) (bool, error) {
	for _, d := range m.References {
		if usable, err := f.usable(layout.ManifestKey(repo, d), seen); usable || err != nil {
			return usable, err
		}
	}
	return false, nil
}
