package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// PutContent implements storagedriver.StorageDriver. What the index knows goes the way of all content:
// claim, stage the bytes beside their place, look again and rename under the write lock, sync.
func (d *driver) PutContent(ctx context.Context, subPath string, content []byte) error {
	p, _ := layout.Parse(subPath)
	var err error
	switch p.Kind {
	case layout.BlobData:
		err = d.putBlob(ctx, p, content)
	case layout.LayerLink:
		err = d.putLayer(ctx, p, content)
	case layout.RevisionLink:
		err = d.putManifest(ctx, p, content)
	case layout.TagLink:
		err = d.putTag(ctx, p, content)
	case layout.TagIndexLink:
		return nil // placed together with the tag's current link, so that no tag exists without one
	case layout.UploadStartedAt, layout.UploadHashState:
		err = d.putUploadState(p, content)
	default:
		return d.StorageDriver.PutContent(ctx, subPath, content)
	}
	var told errcode.Error
	if err == nil || errors.As(err, &told) {
		return err
	}
	return d.storageError(ctx, "write", subPath, err)
}

// Move implements storagedriver.StorageDriver: an upload that is complete becomes a blob. Its data was
// synced when it was committed.
func (d *driver) Move(ctx context.Context, sourcePath, destPath string) error {
	p, _ := layout.Parse(destPath)
	if p.Kind != layout.BlobData {
		return d.StorageDriver.Move(ctx, sourcePath, destPath)
	}
	source := d.dir.Native(sourcePath)
	fi, err := os.Stat(source)
	if adopt.Missing(err) {
		return notFound(sourcePath)
	}
	if err == nil {
		err = d.place(ctx, index.Claim{Key: index.BlobKey(p.Digest), Size: fi.Size()}, source, nil)
	}
	if err != nil {
		return d.storageError(ctx, "store", destPath, err)
	}
	return nil
}

// place brings a staged file to its place. look says what is missing of what the content refers to; it
// runs under the write lock, where nobody can remove any of it.
func (d *driver) place(ctx context.Context, c index.Claim, staged string, look func() error) error {
	dest := d.dir.File(adopt.Path(c.Key))
	if err := d.tree.MkdirAll(filepath.Dir(dest)); err != nil {
		return err
	}
	now := d.index.Now()
	if err := d.index.Claim(ctx, c); err != nil {
		d.prune(filepath.Dir(dest))
		return err
	}
	err := d.index.Place(ctx, c, func() error {
		if look != nil {
			if err := look(); err != nil {
				return err
			}
		}
		return d.tree.Rename(staged, dest)
	})
	if err != nil {
		// A refused manifest pins nothing; the claim of other content just runs out.
		if uerr := d.index.Unclaim(context.WithoutCancel(ctx), c.Key); uerr != nil {
			d.log.WithError(uerr).WithField("object", c.Key.String()).Error("cannot take a claim back")
		}
		d.prune(filepath.Dir(dest)) // what was made for it
		return err
	}
	d.leases.remember(c.Key, now)
	return d.tree.Sync(dest)
}

// stage writes content beside its place. The caller removes the file: it is gone when it was placed.
func (d *driver) stage(content []byte) (staged string, remove func(), err error) {
	staged, err = d.tree.Stage(content)
	return staged, func() { _ = os.Remove(staged) }, err
}

func (d *driver) putBlob(ctx context.Context, p layout.Path, content []byte) error {
	staged, remove, err := d.stage(content)
	if err != nil {
		return err
	}
	defer remove()
	return d.place(ctx, index.Claim{Key: index.BlobKey(p.Digest), Size: int64(len(content))}, staged, nil)
}

func (d *driver) putLayer(ctx context.Context, p layout.Path, content []byte) error {
	staged, remove, err := d.stage(content)
	if err != nil {
		return err
	}
	defer remove()
	c := index.Claim{Key: index.LayerKey(p.Repository, p.Digest)}
	req := requestOf(ctx)
	if req != nil {
		c.UploadStarted = req.uploadStarted
	}
	blob := layout.Path{Kind: layout.BlobData, Digest: p.Digest}
	err = d.place(ctx, c, staged, func() error {
		fi, err := os.Stat(d.dir.File(blob))
		if adopt.Missing(err) {
			return req.fail(errcode.ErrorCodeBlobUnknown.WithDetail(p.Digest))
		}
		if err == nil && req != nil {
			req.stored = append(req.stored, stored{p.Digest, fi.Size()})
		}
		return err
	})
	return err
}

// putManifest makes a manifest part of a repository. Everything that it needs must be there, by digest
// whatever its type, both before the claim and under the write lock.
func (d *driver) putManifest(ctx context.Context, p layout.Path, content []byte) error {
	c, size, err := d.manifestContent(ctx, p.Digest)
	if err != nil {
		return err
	}
	look := func() error { return d.lookForReferences(ctx, p, c) }
	if err := look(); err != nil {
		return err
	}
	staged, remove, err := d.stage(content)
	if err != nil {
		return err
	}
	defer remove()
	err = d.place(ctx, index.Claim{Key: index.ManifestKey(p.Repository, p.Digest), Size: size, Content: c}, staged, look)
	if err == nil {
		if req := requestOf(ctx); req != nil {
			req.stored = append(req.stored, stored{p.Digest, size})
		}
	}
	return err
}

// manifestContent is what the manifest says, whose blob distribution stored just before its link.
func (d *driver) manifestContent(ctx context.Context, dgst digest.Digest) (*index.Content, int64, error) {
	data, err := adopt.Content(d.dir, dgst)
	if err != nil {
		return nil, 0, err
	}
	if got := digest.FromBytes(data); dgst.Algorithm() == digest.Canonical && got != dgst {
		return nil, 0, fmt.Errorf("manifest %s has the content of %s", dgst, got)
	}
	if req := requestOf(ctx); req != nil && req.contentDigest == dgst {
		return req.content, req.contentSize, nil
	}
	c, err := index.ParseContent(data)
	return c, int64(len(data)), err
}

// maxReported is how many missing references a refusal names.
const maxReported = 100

// lookForReferences refuses a manifest whose own blob, or anything it needs, is not in the repository.
func (d *driver) lookForReferences(ctx context.Context, p layout.Path, c *index.Content) error {
	there, err := adopt.Exists(d.dir, layout.Path{Kind: layout.BlobData, Digest: p.Digest})
	if err != nil {
		return err
	}
	var missing errcode.Errors
	if !there {
		missing = append(missing, errcode.ErrorCodeManifestBlobUnknown.WithDetail(p.Digest))
	}
	elsewhere := map[digest.Digest]bool{}
	for _, f := range c.Foreign {
		elsewhere[f] = true
	}
	for _, ref := range c.References {
		if elsewhere[ref] || len(missing) >= maxReported {
			continue
		}
		there, err := d.inRepository(p.Repository, ref)
		if err != nil {
			return err
		}
		if !there {
			missing = append(missing, errcode.ErrorCodeManifestBlobUnknown.WithDetail(ref))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_ = requestOf(ctx).fail(missing)
	return missing[0]
}

func (d *driver) inRepository(repo string, dgst digest.Digest) (bool, error) {
	for _, kind := range []layout.Kind{layout.LayerLink, layout.RevisionLink} {
		there, err := adopt.Exists(d.dir, layout.Path{Kind: kind, Repository: repo, Digest: dgst})
		if there || err != nil {
			return there, err
		}
	}
	return false, nil
}

// putTag points a tag at a manifest. The tag's row, its current link and its index entry switch as one;
// entries of what it pointed to before go.
func (d *driver) putTag(ctx context.Context, p layout.Path, content []byte) error {
	to, err := digest.Parse(string(content))
	if err != nil {
		return err
	}
	if err := d.ensureKnown(ctx, index.ManifestKey(p.Repository, to)); err != nil {
		return err
	}
	entry := layout.Path{Kind: layout.TagIndexLink, Repository: p.Repository, Tag: p.Tag, Digest: to}
	var staged [2]string
	for i, place := range []layout.Path{entry, p} {
		if err := d.tree.MkdirAll(filepath.Dir(d.dir.File(place))); err != nil {
			return err
		}
		var remove func()
		if staged[i], remove, err = d.stage(content); err != nil {
			return err
		}
		defer remove()
	}
	now := d.index.Now()
	err = d.index.MoveTag(ctx, p.Repository, p.Tag, to, func() error {
		revision := layout.Path{Kind: layout.RevisionLink, Repository: p.Repository, Digest: to}
		if there, err := adopt.Exists(d.dir, revision); err != nil || !there {
			return errors.Join(err, requestOf(ctx).fail(errcode.ErrorCodeManifestUnknown.WithDetail(to)))
		}
		// In this order: a kill between the two leaves a tag, not a trace of none that nobody would remove.
		if err := d.tree.Rename(staged[1], d.dir.File(p)); err != nil {
			return err
		}
		if err := d.tree.Rename(staged[0], d.dir.File(entry)); err != nil {
			return err
		}
		d.dropOtherEntries(entry)
		return nil
	})
	if err != nil {
		d.prune(filepath.Dir(d.dir.File(entry)))
		d.prune(filepath.Dir(d.dir.File(p)))
		return err
	}
	d.leases.remember(index.TagKey(p.Repository, p.Tag), now)
	return errors.Join(d.tree.Sync(d.dir.File(entry)), d.tree.Sync(d.dir.File(p)))
}

// ensureKnown leases a row, and adopts it when the index does not know it.
func (d *driver) ensureKnown(ctx context.Context, k index.Key) error {
	known, err := d.leases.take(ctx, k)
	if err == nil && !known {
		_, err = d.leases.adopt(ctx, k)
	}
	return err
}

// dropOtherEntries removes a tag's index entries but one. Distribution keeps one a push, for ever.
func (d *driver) dropOtherEntries(keep layout.Path) {
	algorithm := path.Dir(layout.Path{Kind: layout.TagIndexEntryDir, Repository: keep.Repository, Tag: keep.Tag, Digest: keep.Digest}.String())
	entries, err := os.ReadDir(d.dir.Native(algorithm))
	if err != nil {
		return // nothing depends on them; the next move tries again
	}
	for _, e := range entries {
		if e.Name() != keep.Digest.Encoded() {
			failpoint.Step()
			_ = os.RemoveAll(filepath.Join(d.dir.Native(algorithm), e.Name()))
		}
	}
}

// putUploadState keeps distribution's notes about an upload. They promise nothing, so they are not
// synced. It writes hash states after it removed an upload, too: those are dropped. One that cannot be
// written costs a second reading of the bytes; told about it, distribution would lose those that it has not
// written yet.
func (d *driver) putUploadState(p layout.Path, content []byte) error {
	if p.Kind == layout.UploadHashState {
		started := layout.Path{Kind: layout.UploadStartedAt, Repository: p.Repository, Upload: p.Upload}
		if there, err := adopt.Exists(d.dir, started); err != nil || !there {
			return err
		}
	}
	file := d.dir.File(p)
	err := d.tree.MkdirAll(filepath.Dir(file))
	if err == nil {
		failpoint.Step()
		err = os.WriteFile(file, content, 0o644)
	}
	if err == nil {
		return d.tree.Own(file)
	}
	if p.Kind == layout.UploadHashState {
		d.log.WithError(err).WithField("upload", p.Upload).Warn("cannot note how far an upload is hashed; it will be hashed again")
		return nil
	}
	d.dropUpload(p.Repository, p.Upload) // which never began
	return err
}

func (d *driver) hasUpload(u upload) bool {
	there, err := adopt.Exists(d.dir, layout.Path{Kind: layout.UploadStartedAt, Repository: u.repo, Upload: u.id})
	return there || err != nil
}

// dropUpload gives an upload up that does not fit on the disk.
func (d *driver) dropUpload(repo, id string) {
	p, ok := layout.Parse(layout.Path{Kind: layout.UploadDir, Repository: repo, Upload: id}.String())
	if !ok || p.Kind != layout.UploadDir {
		return // not an upload by its name: nothing of it was written
	}
	dir := d.dir.File(p)
	if err := os.RemoveAll(dir); err != nil {
		d.log.WithError(err).WithField("upload", id).Error("cannot remove an upload that does not fit on the disk")
		return
	}
	d.prune(filepath.Dir(dir))
}
