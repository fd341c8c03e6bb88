package registry

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// parseDigest reads a digest of any algorithm that is stored.
func parseDigest(s string) (digest.Digest, error) {
	d, err := layout.ParseDigest(s)
	if err != nil {
		return "", errcode.ErrorCodeDigestInvalid.WithDetail(s)
	}
	return d, nil
}

// small is up to which size a blob is read rather than sent from its file.
const small = 64 << 10

var smalls = sync.Pool{New: func() any { b := make([]byte, small); return &b }}

// getBlob sends a layer, or news of it.
func (r *Registry) getBlob(a *answer, hr *http.Request, req *request) error {
	d := digest.Digest(req.reference)
	onlyBytes(hr)
	if req.method == http.MethodHead || hr.Header["If-None-Match"] != nil { // a client that is told that a blob exists does not send it
		size, err := r.content.Blob(hr.Context(), req.name, d, content.Promise)
		if err != nil {
			return err
		}
		if !conditional(hr) {
			req.access(d, size)
			blobHeader(a.Header(), d)
			a.Header().Set("Accept-Ranges", "bytes")
			a.begin(http.StatusOK, size)
			return nil
		}
	}
	f, err := r.content.Open(hr.Context(), req.name, d)
	if err != nil {
		return err
	}
	defer f.Close()
	size := f.Size()
	req.access(d, size)
	blobHeader(a.Header(), d)
	if conditional(hr) {
		http.ServeContent(a, hr, "", time.Time{}, readSeeker(f))
		return nil
	}
	a.Header().Set("Accept-Ranges", "bytes")
	if size > small {
		a.begin(http.StatusOK, size)
		_, err := a.ReadFrom(readSeeker(f))
		return a.brokenOff(err)
	}
	buf := smalls.Get().(*[]byte)
	defer smalls.Put(buf)
	if _, err := io.ReadFull(f, (*buf)[:size]); err != nil {
		return err
	}
	a.begin(http.StatusOK, size)
	_, err = a.Write((*buf)[:size])
	return a.brokenOff(err)
}

// readSeeker is the file of a body, which the kernel sends by itself, or the body.
func readSeeker(b content.Body) io.ReadSeeker {
	if file := b.File(); file != nil {
		return file
	}
	return b
}

// deleteBlob takes a layer from a repository. What it names goes with an expiry.
func (r *Registry) deleteBlob(a *answer, hr *http.Request, req *request) error {
	if err := r.content.DeleteLayer(hr.Context(), req.name, digest.Digest(req.reference)); err != nil {
		return err
	}
	r.trail(hr, req).WithField("digest", req.reference).Info("a client deleted a layer")
	a.begin(http.StatusAccepted, 0)
	return nil
}

func blobHeader(h http.Header, d digest.Digest) {
	h.Set("Cache-Control", "max-age=31536000")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Etag", `"`+string(d)+`"`)
}

// onlyBytes lets nobody see a range that means nothing here: of news of a blob, or in another unit than bytes.
func onlyBytes(hr *http.Request) {
	said := hr.Header["Range"]
	if said == nil {
		return
	}
	unit, set, _ := strings.Cut(said[0], "=")
	if hr.Method != http.MethodGet || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		hr.Header.Del("Range")
		return
	}
	ranges := strings.Split(set, ",")
	for i, r := range ranges {
		if lastNone.MatchString(r) {
			ranges[i] = behindTheEnd // as little as that; net/http sends an empty range that there is not
		}
	}
	hr.Header.Set("Range", "bytes="+strings.Join(ranges, ",")) // as net/http spells it
}

// lastNone is the range of the last no bytes of a blob.
var lastNone = regexp.MustCompile(`^\s*-0+\s*$`)

const behindTheEnd = "9223372036854775807-"

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
		a.errorf("an answer broke off: %v", err)
	}
	panic(http.ErrAbortHandler)
}
