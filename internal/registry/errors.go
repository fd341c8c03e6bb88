package registry

import (
	"bytes"
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
		Message:        "not found; the API is at /v2/",
		HTTPStatusCode: http.StatusNotFound,
	})
	errBodyIncomplete = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "BODY_INCOMPLETE",
		Message:        "the request's body could not be read to its end",
		HTTPStatusCode: http.StatusBadRequest,
	})
	errStalled = errcode.Register("dcs", errcode.ErrorDescriptor{
		Value:          "BODY_STALLED",
		Message:        "the client stopped sending the request body",
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

// statusClientLeft is the status that distribution answers, and nginx logs, for a client that hung up. A client that
// stalls, or that only stopped sending, still reads it.
const statusClientLeft = 499

// errUnreadable is for a manifest that exists and cannot be served. To a client it is a miss, which a push mends.
var errUnreadable = errcode.ErrorCodeManifestUnknown.WithMessage(
	"the manifest is damaged, or of a kind that is not served any more (schema 1); push the image again")

// unknown is the code of each route for what does not exist.
var unknown = map[string]errcode.ErrorCode{
	routeManifest: errcode.ErrorCodeManifestUnknown,
	routeBlob:     errcode.ErrorCodeBlobUnknown,
	routeUpload:   errcode.ErrorCodeBlobUploadUnknown,
	routeTags:     errcode.ErrorCodeNameUnknown,
}

// toProtocolError is an error in the words of the protocol. An error that is not the client's is logged; the client is
// not told its text, which may have paths.
func (w *response) toProtocolError(err error) error {
	var code errcode.ErrorCode
	var one errcode.Error
	var several errcode.Errors
	var missing *content.MissingError
	var size *content.SizeError
	var wrong *content.DigestError
	var referenced *index.ReferencedError
	var pinned *index.PinnedError
	switch {
	case errors.As(err, &several), errors.As(err, &one), errors.As(err, &code):
		return err
	case errors.Is(err, content.ErrUnknown):
		return unknown[w.req.kind].WithDetail(w.req.reference)
	case errors.Is(err, content.ErrUnreadable):
		return errUnreadable
	case errors.Is(err, content.ErrBusy):
		return errcode.ErrorCodeRangeInvalid.WithMessage(content.ErrBusy.Error())
	case errors.As(err, &missing):
		for _, d := range missing.Digests {
			several = append(several, errcode.ErrorCodeManifestBlobUnknown.WithDetail(d))
		}
		return several
	case errors.As(err, &size):
		return errcode.ErrorCodeSizeInvalid.WithMessage(size.Error()).WithDetail(size.Part.Digest)
	case errors.As(err, &wrong):
		return errcode.ErrorCodeDigestInvalid.WithMessage(wrong.Error())
	case errors.As(err, &referenced):
		return errcode.ErrorCodeUnsupported.WithMessage(referenced.Error()).
			WithDetail(map[string]digest.Digest{"neededBy": referenced.By})
	case errors.As(err, &pinned):
		return errcode.ErrorCodeUnsupported.WithMessage(pinned.Error()).
			WithDetail(map[string]string{"pinned": pinned.Name()})
	case errors.Is(err, index.ErrPinsUnknown):
		return errcode.ErrorCodeUnavailable.WithMessage(
			"what is pinned is not known at the moment; the log of the registry says why")
	case errors.Is(err, index.ErrGateClosed):
		return errcode.ErrorCodeUnavailable.WithMessage(index.ErrGateClosed.Error() + "; try again soon")
	case w.body.err != nil:
		return w.body.incomplete()
	case w.clientGone() != nil:
		return errClientLeft
	}
	return w.storageError(err)
}

// storageError is the protocol's error for one of the store.
func (w *response) storageError(err error) error {
	full := errors.Is(err, index.ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	var budget *content.FullError
	switch {
	case errors.As(err, new(*content.LeaseError)) && !full: // the store logged it
		return errcode.ErrorCodeUnavailable.WithMessage("the registry cannot record this at the moment; try again")
	case errors.Is(err, syscall.ENAMETOOLONG):
		return errcode.ErrorCodeNameInvalid
	}
	w.req.errorf("cannot answer: %v", err)
	switch {
	case errors.As(err, &budget):
		return errNoSpace.WithMessage(budget.Error())
	case full:
		return errNoSpace
	case errors.Is(err, index.ErrBusy):
		return errcode.ErrorCodeUnavailable.WithMessage("the registry's index is busy; try again")
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		return errcode.ErrorCodeUnavailable.WithMessage("the registry has no file descriptor left; try again soon")
	}
	return errcode.ErrorCodeUnknown.WithMessage("the registry's storage failed; its log says why")
}

// writeError sends an error in the protocol's form, unless an answer was begun.
func (w *response) writeError(err error) {
	if w.status != 0 {
		return
	}
	h := w.Header()
	for _, name := range ofContent {
		h.Del(name)
	}
	rec := &recorder{header: h}
	if serr := errcode.ServeJSON(rec, err); serr != nil {
		w.req.errorf("write error answer: %v", serr)
	}
	switch rec.status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", "5")
	case http.StatusRequestTimeout:
		h.Set("Connection", "close") // bytes that come late are no request
	}
	if rec.status != http.StatusRequestedRangeNotSatisfiable {
		h.Del("Content-Range") // otherwise it says how long the blob is
	}
	w.begin(rec.status, int64(rec.Len()))
	w.errorSent = true
	if w.req.method != http.MethodHead {
		n, _ := w.ResponseWriter.Write(rec.Bytes()) // a client that left does not read it
		w.written = int64(n)
	}
}

// ofContent are the headers that a handler may have set for an answer that is no error.
var ofContent = []string{"Content-Length", "Location", "Etag", "Docker-Content-Digest", "Cache-Control",
	"Accept-Ranges", "Oci-Tag"}

// recorder lets ServeJSON choose the status before anything is sent.
type recorder struct {
	bytes.Buffer
	header http.Header
	status int
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }
