package registry

import (
	"io"
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

// small is the size in bytes up to which a blob is read into memory and not sent from its file.
const small = 64 << 10

var smalls = sync.Pool{New: func() any { b := make([]byte, small); return &b }}

// getBlob sends a layer, or only its header.
func (r *Registry) getBlob(w *response, hr *http.Request, req *request) error {
	d := digest.Digest(req.reference)
	onlyBytes(hr)
	// A client that is told that a blob exists does not push it, so that is a promise.
	if req.method == http.MethodHead || hr.Header["If-None-Match"] != nil {
		size, err := r.content.Blob(hr.Context(), req.name, d, content.Promise)
		if err != nil {
			return err
		}
		if !conditional(hr) {
			req.access(d, size)
			w.blobHeader(d)
			w.setHeader("Accept-Ranges", "bytes")
			w.begin(http.StatusOK, size)
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
	w.blobHeader(d)
	if conditional(hr) {
		http.ServeContent(w, hr, "", time.Time{}, readSeeker(f))
		return nil
	}
	w.setHeader("Accept-Ranges", "bytes")
	if size > small {
		w.begin(http.StatusOK, size)
		_, err := w.ReadFrom(readSeeker(f))
		return w.cutShort(err)
	}
	buf := smalls.Get().(*[]byte)
	defer smalls.Put(buf)
	if _, err := io.ReadFull(f, (*buf)[:size]); err != nil {
		return err
	}
	w.begin(http.StatusOK, size)
	_, err = w.Write((*buf)[:size])
	return w.cutShort(err)
}

// readSeeker is the file of a body, which the kernel sends by itself, or the body.
func readSeeker(b content.Body) io.ReadSeeker {
	if file := b.File(); file != nil {
		return file
	}
	return b
}

// deleteBlob removes a layer link from a repository. gc removes the blob later.
func (r *Registry) deleteBlob(w *response, hr *http.Request, req *request) error {
	if err := r.content.DeleteLayer(hr.Context(), req.name, digest.Digest(req.reference)); err != nil {
		return err
	}
	r.trail(req).WithField("digest", req.reference).Info("a client deleted a layer")
	w.begin(http.StatusAccepted, 0)
	return nil
}

func (w *response) blobHeader(d digest.Digest) {
	w.setHeader("Cache-Control", "max-age=31536000")
	w.setHeader("Content-Type", "application/octet-stream")
	w.setHeader("Docker-Content-Digest", string(d))
	w.setHeader("Etag", `"`+string(d)+`"`)
}

// onlyBytes removes a Range that means nothing: of a HEAD, or in another unit than bytes.
func onlyBytes(hr *http.Request) {
	sent := hr.Header["Range"]
	if sent == nil {
		return
	}
	unit, set, _ := strings.Cut(sent[0], "=")
	if hr.Method != http.MethodGet || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		hr.Header.Del("Range")
		return
	}
	ranges := strings.Split(set, ",")
	for i, r := range ranges {
		if lastNone.MatchString(r) {
			ranges[i] = behindTheEnd // which is unsatisfiable, too; net/http would send an empty part
		}
	}
	hr.Header.Set("Range", "bytes="+strings.Join(ranges, ",")) // as net/http spells it
}

// lastNone is the range of the last 0 bytes of a blob.
var lastNone = regexp.MustCompile(`^\s*-0+\s*$`)

const behindTheEnd = "9223372036854775807-"

// conditional says that a request may be answered with something else than the whole blob.
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
