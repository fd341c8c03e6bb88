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
func (r *Registry) postUpload(a *answer, hr *http.Request, req *request) error {
	q := hr.URL.Query()
	if d, err := digest.Parse(q.Get("mount")); err == nil {
		if mounted, err := r.mount(a, hr, req, d, q.Get("from")); mounted || err != nil {
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
	w := req.uploader()
	if !r.uploads.begin(w) {
		return errcode.ErrorCodeTooManyRequests.WithMessage(fmt.Sprintf("there are %d unfinished uploads of this client; finish or cancel some", r.opts.Limits.Uploads))
	}
	u, err := r.content.Begin(req.name, algorithmOf(whole, q.Get("digest-algorithm")))
	if err != nil {
		r.uploads.failed(w)
		return err
	}
	r.uploads.began(w, upload{req.name, u.ID()})
	defer r.leave(u)
	if whole == "" {
		a.accepted(r, hr, u)
		return nil
	}
	err = r.receive(u, hr)
	if err == nil {
		err = r.finish(a, hr, req, u, whole)
	}
	if err != nil && !u.Over() {
		u.Cancel() // nobody knows its name
	}
	return err
}

// uploader is who a request's uploads are counted for.
func (r *request) uploader() uploader { return uploader{r.login.user, NetworkOf(r.client)} }

// leave lets others have an upload, and counts it no more once it is over.
func (r *Registry) leave(u content.Upload) {
	u.Close()
	if u.Over() {
		r.uploads.ended(upload{u.Repository(), u.ID()})
	}
}

// algorithmOf is by what an upload is hashed on its way: as the digest that it will have, or as the client
// says; unknown otherwise.
func algorithmOf(whole digest.Digest, hint string) digest.Algorithm {
	if whole != "" {
		return whole.Algorithm()
	}
	if alg := digest.Algorithm(hint); alg.Available() {
		return alg
	}
	return ""
}

// mount links a blob that is there already. A client that is told 202 sends it.
func (r *Registry) mount(a *answer, hr *http.Request, req *request, d digest.Digest, from string) (bool, error) {
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
		a.created(hr, req.name, d)
	}
	return true, err
}

// created says that a blob is there.
func (a *answer) created(hr *http.Request, repo string, d digest.Digest) {
	h := a.Header()
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Location", fmt.Sprintf("%s/v2/%s/blobs/%s", origin(hr), repo, d))
	a.begin(http.StatusCreated, 0)
}

// accepted says how far an upload is.
func (a *answer) accepted(r *Registry, hr *http.Request, u content.Upload) {
	r.progress(a, hr, u.Repository(), u.ID(), u.Size())
	a.begin(http.StatusAccepted, 0)
}

func (r *Registry) progress(a *answer, hr *http.Request, repo, id string, size int64) {
	h := a.Header()
	h.Set("Docker-Upload-UUID", id)
	h.Set("Location", fmt.Sprintf("%s/v2/%s/blobs/uploads/%s?_state=%s", origin(hr), repo, id, r.state(repo, id, size)))
	h.Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
}

// state is what a client carries from one request of an upload to the next: how far it believes to be,
// sealed, so that nobody goes on with an upload whose name he guessed, and a repeated piece is noticed.
func (r *Registry) state(repo, id string, size int64) string {
	mac := hmac.New(sha256.New, []byte(r.opts.Secret))
	fmt.Fprintf(mac, "%s\n%s\n%d", repo, id, size)
	return strconv.FormatInt(size, 10) + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// believed is how far a client who carries an upload's state believes to be. False: it carries none.
func (r *Registry) believed(hr *http.Request, req *request) (size int64, ok bool) {
	state := hr.URL.Query().Get("_state")
	number, _, _ := strings.Cut(state, ".")
	size, err := strconv.ParseInt(number, 10, 64)
	return size, err == nil && hmac.Equal([]byte(state), []byte(r.state(req.name, req.reference, size)))
}

// resume gives an upload to who carries its state.
func (r *Registry) resume(hr *http.Request, req *request) (content.Upload, error) {
	size, ok := r.believed(hr, req)
	if !ok {
		return nil, errcode.ErrorCodeBlobUploadInvalid
	}
	u, err := r.content.Resume(req.name, req.reference)
	if err != nil {
		return nil, err
	}
	if u.Size() != size && req.method != http.MethodDelete {
		u.Close()
		return nil, errcode.ErrorCodeRangeInvalid.WithMessage(fmt.Sprintf("the upload has %d bytes, not %d; ask for its status, and go on from there", u.Size(), size))
	}
	r.uploads.resumed(req.uploader(), upload{req.name, req.reference})
	return u, nil
}

// getUpload says how far an upload is, and so lets the client go on with it: one that carries its state, though
// it may be an old one, or whose user began it. To others it is unknown.
func (r *Registry) getUpload(a *answer, hr *http.Request, req *request) error {
	if _, ok := r.believed(hr, req); !ok && !r.uploads.ownedBy(req.login.user, upload{req.name, req.reference}) {
		return content.ErrUnknown
	}
	size, err := r.content.UploadSize(req.name, req.reference)
	if err != nil {
		return err
	}
	r.progress(a, hr, req.name, req.reference, size)
	a.begin(http.StatusNoContent, unsaid)
	return nil
}

func (r *Registry) patchUpload(a *answer, hr *http.Request, req *request) error {
	u, err := r.resume(hr, req)
	if err != nil {
		return err
	}
	defer r.leave(u)
	if err := r.receive(u, hr); err != nil {
		return err
	}
	a.accepted(r, hr, u)
	return nil
}

func (r *Registry) putUpload(a *answer, hr *http.Request, req *request) error {
	d, err := parseDigest(hr.URL.Query().Get("digest"))
	u, rerr := r.resume(hr, req)
	if rerr != nil {
		return rerr
	}
	defer r.leave(u)
	if err != nil {
		return err // it may try again
	}
	u.Expect(d.Algorithm())
	if err := r.receive(u, hr); err != nil {
		return err
	}
	return r.finish(a, hr, req, u, d)
}

func (r *Registry) deleteUpload(a *answer, hr *http.Request, req *request) error {
	u, err := r.resume(hr, req)
	if err != nil {
		return err
	}
	defer r.leave(u)
	u.Cancel()
	a.begin(http.StatusNoContent, unsaid)
	return nil
}

// receive appends what the request brings. What does not fit on the disk goes: it is what fills it.
func (r *Registry) receive(u content.Upload, hr *http.Request) error {
	if err := checkRange(hr, u.Size()); err != nil {
		return err
	}
	err := u.Receive(hr.Body, hr.ContentLength)
	if errors.As(err, new(*content.WriteError)) {
		u.Cancel()
	}
	return err
}

func (r *Registry) finish(a *answer, hr *http.Request, req *request, u content.Upload, d digest.Digest) error {
	size := u.Size()
	if err := u.Finish(hr.Context(), d); err != nil {
		return err
	}
	req.access(d, size)
	a.created(hr, req.name, d)
	return nil
}

var contentRange = regexp.MustCompile(`^([0-9]{1,18})-([0-9]{1,18})$`)

// checkRange wants a piece to begin where the upload ends.
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
		return errcode.ErrorCodeRangeInvalid.WithMessage(fmt.Sprintf("the upload has %d bytes: go on from there", size))
	case hr.ContentLength >= 0 && hr.ContentLength != to-from+1:
		return errcode.ErrorCodeSizeInvalid
	}
	return nil
}
