package registry

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
)

// parseDigest reads a digest of any algorithm that is stored.
func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return "", errcode.ErrorCodeDigestInvalid.WithDetail(s)
	}
	return d, nil
}

// getBlob sends a layer, or news of it.
func (r *Registry) getBlob(a *answer, hr *http.Request, req *request) error {
	d := digest.Digest(req.reference)
	use := content.Read
	if req.method == http.MethodHead {
		use = content.Promise // a client that is told that a blob exists does not send it
	}
	b, err := r.content.Blob(hr.Context(), req.name, d, use)
	if err != nil {
		return err
	}
	h := a.Header()
	h.Set("Cache-Control", "max-age=31536000")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Etag", `"`+string(d)+`"`)
	if req.method == http.MethodHead && !conditional(hr) {
		h.Set("Accept-Ranges", "bytes")
		h.Set("Content-Length", strconv.FormatInt(b.Size, 10))
		req.access(d, b.Size)
		a.begin(http.StatusOK)
		return nil
	}
	f, err := os.Open(b.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return content.ErrUnknown // deleted by hand, since expiry keeps it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	req.access(d, b.Size)
	if conditional(hr) {
		http.ServeContent(a, hr, "", time.Time{}, f)
		return nil
	}
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.FormatInt(b.Size, 10))
	a.begin(http.StatusOK)
	_, err = a.ReadFrom(f)
	return a.brokenOff(err)
}

// conditional says whether a request may be answered with anything but the whole.
func conditional(hr *http.Request) bool {
	if hr.Header["Range"] != nil {
		return true
	}
	for name := range hr.Header {
		if strings.HasPrefix(name, "If-") {
			return true
		}
	}
	return false
}

// brokenOff hangs up when an answer could not be sent to its end, unless it was the client who did.
func (a *answer) brokenOff(err error) error {
	if err == nil || a.left() != nil {
		return nil
	}
	var file *fs.PathError
	if errors.As(err, &file) || errors.Is(err, io.ErrUnexpectedEOF) {
		a.log.Errorf("an answer broke off: %v", err)
	}
	panic(http.ErrAbortHandler)
}
