package registry

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"syscall"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// The errors that distribution has no code for.
var (
	errNoSpace = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "INSUFFICIENT_STORAGE",
		Message:        "the registry's disk is full; try again when old images have expired",
		HTTPStatusCode: http.StatusInsufficientStorage,
	})
	errTooLarge = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "MANIFEST_TOO_LARGE",
		Message:        "manifest is larger than the registry takes",
		HTTPStatusCode: http.StatusRequestEntityTooLarge,
	})
	errNotFound = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "NOT_FOUND",
		Message:        "the registry has nothing under this address",
		HTTPStatusCode: http.StatusNotFound,
	})
	errBodyIncomplete = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "BODY_INCOMPLETE",
		Message:        "the request's body could not be read to its end",
		HTTPStatusCode: http.StatusBadRequest,
	})
	errStalled = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "BODY_STALLED",
		Message:        "the request's body did not come on; the registry does not wait longer",
		HTTPStatusCode: http.StatusRequestTimeout,
	})
	errClientLeft = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "CLIENT_LEFT",
		Message:        "the client closed the connection before the answer",
		HTTPStatusCode: statusClientLeft,
	})
	errRangeUnsatisfiable = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "RANGE_UNSATISFIABLE",
		Message:        "the blob has no such bytes",
		HTTPStatusCode: http.StatusRequestedRangeNotSatisfiable,
	})
	errRangeMalformed = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "RANGE_MALFORMED",
		Message:        "Content-Range must be two byte offsets, such as 0-1023",
		HTTPStatusCode: http.StatusRequestedRangeNotSatisfiable,
	})
)

// errUnreadable is for a manifest that is there: to a client it is a miss, which a push mends.
var errUnreadable = errcode.ErrorCodeManifestUnknown.WithMessage("the manifest is damaged, or of a kind that is served no more (schema 1); push the image again")

// unavailable is the answer to who asks for a promise that cannot be written down.
func unavailable(err error) error {
	if errors.Is(err, index.ErrFull) || noSpace(err) {
		return errNoSpace
	}
	if errors.Is(err, index.ErrGateClosed) {
		return errcode.ErrorCodeUnavailable.WithMessage(index.ErrGateClosed.Error() + "; try again soon")
	}
	return errcode.ErrorCodeUnavailable.WithMessage("the registry cannot record this at the moment; try again")
}

func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// storageError logs why the storage failed, and tells the client what it may know: no paths.
func (d *driver) storageError(ctx context.Context, doing, subPath string, err error) error {
	if errors.As(err, new(storagedriver.PathNotFoundError)) && requestOf(ctx) != nil {
		requestOf(ctx).vanished = true
	}
	if ctx.Err() != nil || errors.As(err, new(storagedriver.PathNotFoundError)) || errors.As(err, new(errcode.Errors)) {
		return err
	}
	var told errcode.Error
	if errors.As(err, &told) {
		return told
	}
	d.log.WithError(detail(err)).WithField("path", subPath).Errorf("cannot %s", doing)
	req := requestOf(ctx)
	switch {
	case errors.Is(err, index.ErrFull) || noSpace(detail(err)):
		return req.fail(errNoSpace)
	case errors.As(err, new(storagedriver.InvalidPathError)) || errors.Is(detail(err), syscall.ENAMETOOLONG):
		return req.fail(errcode.ErrorCodeNameInvalid)
	}
	return req.fail(errcode.ErrorCodeUnknown.WithMessage("the registry's storage failed; its log says why"))
}

// readError passes on what is not there, and takes any other error for a failure of the storage.
func (d *driver) readError(ctx context.Context, err error) error {
	var gone storagedriver.PathNotFoundError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &gone):
		if req := requestOf(ctx); req != nil {
			req.vanished = true
		}
		return gone // bare: distribution compares types
	case errors.Is(detail(err), fs.ErrNotExist) || errors.Is(detail(err), syscall.ENOTDIR) || errors.Is(detail(err), syscall.ENAMETOOLONG):
		return notFound("")
	case errors.Is(err, storagedriver.ErrSkipDir) || errors.Is(err, storagedriver.ErrFilledBuffer):
		return err
	}
	return d.storageError(ctx, "read", "", err)
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
