package registry

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"syscall"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// driver shows distribution the tree, which it does not change. Nothing is a use of what it reads, since
// it reads for lists only.
type driver struct {
	storagedriver.StorageDriver
	dir layout.Dir
}

// maxThreads bounds the file operations at a time. Distribution's default of 100 queues a CI farm's.
const maxThreads = 1000

func newDriver(dir layout.Dir) *driver {
	return &driver{filesystem.New(filesystem.DriverParameters{RootDirectory: string(dir), MaxThreads: maxThreads}), dir}
}

// GetContent implements storagedriver.StorageDriver.
func (d *driver) GetContent(ctx context.Context, subPath string) ([]byte, error) {
	data, err := d.StorageDriver.GetContent(ctx, subPath)
	return data, readError(err)
}

// Stat implements storagedriver.StorageDriver.
func (d *driver) Stat(ctx context.Context, subPath string) (storagedriver.FileInfo, error) {
	fi, err := d.StorageDriver.Stat(ctx, subPath)
	return fi, readError(err)
}

// List implements storagedriver.StorageDriver.
func (d *driver) List(ctx context.Context, subPath string) ([]string, error) {
	names, err := d.StorageDriver.List(ctx, subPath)
	if subPath == "/" { // what dcs keeps beside the tree is not distribution's business
		names = slices.DeleteFunc(names, func(name string) bool { return d.dir.Native(name) == d.dir.Metadata() })
	}
	return names, readError(err)
}

// Walk implements storagedriver.StorageDriver. A tag without a current link is not listed: its first PUT
// was refused, or is not done yet.
func (d *driver) Walk(ctx context.Context, from string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	return readError(d.StorageDriver.Walk(ctx, from, func(fi storagedriver.FileInfo) error {
		if p, ok := layout.Parse(fi.Path()); ok && p.Kind == layout.TagDir {
			p.Kind = layout.TagLink
			_, err := adopt.Link(d.dir, p)
			if adopt.Failed(err) {
				return err
			}
			if err != nil {
				return storagedriver.ErrSkipDir
			}
		}
		return f(fi)
	}, options...))
}

// errReadOnly is for what distribution's handlers have no part in.
var errReadOnly = errors.New("distribution's handlers write nothing to the store")

// PutContent implements storagedriver.StorageDriver.
func (*driver) PutContent(context.Context, string, []byte) error { return errReadOnly }

// Delete implements storagedriver.StorageDriver.
func (*driver) Delete(context.Context, string) error { return errReadOnly }

// Writer implements storagedriver.StorageDriver.
func (*driver) Writer(context.Context, string, bool) (storagedriver.FileWriter, error) {
	return nil, errReadOnly
}

// Move implements storagedriver.StorageDriver.
func (*driver) Move(context.Context, string, string) error { return errReadOnly }

// readError tells distribution what is not there in the only way that it understands.
func readError(err error) error {
	var gone storagedriver.PathNotFoundError
	switch {
	case errors.As(err, &gone):
		return gone
	case errors.Is(detail(err), fs.ErrNotExist) || errors.Is(detail(err), syscall.ENOTDIR) || errors.Is(detail(err), syscall.ENAMETOOLONG):
		return notFound("")
	}
	return err
}

// notFound is the error by which distribution knows that there is nothing at a path.
func notFound(subPath string) error {
	return storagedriver.PathNotFoundError{Path: subPath, DriverName: "filesystem"}
}

// detail is the error that distribution's driver wrapped without an Unwrap.
func detail(err error) error {
	var wrapped storagedriver.Error
	if errors.As(err, &wrapped) {
		return wrapped.Detail
	}
	return err
}
