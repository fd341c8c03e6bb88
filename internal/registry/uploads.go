package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// postUpload mounts a blob, takes one whole, or begins an upload.
func (r *Registry) postUpload(w *response, hr *http.Request, req *request) error {
	q := hr.URL.Query()
	if d, err := digest.Parse(q.Get("mount")); err == nil {
		if mounted, err := r.mount(w, hr, req, d, q.Get("from")); mounted || err != nil {
			return err
		}
	}
	var whole digest.Digest
	if q.Has("digest") {
		var err error
		if whole, err = parseDigest(q.Get("digest")); err != nil {
			return err
		}
	}
	release, ok := r.uploads.reserve(req.uploader())
	if !ok {
		return errcode.ErrorCodeTooManyRequests.WithMessage(
			fmt.Sprintf("this client has %d unfinished uploads; finish or cancel some", r.opts.Limits.Uploads))
	}
	u, err := r.content.Begin(hr.Context(), req.name, algorithmOf(whole, q.Get("digest-algorithm")))
	if err != nil {
		release(upload{})
		return err
	}
	release(upload{req.name, u.ID()})
	defer r.leave(u)
	if whole == "" {
		w.accepted(r, hr, u)
		return nil
	}
	err = r.receive(u, hr)
	if err == nil {
		err = r.finish(w, hr, req, u, whole)
	}
	if err != nil && !u.Over() {
		u.Cancel() // the client was not told its address
	}
	return err
}

// uploader is the client for which a request's uploads are counted.
func (r *request) uploader() uploader { return uploader{r.login.user, NetworkOf(r.client)} }

// leave lets other requests go on with an upload. One that is over is not counted any more.
func (r *Registry) leave(u content.Upload) {
	u.Close()
	if u.Over() {
		r.uploads.ended(upload{u.Repository(), u.ID()})
	}
}

// algorithmOf is the algorithm by which an upload is hashed while it comes: that of the digest it must have, or else
// the one that the client names; empty: not known yet.
func algorithmOf(whole digest.Digest, hint string) digest.Algorithm {
	if whole != "" {
		return whole.Algorithm()
	}
	if alg := digest.Algorithm(hint); alg.Available() {
		return alg
	}
	return ""
}

// mount links a blob that the registry has. If it is not mounted the client is answered with 202, and sends the blob.
func (r *Registry) mount(w *response, hr *http.Request, req *request, d digest.Digest, from string) (bool, error) {
	var size int64
	var err error
	switch {
	case from == "":
		size, err = r.content.MountFromAny(hr.Context(), req.name, d)
	case layout.ValidName(from):
		size, err = r.content.Mount(hr.Context(), req.name, from, d)
	default:
		err = content.ErrUnknown
	}
	if errors.Is(err, content.ErrUnknown) || errors.As(err, new(*content.LeaseError)) {
		return false, nil // an upload promises nothing
	}
	if err == nil {
		req.access(d, size)
		w.created(hr, req.name, d)
	}
	return true, err
}

// created says that a blob was stored.
func (w *response) created(hr *http.Request, repo string, d digest.Digest) {
	h := w.Header()
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Location", fmt.Sprintf("%s/v2/%s/blobs/%s", origin(hr), repo, d))
	w.begin(http.StatusCreated, 0)
}

// accepted says how many bytes an upload has.
func (w *response) accepted(r *Registry, hr *http.Request, u content.Upload) {
	r.progress(w, hr, u.Repository(), u.ID(), u.Size())
	w.begin(http.StatusAccepted, 0)
}

func (r *Registry) progress(w *response, hr *http.Request, repo, id string, size int64) {
	h := w.Header()
	h.Set("Docker-Upload-UUID", id)
	h.Set("Location", fmt.Sprintf("%s/v2/%s/blobs/uploads/%s?_state=%s", origin(hr), repo, id, r.state(repo, id, size)))
	h.Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
}

// state is what a client carries from one request of an upload to the next: the number of bytes that it has sent,
// signed. So a client cannot go on with an upload whose id it guessed, and a piece that is sent again is noticed.
func (r *Registry) state(repo, id string, size int64) string {
	mac := hmac.New(sha256.New, []byte(r.opts.Secret))
	fmt.Fprintf(mac, "%s\n%s\n%d", repo, id, size)
	return strconv.FormatInt(size, 10) + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// carriedSize is the number of bytes in the state that a request carries. False: it carries none, or a wrong one.
func (r *Registry) carriedSize(hr *http.Request, req *request) (size int64, ok bool) {
	state := hr.URL.Query().Get("_state")
	number, _, _ := strings.Cut(state, ".")
	size, err := strconv.ParseInt(number, 10, 64)
	return size, err == nil && hmac.Equal([]byte(state), []byte(r.state(req.name, req.reference, size)))
}

// resume goes on with an upload, for a request that carries its state.
func (r *Registry) resume(hr *http.Request, req *request) (content.Upload, error) {
	size, ok := r.carriedSize(hr, req)
	if !ok {
		return nil, errcode.ErrorCodeBlobUploadInvalid
	}
	u, err := r.content.Resume(req.name, req.reference)
	if err != nil {
		return nil, err
	}
	if u.Size() != size && req.method != http.MethodDelete {
		u.Close()
		return nil, errcode.ErrorCodeRangeInvalid.WithMessage(
			fmt.Sprintf("the upload has %d bytes, not %d; ask for its status, and go on from there", u.Size(), size))
	}
	r.uploads.resumed(req.uploader(), upload{req.name, req.reference})
	return u, nil
}

// getUpload says how many bytes an upload has, so that its client can go on with it. It answers a client that carries a
// state of the upload, which may be an old one, or whose user began it. For others the upload is unknown.
func (r *Registry) getUpload(w *response, hr *http.Request, req *request) error {
	if _, ok := r.carriedSize(hr, req); !ok && !r.uploads.ownedBy(req.login.user, upload{req.name, req.reference}) {
		return content.ErrUnknown
	}
	size, err := r.content.UploadSize(req.name, req.reference)
	if err != nil {
		return err
	}
	r.progress(w, hr, req.name, req.reference, size)
	w.begin(http.StatusNoContent, noLength)
	return nil
}

func (r *Registry) patchUpload(w *response, hr *http.Request, req *request) error {
	u, err := r.resume(hr, req)
	if err != nil {
		return err
	}
	defer r.leave(u)
	if err := r.receive(u, hr); err != nil {
		return err
	}
	w.accepted(r, hr, u)
	return nil
}

func (r *Registry) putUpload(w *response, hr *http.Request, req *request) error {
	d, err := parseDigest(hr.URL.Query().Get("digest"))
	u, rerr := r.resume(hr, req)
	if rerr != nil {
		return rerr
	}
	defer r.leave(u)
	if err != nil {
		return err // the client may try again
	}
	u.Expect(d.Algorithm())
	if err := r.receive(u, hr); err != nil {
		return err
	}
	return r.finish(w, hr, req, u, d)
}

func (r *Registry) deleteUpload(w *response, hr *http.Request, req *request) error {
	u, err := r.resume(hr, req)
	if err != nil {
		return err
	}
	defer r.leave(u)
	u.Cancel()
	w.begin(http.StatusNoContent, noLength)
	return nil
}

// receive appends the request's body. An upload for which there is no room is removed, since it takes that of others.
func (r *Registry) receive(u content.Upload, hr *http.Request) error {
	if err := checkRange(hr, u.Size()); err != nil {
		return err
	}
	err := u.Receive(hr.Context(), hr.Body, hr.ContentLength)
	if errors.As(err, new(*content.WriteError)) || errors.As(err, new(*content.FullError)) {
		u.Cancel()
	}
	return err
}

func (r *Registry) finish(w *response, hr *http.Request, req *request, u content.Upload, d digest.Digest) error {
	size := u.Size()
	if err := u.Finish(hr.Context(), d); err != nil {
		return err
	}
	req.access(d, size)
	w.created(hr, req.name, d)
	return nil
}

var contentRange = regexp.MustCompile(`^([0-9]{1,18})-([0-9]{1,18})$`)

// checkRange requires that a piece begins where the upload ends.
func checkRange(hr *http.Request, size int64) error {
	value := hr.Header.Get("Content-Range")
	if value == "" {
		return nil
	}
	parts := contentRange.FindStringSubmatch(value)
	if parts == nil {
		return errRangeMalformed
	}
	from, _ := strconv.ParseInt(parts[1], 10, 64) // 18 digits fit
	to, _ := strconv.ParseInt(parts[2], 10, 64)
	switch {
	case from > to || from != size:
		return errcode.ErrorCodeRangeInvalid.WithMessage(fmt.Sprintf("the upload has %d bytes; go on from there", size))
	case hr.ContentLength >= 0 && hr.ContentLength != to-from+1:
		return errcode.ErrorCodeSizeInvalid
	}
	return nil
}
