package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// maxEntries is how many entries a page has at most: distribution's default.
const maxEntries = 1000

// page reads which part of a list is asked for: n entries after last. standard is n for a request without a number.
func page(q url.Values, standard int) (n int, last string, err error) {
	n = standard
	if q.Has("n") {
		if n, err = strconv.Atoi(q.Get("n")); err != nil || n < 0 {
			return 0, "", errcode.ErrorCodePaginationNumberInvalid.WithDetail(map[string]string{"n": q.Get("n")})
		}
		n = min(n, maxEntries) // the rest is behind the link
	}
	return n, q.Get("last"), nil
}

// getTags lists the tags of a repository: all, or a page of them.
func (r *Registry) getTags(w *response, hr *http.Request, req *request) error {
	q := hr.URL.Query()
	n, last, err := page(q, -1)
	if err == nil && last != "" && !layout.ValidTag(last) {
		err = errcode.ErrorCodeTagInvalid.WithDetail(last)
	}
	if err != nil {
		return err
	}
	most := n
	if n < 0 {
		most = maxEntries // few have more
	}
	tags, more, err := r.content.Tags(hr.Context(), req.name, last, most)
	if n < 0 && more != "" {
		more = ""
		tags, err = r.allTags(hr.Context(), req, last)
	}
	if err != nil {
		return err
	}
	return w.list(hr, n, more, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{req.name, tags})
}

// listers is how many long lists are made at a time. A request keeps its turn until there is room for the whole list.
const listers = 2

// allTags lists more tags than a page has.
func (r *Registry) allTags(ctx context.Context, req *request, last string) ([]string, error) {
	if err := req.shares.takeTurn(ctx); err != nil {
		return nil, err
	}
	tags, _, err := r.content.Tags(ctx, req.name, last, -1)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, tag := range tags {
		size += len(tag) + len(`"",`)
	}
	return tags, req.shares.hold(ctx, int64(size))
}

// getCatalog lists the repositories that have an image.
func (r *Registry) getCatalog(w *response, hr *http.Request, req *request) error {
	n, last, err := page(hr.URL.Query(), maxEntries)
	if err == nil && last != "" && !layout.ValidName(last) {
		err = errcode.ErrorCodeNameInvalid.WithDetail(last)
	}
	if err != nil {
		return err
	}
	names, more, err := r.content.Repositories(hr.Context(), last, n)
	if err != nil {
		return err
	}
	return w.list(hr, n, more, struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// list sends a page of a list.
func (w *response) list(hr *http.Request, n int, more string, page any) error {
	if more != "" {
		next(w, hr, n, more)
	}
	return w.json(hr.Context(), "application/json", page)
}

// next names the page that follows, by its path, which is right behind any proxy.
func next(w *response, hr *http.Request, n int, last string) {
	q := url.Values{"last": {last}}
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
	}
	if t := hr.URL.Query().Get("artifactType"); t != "" {
		q.Set("artifactType", t)
	}
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, hr.URL.EscapedPath(), q.Encode()))
}

// json sends a list. A long one takes room in memory until the client has taken it.
func (w *response) json(ctx context.Context, contentType string, v any) error {
	data, err := json.Marshal(v)
	if err == nil && len(data) > content.MaxCached {
		err = w.req.shares.hold(ctx, int64(len(data)))
	}
	if err != nil {
		return err
	}
	w.req.shares.endTurn()
	return w.whole(contentType, append(data, '\n'))
}

// descriptor names a manifest in a list of referrers.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// maxReferrers is the length of a list of referrers in bytes: clients read manifests of up to 4 MiB.
const maxReferrers = 3 << 20

// getReferrers lists the manifests whose subject is a digest. The subject itself need not exist.
func (r *Registry) getReferrers(w *response, hr *http.Request, req *request) error {
	q := hr.URL.Query()
	n, last, err := page(q, maxEntries)
	if err == nil && last != "" {
		_, err = parseDigest(last)
	}
	if err != nil {
		return err
	}
	artifactType := q.Get("artifactType")
	list := []descriptor{}
	size := 0
	room := func(n int) error {
		if n <= content.MaxCached {
			return nil
		}
		if err := req.shares.takeTurn(hr.Context()); err != nil {
			return err
		}
		return req.shares.hold(hr.Context(), int64(n))
	}
	var full error
	more := ""
	subject, after := digest.Digest(req.reference), digest.Digest(last)
	whole, err := r.content.Referrers(hr.Context(), req.name, subject, after, artifactType, func(n int64) error {
		return room(size + int(n))
	}, func(m *content.Manifest) bool {
		if len(list) == n || size > maxReferrers {
			if len(list) > 0 {
				more = list[len(list)-1].Digest.String()
			}
			return false
		}
		entry := descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Data)),
			ArtifactType: m.ArtifactType, Annotations: annotations(m.Data)}
		encoded, _ := json.Marshal(entry)
		size += len(encoded)
		list = append(list, entry)
		full = room(size)
		return full == nil
	})
	if err = cmp.Or(full, err); err != nil {
		return err
	}
	if more != "" {
		next(w, hr, n, more)
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if !whole {
		w.Header().Set("Warning", `299 - "the registry is still reading its disk; this list may be incomplete"`)
	}
	return w.json(hr.Context(), "application/vnd.oci.image.index.v1+json", struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, "application/vnd.oci.image.index.v1+json", list})
}

func annotations(manifest []byte) map[string]string {
	var m struct {
		Annotations map[string]string `json:"annotations"`
	}
	_ = json.Unmarshal(manifest, &m) // it was pushed, so it is JSON; an annotation that is no text is none
	return m.Annotations
}
