package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/fsck"
)

const emptyConfig = "application/vnd.oci.empty.v1+json"

// artifact pushes a manifest with a config and a layer of its own, about a subject, under a tag or a digest.
func (w *world) artifact(repo, reference, kind, subject string) string {
	w.Helper()
	config, layer := w.upload(repo, []byte("{}")), w.upload(repo, []byte(kind+subject))
	m := map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "artifactType": kind,
		"config": descriptor(emptyConfig, config, 2),
		"layers": []any{descriptor("text/plain", layer,
			len(kind+subject))}, "annotations": map[string]string{"kind": kind}}
	if subject != "" {
		m["subject"] = descriptor(ociManifest, subject, 1)
	}
	return w.put(repo, reference, m)
}

type referrers struct {
	SchemaVersion int
	MediaType     string
	Manifests     []struct {
		MediaType, Digest, ArtifactType string
		Size                            int64
		Annotations                     map[string]string
	}
}

// referrers follows the pages of a list, and returns the digests.
func (w *world) referrers(repo, subject, query string) (digests []string, pages int) {
	w.Helper()
	for next := "/v2/" + repo + "/referrers/" + subject + query; next != ""; pages++ {
		resp := w.want(200, "GET", next, nil, "")
		var list referrers
		if err := json.Unmarshal(w.read(resp), &list); err != nil || list.SchemaVersion != 2 ||
			list.MediaType != ociIndex || list.Manifests == nil || resp.Header.Get("Content-Type") != ociIndex {
			w.Fatalf("%s: %+v, %v", next, list, err)
		}
		for _, m := range list.Manifests {
			if m.MediaType != ociManifest || m.Size == 0 || m.Annotations["kind"] != m.ArtifactType {
				w.Errorf("%s lists %+v", next, m)
			}
			digests = append(digests, m.Digest)
		}
		link, _, _ := strings.Cut(resp.Header.Get("Link"), ">")
		next = strings.TrimPrefix(link, "<")
	}
	slices.Sort(digests)
	return digests, pages
}

func sorted(digests ...string) []string {
	slices.Sort(digests)
	return digests
}

func TestReferrers(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	subject := hashOf(t, img)
	early := w.artifact("app", "", "application/sbom", subject) // before its subject
	w.push("app:v1", img)
	var signatures []string
	for i := range 5 {
		signatures = append(signatures, w.artifact("app", "", fmt.Sprint("application/signature.", i), subject))
	}
	w.artifact("other", "", "application/sbom", subject)
	all := sorted(append([]string{early}, signatures...)...)

	if got, _ := w.referrers("app", subject, ""); !slices.Equal(got, all) {
		t.Errorf("%v; want %v", got, all)
	}
	if got, pages := w.referrers("app", subject, "?n=2"); !slices.Equal(got, all) || pages != 3 {
		t.Errorf("in %d pages: %v; want %v", pages, got, all)
	}
	if got, _ := w.referrers("app", subject, "?artifactType=application/sbom"); !slices.Equal(got, []string{early}) {
		t.Errorf("filtered: %v; want %s", got, early)
	}
	for query, want := range map[string]string{"?artifactType=application/sbom": "artifactType", "": ""} {
		resp := w.want(200, "GET", "/v2/app/referrers/"+subject+query, nil, "")
		if got := resp.Header.Get("OCI-Filters-Applied"); got != want {
			t.Errorf("%q: filters applied: %q; want %q", query, got, want)
		}
	}
	if got, _ := w.referrers("app", digestOf([]byte("nothing")), ""); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
	if got, _ := w.referrers("never/seen", subject, ""); len(got) != 0 {
		t.Errorf("in no repository: %v", got)
	}

	w.want(202, "DELETE", "/v2/app/manifests/"+early, nil, "")
	if got, _ := w.referrers("app", subject, ""); !slices.Equal(got, sorted(signatures...)) {
		t.Errorf("after a delete: %v; want %v", got, signatures)
	}
	w.restart()
	if got, _ := w.referrers("app", subject, ""); !slices.Equal(got, sorted(signatures...)) {
		t.Errorf("after a restart: %v; want %v", got, signatures)
	}
	w.stop() // a directory that no dcs ever saw
	if err := os.RemoveAll(filepath.Join(w.dir, ".metadata")); err != nil {
		t.Fatal(err)
	}
	w.start()
	if got, _ := w.referrers("app", subject, ""); !slices.Equal(got, sorted(signatures...)) {
		t.Errorf("after adoption: %v; want %v", got, signatures)
	}
}

// TestAListThatMayBeIncompleteSaysSo holds it for referrers while the index is not whole. Tags and repositories are
// looked for on disk then.
func TestAListThatMayBeIncompleteSaysSo(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	if _, err := w.s.store.Index.CloseGate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if warning := w.want(200, "GET", "/v2/app/referrers/"+digestOf(nil), nil,
		"").Header.Get("Warning"); !strings.HasPrefix(warning, "299 - ") {
		t.Errorf("warning %q", warning)
	}
	for path, want := range map[string]string{"/v2/app/tags/list": "v1", "/v2/_catalog": "app"} {
		if got := string(w.read(w.want(200, "GET", path, nil, ""))); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
	w.want(404, "GET", "/v2/none/tags/list", nil, "")
}

// TestASignatureLivesAndGoesWithItsImage holds it for a referrer, for cosign's tag, and for the tag under which
// clients list referrers where a registry cannot.
func TestASignatureLivesAndGoesWithItsImage(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	subject := hashOf(t, img)
	fallback := strings.Replace(subject, ":", "-", 1)
	sbom := w.artifact("app", "", "application/sbom", subject)
	w.artifact("app", fallback+".sig", "application/signature", "")
	size := len(w.read(w.want(200, "GET", "/v2/app/manifests/"+sbom, nil, "")))
	w.put("app", fallback, map[string]any{"schemaVersion": 2, "mediaType": ociIndex,
		"manifests": []any{descriptor(ociManifest, sbom, size)}})
	w.keepUsing(4, func() { w.head("app:v1") })
	w.pull("app:v1")
	w.pull("app:" + fallback + ".sig")
	w.pull("app:" + fallback)
	w.pull("app@" + sbom)
	w.pass(ttl + 2*time.Minute)
	w.expire()
	w.empty()
}

// TestDigestsOfEveryAlgorithm holds that what is pushed by another algorithm is found under it, through all of its
// life.
func TestDigestsOfEveryAlgorithm(t *testing.T) {
	for _, alg := range []digest.Algorithm{digest.SHA384, digest.SHA512} {
		t.Run(alg.String(), func(t *testing.T) {
			w := newWorld(t)
			session := func(query string) string {
				return w.want(202, "POST", "/v2/app/blobs/uploads/"+query, nil, "").Header.Get("Location")
			}
			layer, config := []byte("a layer"), []byte("{}")
			ld, cd := alg.FromBytes(layer), alg.FromBytes(config)
			w.want(201, "PUT", session("")+"&digest="+ld.String(), layer, "")
			w.want(201, "POST", "/v2/app/blobs/uploads/?digest="+cd.String(), config, "")
			for what, query := range map[string]string{"hinted": "?digest-algorithm=" + alg.String(), "not hinted": "",
				"hinted wrongly": "?digest-algorithm=md5"} {
				data := []byte("in pieces, " + what)
				loc := w.want(202, "PATCH", session(query), data[:5], "").Header.Get("Location")
				loc = w.want(202, "PATCH", loc, data[5:], "").Header.Get("Location")
				resp := w.want(201, "PUT", loc+"&digest="+alg.FromBytes(data).String(), nil, "")
				if got := resp.Header.Get("Docker-Content-Digest"); got != alg.FromBytes(data).String() {
					t.Errorf("stored under %s", got)
				}
			}
			w.want(201, "POST", "/v2/other/blobs/uploads/?mount="+ld.String()+"&from=app", nil, "")
			w.want(201, "POST", "/v2/third/blobs/uploads/?mount="+ld.String(), nil, "")
			w.want(400, "PUT", session("")+"&digest="+alg.FromString("other").String(), layer, "")
			resp := w.want(200, "GET", "/v2/other/blobs/"+ld.String(), nil, "")
			if got := w.read(resp); !bytes.Equal(got, layer) ||
				resp.Header.Get("Docker-Content-Digest") != ld.String() {
				t.Errorf("%q under %s", got, resp.Header.Get("Docker-Content-Digest"))
			}

			data, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
				"config": descriptor(ociConfig, cd.String(), len(config)),
				"layers": []any{descriptor(ociLayer, ld.String(), len(layer))}})
			if err != nil {
				t.Fatal(err)
			}
			md := alg.FromBytes(data)
			w.want(400, "PUT", "/v2/app/manifests/"+alg.FromString("other").String(), data, ociManifest)
			w.want(201, "PUT", "/v2/app/manifests/"+md.String()+"?tag=v1&tag=v2", data, ociManifest)
			resp = w.want(200, "GET", "/v2/app/manifests/v2", nil, "")
			if got := w.read(resp); !bytes.Equal(got, data) || resp.Header.Get("Docker-Content-Digest") != md.String() {
				t.Errorf("%q under %s", got, resp.Header.Get("Docker-Content-Digest"))
			}
			file := filepath.Join(w.dir, "docker/registry/v2/blobs", alg.String(), md.Encoded()[:2], md.Encoded(),
				"data")
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
				t.Errorf("on disk: %q, %v", got, err)
			}
			w.keepUsing(3, func() { w.want(200, "HEAD", "/v2/app/manifests/v1", nil, "") })
			w.want(200, "GET", "/v2/app/blobs/"+ld.String(), nil, "")
			w.clean()
			w.restart()
			w.want(200, "GET", "/v2/app/blobs/"+ld.String(), nil, "")
			w.pass(ttl + 2*time.Minute)
			w.expire()
			w.empty()
		})
	}
}

// clean wants a deep check to find nothing.
func (w *world) clean() {
	w.Helper()
	w.flush()
	problems, _, err := fsck.Check(w.Context(), &w.s.store.Store, fsck.CheckOptions{Deep: true})
	if err != nil || len(problems) > 0 {
		w.Errorf("%+v %v", problems, err)
	}
}

func TestATagParameterMovesSeveralTags(t *testing.T) {
	w := newWorld(t)
	data := []byte(`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`)
	d := digestOf(data)
	resp := w.want(201, "PUT", "/v2/app/manifests/"+d+"?tag=a&tag=b", data, ociIndex)
	if got := resp.Header.Values("OCI-Tag"); !slices.Equal(got, []string{"a, b"}) {
		t.Errorf("OCI-Tag %q", got)
	}
	w.pull("app:a")
	w.pull("app:b")
	if errs := errorsOf(t, w.want(400, "PUT", "/v2/app/manifests/"+d+"?tag=c&tag=..", data,
		ociIndex)); errs[0].Code != "TAG_INVALID" {
		t.Errorf("%+v", errs)
	}
	w.gone("app:c")
	w.want(414, "PUT", "/v2/app/manifests/"+d+"?"+strings.Repeat("tag=x&", 101), data, ociIndex)
}

// Clients and proxies bound the header of an answer: 100 fields, 4 KiB.
func TestTheAnswerToManyTagsHasASmallHeader(t *testing.T) {
	w := newWorld(t)
	data := []byte(`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`)
	put := func(status, n int, name string) *http.Response {
		q := url.Values{}
		for i := range n {
			q.Add("tag", fmt.Sprintf("%s%03d", name, i))
		}
		return w.want(status, "PUT", "/v2/app/manifests/"+digestOf(data)+"?"+q.Encode(), data, ociIndex)
	}
	for _, resp := range []*http.Response{put(201, 100, "a-tag-of-version-"), put(201, 20, strings.Repeat("x", 125))} {
		fields, size := 0, 0
		for name, values := range resp.Header {
			for _, v := range values {
				fields, size = fields+1, size+len(name)+len(v)+4
			}
		}
		if fields > 20 || size > 4000 {
			t.Errorf("%d fields, %d bytes", fields, size)
		}
	}
	put(414, 101, "v")
	if errs := errorsOf(t, put(414, 30, strings.Repeat("x", 125))); errs[0].Code != "TOO_MANY_TAGS" {
		t.Errorf("%+v", errs)
	}
}

func TestAnUploadGoesOnAfterARestart(t *testing.T) {
	w := newWorld(t)
	data := []byte("first half, second half")
	loc := w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
	loc = w.want(202, "PATCH", loc, data[:11], "").Header.Get("Location")
	path := strings.TrimPrefix(loc, w.http.URL)
	w.restart()
	resp := w.want(204, "GET", path, nil, "")
	if got := resp.Header.Get("Range"); got != "0-10" {
		t.Errorf("Range %s", got)
	}
	loc = w.want(202, "PATCH", resp.Header.Get("Location"), data[11:], "").Header.Get("Location")
	w.want(201, "PUT", loc+"&digest="+digestOf(data), nil, "")
	if got := w.read(w.want(200, "GET", "/v2/app/blobs/"+digestOf(data), nil, "")); !bytes.Equal(got, data) {
		t.Errorf("%q", got)
	}
}

// TestAPieceThatIsSentTwiceCountsOnce holds that a client whose answer was lost does not spoil its upload.
func TestAPieceThatIsSentTwiceCountsOnce(t *testing.T) {
	w := newWorld(t)
	loc := w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
	w.want(202, "PATCH", loc, []byte("piece"), "")
	if errs := errorsOf(t, w.want(416, "PATCH", loc, []byte("piece"), "")); errs[0].Code != "RANGE_INVALID" {
		t.Errorf("%+v", errs)
	}
	loc = w.want(204, "GET", loc, nil, "").Header.Get("Location") // with the state that it has, of before the piece
	w.want(201, "PUT", loc+"&digest="+digestOf([]byte("piece")), nil, "")
}

// TestAnUploadThatBrokeOffGoesOn: what came before the connection was lost is there.
func TestAnUploadThatBrokeOffGoesOn(t *testing.T) {
	w := newWorld(t)
	loc := w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
	conn, err := net.Dial("tcp", w.host)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\nshort", loc, w.host)
	conn.Close()
	var resp *http.Response
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		resp = w.want(204, "GET", loc, nil, "")
		if resp.Header.Get("Range") == "0-4" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Range %s", resp.Header.Get("Range"))
		}
	}
	data := []byte("short and the rest")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // until the server noticed
		status := w.do("PUT", resp.Header.Get("Location")+"&digest="+digestOf(data), data[5:], "").StatusCode
		if status == 201 {
			return
		}
		if status != 416 || time.Now().After(deadline) {
			t.Fatalf("going on: %d", status)
		}
	}
}

func TestUploadsThatEndLeaveNothing(t *testing.T) {
	w := newWorld(t)
	for what, ends := range map[string]func(loc string){
		"cancelled": func(loc string) { w.want(204, "DELETE", loc, nil, "") },
		"cancelled with an old state": func(loc string) {
			w.want(202, "PATCH", loc, []byte("data"), "")
			w.want(204, "DELETE", loc, nil, "")
		},
		"of a wrong digest": func(loc string) {
			w.want(400, "PUT", loc+"&digest="+digestOf([]byte("x")), []byte("y"),
				"")
		},
		"in one request, and wrong": func(string) {
			w.want(400, "POST", "/v2/one/blobs/uploads/?digest="+digestOf([]byte("x")), []byte("y"), "")
		},
		"in one request by no digest": func(string) {
			w.want(400, "POST", "/v2/one/blobs/uploads/?digest=x",
				[]byte("y"), "")
		},
		"in one request that breaks off": func(string) {
			w.breakOff("POST /v2/one/blobs/uploads/?digest=" +
				digestOf([]byte("x")))
		},
	} {
		loc := w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
		ends(loc)
		if strings.HasPrefix(what, "in one") {
			w.want(204, "DELETE", loc, nil, "")
		}
		for deadline := time.Now().Add(time.Minute); len(w.files()) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("an upload that was %s left %v", what, w.files())
			}
		}
	}
}

// breakOff sends half of a request's body.
func (w *world) breakOff(request string) {
	w.Helper()
	conn, err := net.Dial("tcp", w.host)
	if err != nil {
		w.Fatal(err)
	}
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\nshort", request, w.host)
	conn.Close()
}

func TestAMountFromAnywhere(t *testing.T) {
	w := newWorld(t)
	data := []byte("a layer")
	d := w.upload("app", data)
	w.want(201, "POST", "/v2/other/blobs/uploads/?mount="+d, nil, "")
	w.want(200, "GET", "/v2/other/blobs/"+d, nil, "")
	w.want(202, "POST", "/v2/other/blobs/uploads/?mount="+digestOf([]byte("absent")), nil, "")
}

// TestAManifestThatAClientHasIsNotSent: a 304 is a use like any other.
func TestAManifestThatAClientHasIsNotSent(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	d := hashOf(t, img)
	ask := func(reference, ifNoneMatch string) int {
		req, err := http.NewRequest("GET", w.http.URL+"/v2/app/manifests/"+reference, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", ifNoneMatch)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if data, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode == 304 && len(data) > 0 {
			t.Errorf("%s: %q %v", ifNoneMatch, data, err)
		}
		return resp.StatusCode
	}
	for etag, want := range map[string]int{`"` + d + `"`: 304, d: 304, `W/"` + d + `"`: 304, "*": 304,
		`"x", "` + d + `"`: 304, `"` + digestOf(nil) + `"`: 200} {
		for _, reference := range []string{"v1", d} {
			if got := ask(reference, etag); got != want {
				t.Errorf("%s with %s: %d; want %d", reference, etag, got, want)
			}
		}
	}
	w.keepUsing(3, func() { ask("v1", `"`+d+`"`) })
	w.pull("app:v1")
	w.pass(ttl + 2*time.Minute)
	w.expire()
	if got := ask("v1", `"`+d+`"`); got != 404 {
		t.Errorf("of what is gone: %d", got)
	}
}

// TestACatalogInPages holds that repositories come and go without another being listed twice or left out.
func TestACatalogInPages(t *testing.T) {
	w := newWorld(t)
	data := []byte(`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`)
	var want []string
	for i := range 25 {
		repo := fmt.Sprintf("team-%02d/app", i)
		want = append(want, repo)
		w.want(201, "PUT", "/v2/"+repo+"/manifests/v1", data, ociIndex)
	}
	var got []string
	for next, page := "/v2/_catalog?n=10", 0; next != ""; page++ {
		resp := w.want(200, "GET", next, nil, "")
		var list struct{ Repositories []string }
		if err := json.Unmarshal(w.read(resp), &list); err != nil || len(list.Repositories) > 10 {
			t.Fatalf("a page of %d, %v", len(list.Repositories), err)
		}
		got = append(got, list.Repositories...)
		if page == 0 { // before and behind what was listed
			w.want(201, "PUT", "/v2/aaa/manifests/v1", data, ociIndex)
			w.want(202, "DELETE", "/v2/team-00/app/manifests/"+digestOf(data), nil, "")
		}
		link, _, _ := strings.Cut(resp.Header.Get("Link"), ">")
		next = strings.TrimPrefix(link, "<")
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %v", got)
	}
	for query, n := range map[string]int{"?n=0": 0, "?last=team-23/app": 1, "?last=zzz": 0} {
		var list struct{ Repositories []string }
		resp := w.want(200, "GET", "/v2/_catalog"+query, nil, "")
		if err := json.Unmarshal(w.read(resp), &list); err != nil || len(list.Repositories) != n ||
			list.Repositories == nil || resp.Header.Get("Link") != "" {
			t.Errorf("%s: %v %v, Link %q", query, list.Repositories, err, resp.Header.Get("Link"))
		}
	}
}

// Pages of a list go on where the last one ended, in one order and by the same rules, also when the index becomes
// whole in between.
func TestListsAreTheSameWhileTheGateIsShut(t *testing.T) {
	w := newWorld(t)
	data := []byte(`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`)
	repos := []string{"math", "math-voila", "math.z", "math/x", "math/x/y", "math0"}
	tags := []string{"A", "_", "a", "a-b", "a.b"}
	for _, repo := range repos {
		w.want(201, "PUT", "/v2/"+repo+"/manifests/v1", data, ociIndex)
	}
	for _, tag := range tags {
		w.want(201, "PUT", "/v2/tagged/manifests/"+tag, data, ociIndex)
	}
	w.upload("uploads/only", []byte("a layer"))
	repos = append(repos, "tagged")
	shut := func() {
		if _, err := w.s.store.Index.CloseGate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	open := func() {
		token, err := w.s.store.Index.CloseGate(t.Context())
		if err == nil {
			_, err = w.s.store.Index.OpenGate(t.Context(), token)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, before := range map[string][]func(){"open": {open, open}, "shut": {shut, shut}, "opens": {shut, open},
		"shuts": {open, shut}} {
		for path, want := range map[string][]string{"/v2/_catalog": repos, "/v2/tagged/tags/list": tags} {
			var got []string
			for next, page := path+"?n=2", 0; next != ""; page++ {
				before[page%2]()
				resp := w.want(200, "GET", next, nil, "")
				var list struct{ Repositories, Tags []string }
				if err := json.Unmarshal(w.read(resp), &list); err != nil {
					t.Fatal(err)
				}
				got = append(append(got, list.Repositories...), list.Tags...)
				link, _, _ := strings.Cut(resp.Header.Get("Link"), ">")
				next = strings.TrimPrefix(link, "<")
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: listed %v, want %v", path, name, got, want)
			}
		}
		before[0]()
		w.want(200, "GET", "/v2/_catalog?n=5000", nil, "")
		w.want(200, "GET", "/v2/uploads/only/tags/list", nil, "")
		w.want(404, "GET", "/v2/none/tags/list", nil, "")
		w.want(200, "GET", "/v2/_catalog?n=0", nil, "")
	}
}

// TestEveryErrorIsInTheProtocolsForm asks for what nobody offers, by every method.
func TestEveryErrorIsInTheProtocolsForm(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	for _, path := range []string{"/", "/v1/_ping", "/v2/app", "/v2/app/nothing", "/v2/_catalog", "/v2/",
		"/v2/app/tags/list", "/v2/app/manifests/v1", "/v2/app/blobs/" + digestOf(nil),
		"/v2/app/blobs/uploads/", "/v2/app/blobs/uploads/x", "/v2/app/referrers/" + digestOf(nil)} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
			resp := w.do(method, path, nil, "")
			if resp.StatusCode < 400 {
				continue
			}
			if errs := errorsOf(t, resp); errs[0].Code == "" || errs[0].Code == "UNKNOWN" || resp.StatusCode >= 500 {
				t.Errorf("%s %s: %d %+v", method, path, resp.StatusCode, errs)
			}
			if resp.StatusCode == 405 && resp.Header.Get("Allow") == "" && method != "DELETE" {
				t.Errorf("%s %s: a 405 that does not say what is allowed", method, path)
			}
			if got := resp.Header.Get("Docker-Distribution-Api-Version"); got != "registry/2.0" {
				t.Errorf("%s %s: API version %q", method, path, got)
			}
		}
	}
}
