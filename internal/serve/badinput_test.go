package serve

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestAClientsFaultIsToldAsOne sends what clients should not send. None of it is answered by a 5xx, by a
// hang-up, or by anything but an error in the protocol's form.
func TestAClientsFaultIsToldAsOne(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	layer, manifest := layerOf(t, img), hashOf(t, img)
	absent := digestOf([]byte("absent"))
	session := func() string {
		loc := w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
		return strings.TrimPrefix(loc, w.http.URL)
	}
	type header map[string]string
	huge := bytes.Repeat([]byte(" "), 4<<20+1)
	deep := strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)
	cases := []struct {
		what         string
		method, path string
		body         string
		header       header
		status       int
		code         string
	}{
		{"upper case in a name", "GET", "/v2/App/manifests/v1", "", nil, 400, "NAME_INVALID"},
		{"a port in a name", "PUT", "/v2/host:5000/app/manifests/v1", "{}", nil, 400, "NAME_INVALID"},
		{"dots in a name", "GET", "/v2/a/%2e%2e/b/manifests/v1", "", nil, 400, "NAME_INVALID"},
		{"an encoded slash in a name", "GET", "/v2/..%2f..%2fetc/passwd/manifests/v1", "", nil, 400, "NAME_INVALID"},
		{"an underscore in front of a name", "POST", "/v2/_uploads/blobs/uploads/", "", nil, 400, "NAME_INVALID"},
		{"a name with a NUL", "GET", "/v2/a%00b/tags/list", "", nil, 400, "NAME_INVALID"},
		{"a name of 300 characters", "POST", "/v2/" + strings.Repeat("a", 300) + "/blobs/uploads/", "", nil, 400, "NAME_INVALID"},
		{"a name component of 256 characters", "GET", "/v2/" + strings.Repeat("a", 256) + "/tags/list", "", nil, 400, "NAME_INVALID"},
		{"an address that means nothing", "GET", "/v2/app/nothing", "", nil, 404, "NOT_FOUND"},
		{"an address outside of the API", "GET", "/etc/passwd", "", nil, 404, "NOT_FOUND"},
		{"an unknown repository", "GET", "/v2/none/tags/list", "", nil, 404, "NAME_UNKNOWN"},
		{"an unknown tag", "GET", "/v2/app/manifests/none", "", nil, 404, "MANIFEST_UNKNOWN"},
		{"a digest that nothing has", "GET", "/v2/app/manifests/" + absent, "", nil, 404, "MANIFEST_UNKNOWN"},
		{"a digest that nothing has, with its ETag", "GET", "/v2/app/manifests/" + absent, "", header{"If-None-Match": `"` + absent + `"`}, 404, "MANIFEST_UNKNOWN"},
		{"a malformed digest as reference", "GET", "/v2/app/manifests/sha256:12", "", nil, 400, "DIGEST_INVALID"},
		{"a layer asked for as manifest", "GET", "/v2/app/manifests/" + layer, "", nil, 404, "MANIFEST_UNKNOWN"},
		{"an unknown blob", "GET", "/v2/app/blobs/" + absent, "", nil, 404, "BLOB_UNKNOWN"},
		{"a blob of another repository", "GET", "/v2/other/blobs/" + layer, "", nil, 404, "BLOB_UNKNOWN"},
		{"a malformed blob digest", "GET", "/v2/app/blobs/sha256:zz", "", nil, 400, "DIGEST_INVALID"},
		{"a range behind the end", "GET", "/v2/app/blobs/" + layer, "", header{"Range": "bytes=999999999-"}, 416, ""},
		{"tags with n=-1", "GET", "/v2/app/tags/list?n=-1", "", nil, 400, "PAGINATION_NUMBER_INVALID"},
		{"tags with n=x", "GET", "/v2/app/tags/list?n=x", "", nil, 400, "PAGINATION_NUMBER_INVALID"},
		{"a catalog of a million", "GET", "/v2/_catalog?n=1000000", "", nil, 400, "PAGINATION_NUMBER_INVALID"},
		{"no JSON as manifest", "PUT", "/v2/app/manifests/v2", "hello", header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"an empty manifest", "PUT", "/v2/app/manifests/v2", "", header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest of more than 4 MiB", "PUT", "/v2/app/manifests/v2", string(huge), header{"Content-Type": ociManifest}, 413, "MANIFEST_TOO_LARGE"},
		{"a deeply nested manifest", "PUT", "/v2/app/manifests/v2", deep, header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest of schema 1", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":1}`, header{"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, 400, "MANIFEST_INVALID"},
		{"a manifest of schema 3", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":3,"mediaType":"` + ociManifest + `"}`, header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest without type", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":2}`, nil, 400, "MANIFEST_INVALID"},
		{"a manifest of an unknown type", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":2}`, header{"Content-Type": "text/html"}, 400, "MANIFEST_INVALID"},
		{"a manifest with a malformed digest", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{"digest":"sha256:1","size":1},"layers":[]}`, header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest with an unknown algorithm", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1},"layers":[]}`, header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest whose layer is not there", "PUT", "/v2/app/manifests/v2", fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":1},"layers":[]}`, ociManifest, ociConfig, absent), header{"Content-Type": ociManifest}, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"a manifest put under another digest", "PUT", "/v2/app/manifests/" + absent, `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`, header{"Content-Type": ociIndex}, 400, "DIGEST_INVALID"},
		{"a manifest whose fields have wrong types", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":[],"layers":{}}`, header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest that hides its config behind a second one", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{"digest":"` + absent + `"},"config":null,"layers":[]}`, header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest with a layer at a file URL", "PUT", "/v2/app/manifests/v2", fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":1},"layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":%q,"size":1,"urls":["file:///etc/passwd"]}]}`, ociManifest, ociConfig, layer, absent), header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"an index whose child is elsewhere", "PUT", "/v2/app/manifests/v2", fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":1,"urls":["http://x/"]}]}`, ociIndex, ociManifest, absent), header{"Content-Type": ociIndex}, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"tags after a NUL", "GET", "/v2/app/tags/list?last=%00", "", nil, 400, "TAG_INVALID"},
		{"a catalog after a NUL", "GET", "/v2/_catalog?last=%00", "", nil, 400, "NAME_INVALID"},
		{"a tag that is none", "PUT", "/v2/app/manifests/-v", `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`, header{"Content-Type": ociIndex}, 400, "TAG_INVALID"},
		{"an upload with a wrong digest", "PUT", session() + "&digest=" + absent, "data", nil, 400, "DIGEST_INVALID"},
		{"an upload without digest", "PUT", session(), "data", nil, 400, "DIGEST_INVALID"},
		{"an upload with a malformed digest", "PUT", session() + "&digest=sha256:xyz", "data", nil, 400, "DIGEST_INVALID"},
		{"an upload by sha512", "PUT", session() + "&digest=sha512:" + strings.Repeat("ab", 64), "data", nil, 400, "DIGEST_INVALID"},
		{"an unknown upload", "PATCH", "/v2/app/blobs/uploads/00000000-0000-0000-0000-000000000000?_state=x", "data", nil, 404, "BLOB_UPLOAD_INVALID"},
		{"an upload of another repository", "PATCH", strings.Replace(session(), "/app/", "/other/", 1), "data", nil, 404, "BLOB_UPLOAD_INVALID"},
		{"a forged upload state", "PATCH", "/v2/app/blobs/uploads/x?_state=AAAA", "data", nil, 404, "BLOB_UPLOAD_INVALID"},
		{"a malformed Content-Range", "PATCH", session(), "data", header{"Content-Range": "bytes x"}, 416, "RANGE_MALFORMED"},
		{"a Content-Range with a gap", "PATCH", session(), "data", header{"Content-Range": "5-8"}, 416, "RANGE_INVALID"},
		{"a Content-Range of another length", "PATCH", session(), "data", header{"Content-Range": "0-99"}, 400, "SIZE_INVALID"},
		{"a delete of an unknown tag", "DELETE", "/v2/app/manifests/none", "", nil, 404, "MANIFEST_UNKNOWN"},
		{"a delete of an unknown manifest", "DELETE", "/v2/app/manifests/" + absent, "", nil, 404, "MANIFEST_UNKNOWN"},
		{"a delete of an unknown blob", "DELETE", "/v2/app/blobs/" + absent, "", nil, 404, "BLOB_UNKNOWN"},
		{"a delete of a blob in use", "DELETE", "/v2/app/blobs/" + layer, "", nil, 405, "UNSUPPORTED"},
	}
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			req, err := http.NewRequest(c.method, w.http.URL+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.status {
				data, _ := io.ReadAll(resp.Body)
				t.Fatalf("%s %s: %d %s; want %d %s", c.method, c.path, resp.StatusCode, data, c.status, c.code)
			}
			if c.code == "" {
				return
			}
			if errs := errorsOf(t, resp); errs[0].Code != c.code {
				t.Errorf("code %s (%s); want %s", errs[0].Code, errs[0].Message, c.code)
			}
		})
	}
	w.pull("app@" + manifest) // and nothing of it did any harm
}

func TestABodyThatEndsEarlyIsTheClientsFault(t *testing.T) {
	w := newWorld(t)
	loc := strings.TrimPrefix(w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location"), w.http.URL)
	for _, request := range []string{"PATCH " + loc, "PUT /v2/app/manifests/v1"} {
		conn, err := net.Dial("tcp", w.host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\nshort", request, w.host, ociManifest)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		conn.Close()
		if first, _, _ := strings.Cut(string(answer), "\r\n"); err != nil || (len(answer) > 0 && !strings.HasPrefix(first, "HTTP/1.1 4")) {
			t.Errorf("%s with a short body: %q %v; want a 4xx", request, first, err)
		}
	}
}

func TestMethodsThatNobodyKnows(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/v1", "/v2/app/blobs/uploads/"} {
		for _, method := range []string{"TRACE", "OPTIONS", "BREW"} {
			if resp := w.do(method, path, nil, ""); resp.StatusCode >= 500 {
				t.Errorf("%s %s: %d", method, path, resp.StatusCode)
			}
		}
	}
}

func TestAManifestIsServedToWhoeverAsks(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	for _, accept := range []string{"", "*/*", "application/json", "application/vnd.docker.distribution.manifest.v2+json"} {
		req, err := http.NewRequest("GET", w.http.URL+"/v2/app/manifests/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if accept != "" {
			req.Header.Set("Accept", accept)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("Accept %q: %d", accept, resp.StatusCode)
		}
	}
}
