package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// driver is the LRU driver: distribution's filesystem driver, with the index kept in step. Everything
// that the protocol does comes by here, a mount's look into another repository included, as a path
// from which the driver knows what is asked. Which requests make which calls, in which order, is
// distribution's business and does not matter: each call keeps the laws by itself.
type driver struct {
	storagedriver.StorageDriver // paths that mean nothing to the index go straight to it
	dir                         layout.Dir
	tree                        *disk.Tree
	index                       index.Store
	leases                      *leases
	log                         logrus.FieldLogger
}

// maxThreads bounds the file operations at a time. Distribution's default of 100 queues a CI farm's pulls.
const maxThreads = 1000

func newDriver(opts Options) *driver {
	return &driver{
		StorageDriver: filesystem.New(filesystem.DriverParameters{RootDirectory: string(opts.Dir), MaxThreads: maxThreads}),
		dir:           opts.Dir,
		tree:          opts.Tree,
		index:         opts.Index,
		leases:        newLeases(opts),
		log:           opts.Log,
	}
}

// GetContent implements storagedriver.StorageDriver. Reading a link is a use of what it names.
func (d *driver) GetContent(ctx context.Context, subPath string) ([]byte, error) {
	p, _ := layout.Parse(subPath)
	switch p.Kind {
	case layout.TagLink:
		return d.readLink(ctx, subPath, index.TagKey(p.Repository, p.Tag))
	case layout.RevisionLink:
		return d.readLink(ctx, subPath, index.ManifestKey(p.Repository, p.Digest))
	case layout.LayerLink:
		return d.readLink(ctx, subPath, index.LayerKey(p.Repository, p.Digest))
	case layout.UploadStartedAt:
		return d.readStartedAt(ctx, subPath)
	}
	return d.StorageDriver.GetContent(ctx, subPath)
}

func (d *driver) readLink(ctx context.Context, subPath string, k index.Key) ([]byte, error) {
	known, err := d.lease(ctx, k)
	if err != nil {
		return nil, err
	}
	data, err := d.StorageDriver.GetContent(ctx, subPath)
	if err != nil {
		return nil, d.readError(ctx, err)
	}
	if _, err := digest.Parse(string(data)); err != nil {
		d.log.WithError(err).WithField("path", subPath).Error("a link on disk is damaged, and counts for nothing")
		return nil, notFound(subPath)
	}
	if !known {
		there, err := d.adopt(ctx, k)
		if err != nil {
			return nil, err
		}
		if !there && k.Kind != index.Manifest { // a revision without its blob: distribution looks itself
			return nil, notFound(subPath)
		}
	}
	return data, nil
}

// lease records the use that a request is. It says whether the index knows the row; for who must not
// or need not lease it says yes, since there is nothing to adopt.
func (d *driver) lease(ctx context.Context, k index.Key) (known bool, err error) {
	req := requestOf(ctx)
	if !req.uses() || req.leaseFailed {
		return true, nil
	}
	known, err = d.leases.take(ctx, k)
	return known || (err != nil && !req.mustLease()), d.leaseError(ctx, k, err)
}

func (d *driver) adopt(ctx context.Context, k index.Key) (there bool, err error) {
	there, err = d.leases.adopt(ctx, k)
	return there || (err != nil && !requestOf(ctx).mustLease()), d.leaseError(ctx, k, err)
}

// leaseError is for a use that cannot be recorded. It fails the request only when the answer would be
// nothing but a promise.
func (d *driver) leaseError(ctx context.Context, k index.Key, err error) error {
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	d.log.WithError(err).WithField("object", k.String()).Error("cannot record a use in the index")
	if req := requestOf(ctx); !req.mustLease() {
		if req != nil {
			req.leaseFailed = true
		}
		return nil
	}
	return requestOf(ctx).fail(unavailable(err))
}

// readStartedAt keeps an upload alive that a client goes on with, before anything else is done to it.
func (d *driver) readStartedAt(ctx context.Context, subPath string) ([]byte, error) {
	now := time.Now()
	if err := os.Chtimes(d.dir.Native(subPath), now, now); err != nil && !adopt.Missing(err) {
		return nil, d.storageError(ctx, "touch upload", subPath, err)
	}
	data, err := d.StorageDriver.GetContent(ctx, subPath)
	if err != nil {
		return nil, d.readError(ctx, err)
	}
	if started, err := time.Parse(time.RFC3339, string(data)); err == nil {
		if req := requestOf(ctx); req != nil {
			req.uploadStarted = started
		}
	}
	return data, nil
}

// Stat implements storagedriver.StorageDriver. When a request writes, distribution skips the writing of
// a blob that it sees here, so seeing it is a promise.
func (d *driver) Stat(ctx context.Context, subPath string) (storagedriver.FileInfo, error) {
	p, _ := layout.Parse(subPath)
	if p.Kind != layout.BlobData || !requestOf(ctx).writes() {
		fi, err := d.StorageDriver.Stat(ctx, subPath)
		if req := requestOf(ctx); err == nil && req != nil && p.Kind == layout.BlobData {
			req.blobSize = fi.Size()
			if req.kind == routeBlob && req.method == http.MethodGet {
				err = d.readable(subPath)
			}
		}
		return fi, d.readError(ctx, err)
	}
	k := index.BlobKey(p.Digest)
	known, err := d.lease(ctx, k)
	if err != nil {
		return nil, err
	}
	fi, err := d.StorageDriver.Stat(ctx, subPath)
	if err != nil {
		return nil, d.readError(ctx, err)
	}
	if size, ok := d.sizeInHand(requestOf(ctx), p.Digest); ok && size != fi.Size() {
		d.log.WithField("digest", p.Digest).Error("a blob on disk has another size than the same content that was just pushed; it is replaced")
		return nil, notFound(subPath)
	}
	if !known {
		there, err := d.adopt(ctx, k)
		if err != nil {
			return nil, err
		}
		if !there {
			return nil, notFound(subPath)
		}
	}
	return fi, nil
}

// readable says why a file cannot be opened. Distribution opens it when it has answered with 200 already.
func (d *driver) readable(subPath string) error {
	f, err := os.Open(d.dir.Native(subPath))
	if err != nil {
		return err
	}
	return f.Close()
}

// sizeInHand is the size of content that the request brought, when that is the content of a digest.
// Distribution trusts a blob that is there; one that a power loss cut short would stay for ever.
func (d *driver) sizeInHand(req *request, dgst digest.Digest) (int64, bool) {
	switch {
	case req.kind == routeManifest && req.contentDigest == dgst:
		return req.contentSize, true
	case req.kind == routeUpload && req.method == http.MethodPut && req.digest == dgst:
		fi, err := os.Stat(d.dir.File(layout.Path{Kind: layout.UploadData, Repository: req.name, Upload: req.reference}))
		if err == nil {
			return fi.Size(), true
		}
	}
	return 0, false
}

// Writer implements storagedriver.StorageDriver. Only uploads are written by it.
func (d *driver) Writer(ctx context.Context, subPath string, appending bool) (storagedriver.FileWriter, error) {
	native := d.dir.Native(subPath)
	for tries := 3; ; tries-- { // an expiry may remove the directory while it is empty
		if err := d.tree.MkdirAll(path.Dir(native)); err != nil {
			return nil, d.storageError(ctx, "create upload", subPath, err)
		}
		w, err := d.StorageDriver.Writer(ctx, subPath, appending)
		if err != nil && tries > 0 && adopt.Missing(detail(err)) {
			continue
		}
		if err != nil {
			return nil, d.storageError(ctx, "write upload", subPath, err)
		}
		if err := d.tree.Own(native); err != nil {
			return nil, errors.Join(d.storageError(ctx, "write upload", subPath, err), w.Close())
		}
		return reporting{w, d, ctx, subPath}, nil
	}
}

// reporting tells a request why its upload could not be written.
type reporting struct {
	storagedriver.FileWriter
	d       *driver
	ctx     context.Context
	subPath string
}

func (w reporting) Write(p []byte) (int, error) {
	failpoint.Step()
	n, err := w.FileWriter.Write(p)
	if err != nil {
		err = w.d.storageError(w.ctx, "write upload", w.subPath, err)
	}
	return n, err
}

func (w reporting) Commit(ctx context.Context) error {
	failpoint.Step()
	if err := w.FileWriter.Commit(ctx); err != nil {
		return w.d.storageError(ctx, "sync upload", w.subPath, err)
	}
	return nil
}

// List implements storagedriver.StorageDriver. What dcs keeps beside the tree is not distribution's business.
func (d *driver) List(ctx context.Context, subPath string) ([]string, error) {
	names, err := d.StorageDriver.List(ctx, subPath)
	if subPath == "/" {
		names = slices.DeleteFunc(names, func(name string) bool { return d.dir.Native(name) == d.dir.Metadata() })
	}
	return names, d.readError(ctx, err)
}

// Walk implements storagedriver.StorageDriver. A tag without a current link is not listed: its first PUT
// was refused, or is not done yet.
func (d *driver) Walk(ctx context.Context, from string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	return d.readError(ctx, d.StorageDriver.Walk(ctx, from, func(fi storagedriver.FileInfo) error {
		if p, ok := layout.Parse(fi.Path()); ok && p.Kind == layout.TagDir {
			p.Kind = layout.TagLink
			if _, err := adopt.Link(d.dir, p); err != nil {
				return storagedriver.ErrSkipDir
			}
		}
		return f(fi)
	}, options...))
}

// Delete implements storagedriver.StorageDriver. A client deletes names; content goes with internal/gc.
func (d *driver) Delete(ctx context.Context, subPath string) error {
	p, _ := layout.Parse(subPath)
	switch p.Kind {
	case layout.LayerLink:
		k := index.LayerKey(p.Repository, p.Digest)
		return d.deleted(ctx, subPath, d.index.DeleteLayer(ctx, p.Repository, p.Digest, d.unlink(subPath)), k)
	case layout.RevisionLink:
		return d.deleteManifest(ctx, subPath, p)
	case layout.TagDir:
		k := index.TagKey(p.Repository, p.Tag)
		err := d.index.DeleteTag(ctx, p.Repository, p.Tag, func() error { return d.trash(subPath) })
		return d.deleted(ctx, subPath, err, k)
	case layout.UploadDir:
		failpoint.Step()
		err := d.StorageDriver.Delete(ctx, subPath)
		d.prune(d.dir.Native(subPath))
		return d.readError(ctx, err)
	case layout.BlobData, layout.BlobDir, layout.RepositoryDir:
		return fmt.Errorf("delete %s: only an expiry removes content", subPath)
	}
	return d.StorageDriver.Delete(ctx, subPath)
}

// deleteManifest removes a manifest's link with all its tags, as one.
func (d *driver) deleteManifest(ctx context.Context, subPath string, p layout.Path) error {
	keys := []index.Key{index.ManifestKey(p.Repository, p.Digest)}
	err := d.index.DeleteManifest(ctx, p.Repository, p.Digest, func(tags []string) error {
		for _, tag := range tags {
			keys = append(keys, index.TagKey(p.Repository, tag))
			err := d.trash(layout.Path{Kind: layout.TagDir, Repository: p.Repository, Tag: tag}.String())
			if err != nil && !errors.As(err, new(storagedriver.PathNotFoundError)) {
				return err
			}
		}
		return d.unlink(subPath)()
	})
	if err == nil && len(keys) > 1 {
		tags := layout.Path{Kind: layout.TagsDir, Repository: p.Repository}
		err = disk.SyncDir(d.dir.File(tags))
		d.prune(d.dir.File(tags))
	}
	return d.deleted(ctx, subPath, err, keys...)
}

// unlink removes a link. It runs inside an index transaction, so it does not sync.
func (d *driver) unlink(subPath string) func() error {
	return func() error {
		failpoint.Step()
		err := os.Remove(d.dir.Native(subPath))
		if errors.Is(err, fs.ErrNotExist) {
			return notFound(subPath)
		}
		return err
	}
}

func (d *driver) trash(subPath string) error {
	moved, err := d.tree.Trash(d.dir.Native(subPath))
	if err == nil && !moved {
		return notFound(subPath)
	}
	return err
}

// deleted makes the removal of a name durable, and tells a client why it was refused.
func (d *driver) deleted(ctx context.Context, subPath string, err error, keys ...index.Key) error {
	native := d.dir.Native(subPath)
	if err == nil {
		d.leases.forget(keys...)
		err = disk.SyncDir(path.Dir(native))
		d.prune(path.Dir(native))
	}
	var referenced *index.ReferencedError
	var gone storagedriver.PathNotFoundError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &gone):
		return gone // bare: distribution compares types
	case errors.As(err, &referenced):
		return requestOf(ctx).fail(errcode.ErrorCodeUnsupported.WithMessage(referenced.Error()).WithDetail(
			map[string]digest.Digest{"neededBy": referenced.By}))
	case errors.Is(err, index.ErrGateClosed):
		return requestOf(ctx).fail(unavailable(err))
	}
	return d.storageError(ctx, "delete", subPath, err)
}

// prune removes the directories that a removal left empty.
func (d *driver) prune(native string) { d.tree.Prune(native, string(d.dir)) }
