package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/distribution/v3"
	_ "github.com/distribution/distribution/v3/manifest/manifestlist" // the kinds of manifests that are taken
	_ "github.com/distribution/distribution/v3/manifest/ocischema"
	_ "github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// getManifest sends a manifest as it was pushed, whatever the client accepts: it is never converted.
func (r *Registry) getManifest(a *answer, hr *http.Request, req *request) error {
	m, err := r.content.Manifest(hr.Context(), req.name, req.reference, content.Read)
	if err != nil {
		return err
	}
	if len(m.Data) > content.MaxCached && req.method == http.MethodGet { // else it is in memory once
		held := r.room.enter(clientOf(hr), func() { a.pace.stop(a.pace.conn.SetWriteDeadline) })
		defer held.leave()
		if err := held.grow(hr.Context(), int64(len(m.Data))); err != nil {
			return err
		}
	}
	h := a.Header()
	h.Set("Docker-Content-Digest", string(m.Digest))
	h.Set("Etag", `"`+string(m.Digest)+`"`)
	req.access(m.Digest, int64(len(m.Data)))
	if matches(hr.Header["If-None-Match"], string(m.Digest)) {
		a.begin(http.StatusNotModified, unsaid)
		return nil
	}
	h.Set("Content-Type", m.MediaType)
	a.begin(http.StatusOK, int64(len(m.Data)))
	if req.method == http.MethodHead {
		return nil
	}
	_, err = a.Write(m.Data)
	return a.brokenOff(err)
}

// matches says whether a client has the content of a digest already. Tags are quoted, or as some clients
// send them not.
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
func (r *Registry) putManifest(a *answer, hr *http.Request, req *request) error {
	held := r.room.enter(clientOf(hr), func() { a.pace.stop(a.pace.conn.SetReadDeadline) })
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
	if strings.Contains(req.reference, ":") {
		want := digest.Digest(req.reference)
		if m.Digest = want.Algorithm().FromBytes(data); m.Digest != want {
			return errcode.ErrorCodeDigestInvalid.WithMessage(fmt.Sprintf("the manifest has the digest %s", m.Digest))
		}
		if tags, err = tagParameters(hr.URL.Query()); err != nil {
			return err
		}
	}
	if m.Content, err = r.parse(hr, data); err != nil {
		return err
	}
	if err := r.open(hr.Context(), a); err != nil {
		return err
	}
	if err := r.content.PutManifest(hr.Context(), req.name, m); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := r.content.PutTag(hr.Context(), req.name, tag, m.Digest); err != nil {
			return err
		}
		a.Header().Add("OCI-Tag", tag)
	}
	req.access(m.Digest, int64(len(data)))
	h := a.Header()
	if m.Subject != "" {
		h.Set("OCI-Subject", string(m.Subject))
	}
	h.Set("Docker-Content-Digest", string(m.Digest))
	h.Set("Location", fmt.Sprintf("%s/v2/%s/manifests/%s", origin(hr), req.name, m.Digest))
	a.begin(http.StatusCreated, 0)
	return nil
}

// deleteManifest takes a tag away, or a manifest with all its tags.
func (r *Registry) deleteManifest(a *answer, hr *http.Request, req *request) (err error) {
	if strings.Contains(req.reference, ":") {
		err = r.content.DeleteManifest(hr.Context(), req.name, digest.Digest(req.reference))
	} else {
		err = r.content.DeleteTag(hr.Context(), req.name, req.reference)
	}
	if err == nil {
		a.begin(http.StatusAccepted, 0)
	}
	return err
}

// maxTags bounds how many tags one PUT moves.
const maxTags = 100

func tagParameters(q url.Values) ([]string, error) {
	tags := q["tag"]
	if len(tags) > maxTags {
		return nil, errcode.ErrorCodeTagInvalid.WithMessage(fmt.Sprintf("a manifest gets at most %d tags at once", maxTags))
	}
	for _, tag := range tags {
		if !layout.ValidTag(tag) {
			return nil, errcode.ErrorCodeTagInvalid.WithDetail(tag)
		}
	}
	return tags, nil
}

// readManifest reads a body into memory: as much as was announced has room before any of it, else what comes.
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

// parsers is how many large manifests are parsed at a time, each of which takes fifteen times its length meanwhile.
const parsers = 2

// parse parses a manifest. A large one waits for its turn; small ones do not.
func (r *Registry) parse(hr *http.Request, data []byte) (*index.Content, error) {
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

// maxReferences bounds what one manifest makes the index write, under its lock. Images have up to 127 layers.
const maxReferences = 10_000

// parseManifest takes a manifest that distribution takes, too, and that every reader understands alike.
func parseManifest(contentType string, data []byte) (*index.Content, error) {
	c, err := index.ParseContent(data)
	if err == nil {
		err = index.CheckUnambiguous(data)
	}
	switch {
	case err != nil:
		return nil, err
	case c.MediaType == index.SchemaOne:
		return nil, errors.New("schema 1 manifests are not supported")
	case len(c.References) > maxReferences:
		return nil, fmt.Errorf("manifest refers to %d others, more than %d", len(c.References), maxReferences)
	}
	mediaType, _, _ := strings.Cut(contentType, ";")
	m, _, err := distribution.UnmarshalManifest(strings.TrimSpace(mediaType), data)
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

// checkURL wants a place where a layer may be. Whoever pulls the image goes there.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "") {
		err = errors.New("not a location on the web")
	}
	if err != nil {
		return fmt.Errorf("layer URL %q: %w", s, err)
	}
	return nil
}
