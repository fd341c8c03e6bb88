package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3"
	_ "github.com/distribution/distribution/v3/manifest/manifestlist" // the kinds of manifests that are taken
	_ "github.com/distribution/distribution/v3/manifest/ocischema"
	_ "github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// getManifest sends a manifest as it was pushed, whatever the client accepts: it is never converted.
func (r *Registry) getManifest(w *response, hr *http.Request, req *request) error {
	most := int64(content.AnyLength) // a client cannot be slow to take a header
	if req.method == http.MethodGet {
		most = content.MaxCached // shorter manifests are in memory once for all clients
	}
	m, err := r.content.Manifest(hr.Context(), req.name, req.reference, content.Read, most)
	for large := (*content.LargeError)(nil); errors.As(err, &large); {
		if err := req.shares.hold(hr.Context(), large.Size); err != nil {
			return err
		}
		m, err = r.content.Manifest(hr.Context(), req.name, req.reference, content.Read, large.Size)
	}
	if err != nil {
		return err
	}
	w.setHeader("Docker-Content-Digest", string(m.Digest))
	w.setHeader("Etag", `"`+string(m.Digest)+`"`)
	req.accessManifest(m)
	if matches(hr.Header["If-None-Match"], string(m.Digest)) {
		w.begin(http.StatusNotModified, noLength)
		return nil
	}
	w.setHeader("Content-Type", m.MediaType)
	w.begin(http.StatusOK, int64(len(m.Data)))
	if req.method == http.MethodHead {
		return nil
	}
	_, err = w.Write(m.Data)
	return w.cutShort(err)
}

// matches says whether If-None-Match names a digest. Entity tags are quoted, but some clients send them without quotes.
func matches(ifNoneMatch []string, d string) bool {
	for _, value := range ifNoneMatch {
		for tag := range strings.SplitSeq(value, ",") {
			tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
			if tag == d || tag == "*" {
				return true
			}
		}
	}
	return false
}

// putManifest stores a manifest under its digest, and under a tag or several.
func (r *Registry) putManifest(w *response, hr *http.Request, req *request) error {
	held := r.shared.memory.enter(NetworkOf(w.req.client), func() { w.pace.stop(w.pace.conn.SetReadDeadline) })
	defer held.leave()
	data, err := readManifest(hr, held, r.opts.Limits.Manifest)
	if lost := held.arrived(); lost != nil {
		return lost
	}
	if err != nil {
		return err
	}
	m := content.Manifest{Digest: digest.FromBytes(data), Data: data}
	tags := []string{req.reference}
	if isDigest(req.reference) {
		want := digest.Digest(req.reference)
		if m.Digest = want.Algorithm().FromBytes(data); m.Digest != want {
			return errcode.ErrorCodeDigestInvalid.WithMessage(fmt.Sprintf("the manifest has the digest %s", m.Digest))
		}
		if tags, err = tagParameters(hr.URL.Query()); err != nil {
			return err
		}
	}
	if m.Manifest, err = r.parse(hr, data); err != nil {
		return err
	}
	if err := req.shares.openFiles(hr.Context()); err != nil {
		return err
	}
	if err := r.content.PutManifest(hr.Context(), req.name, m, tags); err != nil {
		return err
	}
	req.accessManifest(&m)
	h := w.Header()
	if len(tags) > 0 { // one field: many clients take no more than 100 fields
		h.Set("OCI-Tag", strings.Join(tags, ", "))
	}
	if m.Subject != "" {
		h.Set("OCI-Subject", string(m.Subject))
	}
	h.Set("Docker-Content-Digest", string(m.Digest))
	h.Set("Location", fmt.Sprintf("%s/v2/%s/manifests/%s", origin(hr), req.name, m.Digest))
	w.begin(http.StatusCreated, 0)
	return nil
}

// deleteManifest removes a tag, or a manifest with all its tags.
func (r *Registry) deleteManifest(w *response, hr *http.Request, req *request) error {
	if !isDigest(req.reference) {
		if err := r.content.DeleteTag(hr.Context(), req.name, req.reference); err != nil {
			return err
		}
		r.trail(req).WithField("tag", req.reference).Info("a client deleted a tag")
		w.begin(http.StatusAccepted, 0)
		return nil
	}
	tags, err := r.content.DeleteManifest(hr.Context(), req.name, digest.Digest(req.reference))
	if err != nil {
		return err
	}
	r.trail(req).WithFields(logrus.Fields{"digest": req.reference, "tags": strings.Join(tags, " ")}).
		Info("a client deleted a manifest")
	w.begin(http.StatusAccepted, 0)
	return nil
}

// trail is for the line of the log about a name that a client removed, which is written whatever log.access says.
func (r *Registry) trail(req *request) logrus.FieldLogger {
	fields := logrus.Fields{"repository": req.name, "user": req.login.user, "remote": req.client.String()}
	return r.opts.Log.WithFields(fields)
}

// One PUT sets so many tags at most, of so many bytes together. The header of the answer names them, and most proxies
// accept no header above 4 KiB.
const (
	maxTags     = 100
	maxTagBytes = 3000
)

var errTooManyTags = errcode.Register("dcs", errcode.ErrorDescriptor{
	Value: "TOO_MANY_TAGS",
	Message: fmt.Sprintf("a manifest gets at most %d tags at once, of %d bytes together; "+
		"send the others in another request", maxTags, maxTagBytes),
	HTTPStatusCode: http.StatusRequestURITooLong,
})

func tagParameters(q url.Values) ([]string, error) {
	tags := q["tag"]
	if len(tags) > maxTags || len(strings.Join(tags, ", ")) > maxTagBytes {
		return nil, errTooManyTags
	}
	for _, tag := range tags {
		if !layout.ValidTag(tag) {
			return nil, errcode.ErrorCodeTagInvalid.WithDetail(tag)
		}
	}
	return tags, nil
}

// readManifest reads a body into memory. It takes room for the announced length before it reads, else as bytes come.
func readManifest(hr *http.Request, held *holding, limit int64) (data []byte, err error) {
	if hr.ContentLength > limit {
		return nil, errTooLarge.WithDetail(map[string]int64{"limit": limit})
	}
	more := hr.ContentLength + 1 // one more, to see the end
	for {
		if len(data) == cap(data) {
			more = max(more, 4<<10, int64(cap(data)))
			if err := held.grow(hr.Context(), more); err != nil {
				return nil, err
			}
			data = append(make([]byte, 0, int64(len(data))+more), data...)
		}
		n, err := hr.Body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > limit:
			return nil, errTooLarge.WithDetail(map[string]int64{"limit": limit})
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, err
		}
	}
}

// parsers is how many large manifests are parsed at a time. Parsing takes fifteen times a manifest's length in memory.
const parsers = 2

// parse parses a manifest. A large one waits for its turn.
func (r *Registry) parse(hr *http.Request, data []byte) (*manifest.Manifest, error) {
	if len(data) > content.MaxCached {
		select {
		case r.parsing <- struct{}{}:
			defer func() { <-r.parsing }()
		case <-hr.Context().Done():
			return nil, hr.Context().Err()
		}
	}
	c, err := parseManifest(hr.Header.Get("Content-Type"), data)
	if err != nil {
		return nil, errcode.ErrorCodeManifestInvalid.WithDetail(err.Error())
	}
	return c, nil
}

// maxReferences bounds the rows that one manifest makes the index write under its lock. Images have up to 127 layers.
const maxReferences = 10_000

// parseManifest accepts a manifest that distribution accepts, too, and that all readers understand in the same way.
func parseManifest(contentType string, data []byte) (*manifest.Manifest, error) {
	c, err := manifest.Parse(data)
	if err == nil {
		err = manifest.CheckUnambiguous(data)
	}
	switch {
	case err != nil:
		return nil, err
	case c.MediaType == manifest.SchemaOne:
		return nil, errors.New("schema 1 manifests are not supported")
	case len(c.References) > maxReferences:
		return nil, fmt.Errorf("manifest refers to %d others, more than %d", len(c.References), maxReferences)
	}
	mediaType, err := manifestType(contentType, c, data)
	if err != nil {
		return nil, err
	}
	m, _, err := distribution.UnmarshalManifest(mediaType, data)
	if err != nil {
		return nil, err
	}
	for _, d := range m.References() {
		for _, u := range d.URLs {
			if err := checkURL(u); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// untyped are the content types of a client that names none: curl calls everything a form.
var untyped = []string{"", "application/x-www-form-urlencoded"}

// manifestType is the media type of a manifest: that of the request, or else that of the manifest, by its mediaType
// or its shape.
func manifestType(contentType string, c *manifest.Manifest, data []byte) (string, error) {
	named, _, _ := strings.Cut(contentType, ";")
	named = strings.ToLower(strings.TrimSpace(named))
	if slices.Contains(untyped, named) {
		var own struct{ MediaType string }
		if err := json.Unmarshal(data, &own); err != nil {
			return "", err
		}
		if named = c.MediaType; own.MediaType == "" && named == v1.MediaTypeImageManifest && c.Config == "" {
			named = "" // nothing shows that it is an image
		}
	}
	if taken := distribution.ManifestMediaTypes(); !slices.Contains(taken, named) {
		slices.Sort(taken)
		return "", fmt.Errorf("the registry takes no manifests of type %q; "+
			"Content-Type and the manifest's mediaType must be one of these: %s", named, strings.Join(taken, ", "))
	}
	return named, nil
}

// checkURL refuses a URL of a foreign layer to which a client that pulls the image should not be sent.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "") {
		err = errors.New("must be an absolute http or https URL")
	}
	if err != nil {
		return fmt.Errorf("layer URL %q: %w", s, err)
	}
	return nil
}
