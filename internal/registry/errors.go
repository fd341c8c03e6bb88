package registry

import (
	"errors"
	"net/http"
	"syscall"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
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

// statusClientLeft is what distribution answers, and nginx logs, for a client that hung up. One that stalls,
// or that only sends no more, still hears it.
const statusClientLeft = 499

// errUnreadable is for a manifest that is there: to a client it is a miss, which a push mends.
var errUnreadable = errcode.ErrorCodeManifestUnknown.WithMessage("the manifest is damaged, or of a kind that is served no more (schema 1); push the image again")

// unknown is what each route calls a thing that is not there.
var unknown = map[string]errcode.ErrorCode{
	routeManifest: errcode.ErrorCodeManifestUnknown,
	routeBlob:     errcode.ErrorCodeBlobUnknown,
	routeUpload:   errcode.ErrorCodeBlobUploadUnknown,
	routeTags:     errcode.ErrorCodeNameUnknown,
}

// told is an error in the words of the protocol. What the client is not to blame for is logged; it is
// told no paths.
func (a *answer) told(err error) error {
	var code errcode.ErrorCode
	var one errcode.Error
	var several errcode.Errors
	var missing *content.MissingError
	var wrong *content.DigestError
	var referenced *index.ReferencedError
	switch {
	case errors.As(err, &several), errors.As(err, &one), errors.As(err, &code):
		return err
	case errors.Is(err, content.ErrUnknown):
		return unknown[a.req.kind].WithDetail(a.req.reference)
	case errors.Is(err, content.ErrUnreadable):
		return errUnreadable
	case errors.Is(err, content.ErrBusy):
		return errcode.ErrorCodeRangeInvalid.WithMessage(content.ErrBusy.Error())
	case errors.As(err, &missing):
		for _, d := range missing.Digests {
			several = append(several, errcode.ErrorCodeManifestBlobUnknown.WithDetail(d))
		}
		return several
	case errors.As(err, &wrong):
		return errcode.ErrorCodeDigestInvalid.WithMessage(wrong.Error())
	case errors.As(err, &referenced):
		return errcode.ErrorCodeUnsupported.WithMessage(referenced.Error()).WithDetail(map[string]digest.Digest{"neededBy": referenced.By})
	case errors.Is(err, index.ErrGateClosed):
		return errcode.ErrorCodeUnavailable.WithMessage(index.ErrGateClosed.Error() + "; try again soon")
	case a.body.err != nil:
		return a.body.incomplete()
	case a.left() != nil:
		return errClientLeft
	}
	return a.failed(err)
}

// failed is for an error of the storage.
func (a *answer) failed(err error) error {
	full := errors.Is(err, index.ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	switch {
	case errors.As(err, new(*content.LeaseError)) && !full: // which was logged
		return errcode.ErrorCodeUnavailable.WithMessage("the registry cannot record this at the moment; try again")
	case errors.Is(err, syscall.ENAMETOOLONG):
		return errcode.ErrorCodeNameInvalid
	}
	a.errorf("cannot answer: %v", err)
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return errcode.ErrorCodeUnavailable.WithMessage("the registry has no file descriptor left; try again soon")
	}
	if full {
		return errNoSpace
	}
	return errcode.ErrorCodeUnknown.WithMessage("the registry's storage failed; its log says why")
}
