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

// maxEntries is what one page holds at most: distribution's default.
const maxEntries = 1000

// page reads which part of a list is wanted. Zero entries are asked for by n=0; standard is for who says no number.
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
func (r *Registry) getTags(a *answer, hr *http.Request, req *request) error {
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
		tags, err = r.allTags(hr.Context(), a, req.name, last)
	}
	if err != nil {
		return err
	}
	return r.list(a, hr, n, more, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{req.name, tags})
}

// listers is how many long lists are made at a time. Each keeps its turn until there is room for all of it.
const listers = 2

// turn waits for the turn of a long list. Meanwhile it has no file open.
func (r *Registry) turn(ctx context.Context, a *answer) error {
	if a.turn != nil {
		return nil
	}
	a.close()
	select {
	case r.listing <- struct{}{}:
		a.turn = r.listing
	case <-ctx.Done():
		return errClientLeft
	}
	return r.open(ctx, a)
}

// endTurn is for a list that is made, or never will be.
func (a *answer) endTurn() {
	if a.turn != nil {
		<-a.turn
		a.turn = nil
	}
}

// allTags lists more tags than a page has.
func (r *Registry) allTags(ctx context.Context, a *answer, repo, last string) ([]string, error) {
	if err := r.turn(ctx, a); err != nil {
		return nil, err
	}
	tags, _, err := r.content.Tags(ctx, repo, last, -1)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, tag := range tags {
		size += len(tag) + len(`"",`)
	}
	return tags, r.hold(ctx, a, int64(size))
}

// getCatalog lists the repositories that have an image.
func (r *Registry) getCatalog(a *answer, hr *http.Request, req *request) error {
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
	return r.list(a, hr, n, more, struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// list sends a page of a list.
func (r *Registry) list(a *answer, hr *http.Request, n int, more string, page any) error {
	if more != "" {
		next(a, hr, n, more)
	}
	return r.json(hr.Context(), a, "application/json", page)
}

// next names the page that follows, relative to the registry, wherever a proxy has put it.
func next(a *answer, hr *http.Request, n int, last string) {
	q := url.Values{"last": {last}}
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
	}
	if t := hr.URL.Query().Get("artifactType"); t != "" {
		q.Set("artifactType", t)
	}
	a.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, hr.URL.EscapedPath(), q.Encode()))
}

// json sends a list. A long one is held in memory until the client has taken it.
func (r *Registry) json(ctx context.Context, a *answer, contentType string, v any) error {
	data, err := json.Marshal(v)
	if err == nil && len(data) > content.MaxCached {
		err = r.hold(ctx, a, int64(len(data)))
	}
	if err != nil {
		return err
	}
	a.endTurn()
	return a.whole(contentType, append(data, '\n'))
}

// descriptor names a manifest to who follows the list of referrers.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// maxReferrers is how long a list of referrers gets, in bytes: clients read manifests of up to 4 MiB.
const maxReferrers = 3 << 20

// getReferrers lists the manifests whose subject is a digest. Nobody has to have pushed that.
func (r *Registry) getReferrers(a *answer, hr *http.Request, req *request) error {
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
		if err := r.turn(hr.Context(), a); err != nil {
			return err
		}
		return r.hold(hr.Context(), a, int64(n))
	}
	var full error
	more := ""
	whole, err := r.content.Referrers(hr.Context(), req.name, digest.Digest(req.reference), digest.Digest(last), artifactType, func(n int64) error {
		return room(size + int(n))
	}, func(m *content.Manifest) bool {
		if len(list) == n || size > maxReferrers {
			if len(list) > 0 {
				more = list[len(list)-1].Digest.String()
			}
			return false
		}
		entry := descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Data)), ArtifactType: m.ArtifactType, Annotations: annotations(m.Data)}
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
		next(a, hr, n, more)
	}
	if artifactType != "" {
		a.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if !whole {
		a.Header().Set("Warning", `299 - "the registry is still reading its disk; this list may be incomplete"`)
	}
	return r.json(hr.Context(), a, "application/vnd.oci.image.index.v1+json", struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, "application/vnd.oci.image.index.v1+json", list})
}

func annotations(manifest []byte) map[string]string {
	var m struct {
		Annotations map[string]string `json:"annotations"`
	}
	_ = json.Unmarshal(manifest, &m) // which was pushed, so it is JSON; what is no text is no annotation
	return m.Annotations
}
