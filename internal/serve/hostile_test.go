package serve

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// manyLayers is an index that names so many layers which nobody has.
func manyLayers(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, ociLayer,
			digestOf([]byte(fmt.Sprint("layer ", i))))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ociIndex, strings.Join(list, ","))
}

func compressed(t *testing.T, data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// stateless and stateOf are the parts of an upload's location.
func stateless(location string) string { path, _, _ := strings.Cut(location, "?"); return path }
func stateOf(location string) string   { _, query, _ := strings.Cut(location, "?"); return query }

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
	bomb := compressed(t, bytes.Repeat([]byte("0"), 64<<20))
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
		{"a name of 300 characters", "POST", "/v2/" + strings.Repeat("a", 300) + "/blobs/uploads/", "", nil, 400,
			"NAME_INVALID"},
		{"a name component of 256 characters", "GET", "/v2/" + strings.Repeat("a", 256) + "/tags/list", "", nil, 400,
			"NAME_INVALID"},
		{"a name with a trailing dot", "GET", "/v2/app./tags/list", "", nil, 400, "NAME_INVALID"},
		{"a name with three underscores", "POST", "/v2/a___b/blobs/uploads/", "", nil, 400, "NAME_INVALID"},
		{"a name that ends with a hyphen", "POST", "/v2/a-/blobs/uploads/", "", nil, 400, "NAME_INVALID"},
		{"a name in another alphabet", "POST", "/v2/%ED%95%9C%EA%B8%80/blobs/uploads/", "", nil, 400, "NAME_INVALID"},
		{"a name of invalid UTF-8", "POST", "/v2/%ff%fe/blobs/uploads/", "", nil, 400, "NAME_INVALID"},
		{"a name with a line break", "POST", "/v2/a%0d%0aX:%20y/blobs/uploads/", "", nil, 400, "NAME_INVALID"},
		{"a name with a backslash", "POST", "/v2/..%5c..%5cx/blobs/uploads/", "", nil, 400, "NAME_INVALID"},
		{"a name that is the place of the index", "GET", "/v2/.metadata/blobs/" + absent, "", nil, 400, "NAME_INVALID"},
		{"a thousand components", "POST", "/v2/" + strings.Repeat("a/", 1000) + "a/blobs/uploads/", "", nil, 400,
			"NAME_INVALID"},
		{"a tag of 129 characters", "GET", "/v2/app/manifests/" + strings.Repeat("a", 129), "", nil, 400,
			"TAG_INVALID"},
		{"a tag with dots and slashes, encoded", "GET", "/v2/app/manifests/..%2f..%2fx", "", nil, 404, "NOT_FOUND"},
		{"a tag with a space", "PUT", "/v2/app/manifests/a%20b", "{}", nil, 400, "TAG_INVALID"},
		{"a tag with a percent sign", "GET", "/v2/app/manifests/%2525", "", nil, 400, "TAG_INVALID"},
		{"a digest with dots", "GET", "/v2/app/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd", "", nil, 404, "NOT_FOUND"},
		{"a digest of a path", "GET", "/v2/app/blobs/sha256:" + strings.Repeat("../", 21) + "a", "", nil, 404,
			"NOT_FOUND"},
		{"a digest in capitals", "GET", "/v2/app/blobs/sha256:" + strings.ToUpper(strings.TrimPrefix(layer, "sha256:")),
			"", nil, 400, "DIGEST_INVALID"},
		{"a digest that is too short by one", "GET", "/v2/app/blobs/" + layer[:len(layer)-1], "", nil, 400,
			"DIGEST_INVALID"},
		{"a digest that is too long by one", "GET", "/v2/app/blobs/" + layer + "0", "", nil, 400, "DIGEST_INVALID"},
		{"a digest without its algorithm", "GET", "/v2/app/blobs/" + strings.TrimPrefix(layer, "sha256:"), "", nil, 404,
			"NOT_FOUND"},
		{"a digest of another algorithm", "GET", "/v2/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "", nil, 400,
			"DIGEST_INVALID"},
		{"a delete by a malformed digest", "DELETE", "/v2/app/blobs/sha256:x", "", nil, 400, "DIGEST_INVALID"},
		{"a mount of a malformed digest", "POST", "/v2/app/blobs/uploads/?mount=sha256:x&from=app", "", nil, 202, ""},
		{"a mount from nowhere", "POST", "/v2/app/blobs/uploads/?mount=" + layer + "&from=../../etc", "", nil, 202, ""},
		{"a mount of what is not there", "POST", "/v2/app/blobs/uploads/?mount=" + absent + "&from=app", "", nil, 202,
			""},
		{"an address that means nothing", "GET", "/v2/app/nothing", "", nil, 404, "NOT_FOUND"},
		{"an address outside of the API", "GET", "/etc/passwd", "", nil, 404, "NOT_FOUND"},
		{"an unknown repository", "GET", "/v2/none/tags/list", "", nil, 404, "NAME_UNKNOWN"},
		{"an unknown tag", "GET", "/v2/app/manifests/none", "", nil, 404, "MANIFEST_UNKNOWN"},
		{"a digest that nothing has", "GET", "/v2/app/manifests/" + absent, "", nil, 404, "MANIFEST_UNKNOWN"},
		{"a digest that nothing has, with its ETag", "GET", "/v2/app/manifests/" + absent, "",
			header{"If-None-Match": `"` + absent + `"`}, 404, "MANIFEST_UNKNOWN"},
		{"a malformed digest as reference", "GET", "/v2/app/manifests/sha256:12", "", nil, 400, "DIGEST_INVALID"},
		{"a layer asked for as manifest", "GET", "/v2/app/manifests/" + layer, "", nil, 404, "MANIFEST_UNKNOWN"},
		{"an unknown blob", "GET", "/v2/app/blobs/" + absent, "", nil, 404, "BLOB_UNKNOWN"},
		{"a blob of another repository", "GET", "/v2/other/blobs/" + layer, "", nil, 404, "BLOB_UNKNOWN"},
		{"a malformed blob digest", "GET", "/v2/app/blobs/sha256:zz", "", nil, 400, "DIGEST_INVALID"},
		{"a range behind the end", "GET", "/v2/app/blobs/" + layer, "", header{"Range": "bytes=999999999-"}, 416,
			"RANGE_UNSATISFIABLE"},
		{"a range that ends before it begins", "GET", "/v2/app/blobs/" + layer, "", header{"Range": "bytes=9-2"}, 416,
			"RANGE_UNSATISFIABLE"},
		{"a range of letters", "GET", "/v2/app/blobs/" + layer, "", header{"Range": "bytes=a-b"}, 416,
			"RANGE_UNSATISFIABLE"},
		{"a range of numbers beyond 64 bits", "GET", "/v2/app/blobs/" + layer, "",
			header{"Range": "bytes=99999999999999999999-"}, 416, "RANGE_UNSATISFIABLE"},
		{"a thousand overlapping ranges", "GET", "/v2/app/blobs/" + layer, "",
			header{"Range": "bytes=" + strings.Repeat("0-,", 1000) + "0-"}, 200, ""},
		{"a range of a blob that is not there", "GET", "/v2/app/blobs/" + absent, "", header{"Range": "bytes=0-1"}, 404,
			"BLOB_UNKNOWN"},
		{"tags with n=-1", "GET", "/v2/app/tags/list?n=-1", "", nil, 400, "PAGINATION_NUMBER_INVALID"},
		{"tags with n=x", "GET", "/v2/app/tags/list?n=x", "", nil, 400, "PAGINATION_NUMBER_INVALID"},
		{"a catalog of a million", "GET", "/v2/_catalog?n=1000000", "", nil, 200, ""},
		{"a catalog of minus one", "GET", "/v2/_catalog?n=-1", "", nil, 400, "PAGINATION_NUMBER_INVALID"},
		{"no JSON as manifest", "PUT", "/v2/app/manifests/v2", "hello", header{"Content-Type": ociManifest}, 400,
			"MANIFEST_INVALID"},
		{"an empty manifest", "PUT", "/v2/app/manifests/v2", "", header{"Content-Type": ociManifest}, 400,
			"MANIFEST_INVALID"},
		{"a manifest of more than 4 MiB", "PUT", "/v2/app/manifests/v2", string(huge),
			header{"Content-Type": ociManifest}, 413, "MANIFEST_TOO_LARGE"},
		{"a deeply nested manifest", "PUT", "/v2/app/manifests/v2", deep, header{"Content-Type": ociManifest}, 400,
			"MANIFEST_INVALID"},
		{"a manifest of schema 1", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":1}`,
			header{"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, 400,
			"MANIFEST_INVALID"},
		{"a manifest of schema 3", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":3,"mediaType":"` + ociManifest +
			`"}`, header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest without type", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":2}`, nil, 400, "MANIFEST_INVALID"},
		{"a manifest of an unknown type", "PUT", "/v2/app/manifests/v2", `{"schemaVersion":2}`,
			header{"Content-Type": "text/html"}, 400, "MANIFEST_INVALID"},
		{"a manifest with a malformed digest", "PUT", "/v2/app/manifests/v2",
			`{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{"digest":"sha256:1","size":1},"layers":[]}`,
			header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest with an unknown algorithm", "PUT", "/v2/app/manifests/v2",
			`{"schemaVersion":2,"mediaType":"` + ociManifest +
				`","config":{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1},"layers":[]}`,
			header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest whose layer is not there", "PUT", "/v2/app/manifests/v2",
			fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":1},"layers":[]}`,
				ociManifest, ociConfig, absent), header{"Content-Type": ociManifest}, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"a manifest put under another digest", "PUT", "/v2/app/manifests/" + absent,
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`, header{"Content-Type": ociIndex}, 400,
			"DIGEST_INVALID"},
		{"a manifest whose fields have wrong types", "PUT", "/v2/app/manifests/v2",
			`{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":[],"layers":{}}`,
			header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest that hides its config behind a second one", "PUT", "/v2/app/manifests/v2",
			`{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{"digest":"` + absent +
				`"},"config":null,"layers":[]}`, header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest with a layer at a file URL", "PUT", "/v2/app/manifests/v2",
			fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,`+
				`"config":{"mediaType":%q,"digest":%q,"size":1},`+
				`"layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar",`+
				`"digest":%q,"size":1,"urls":["file:///etc/passwd"]}]}`,
				ociManifest, ociConfig, layer, absent),
			header{"Content-Type": ociManifest},
			400, "MANIFEST_INVALID"},
		{"an index whose child is elsewhere", "PUT", "/v2/app/manifests/v2",
			fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,`+
				`"manifests":[{"mediaType":%q,"digest":%q,"size":1,"urls":["http://x/"]}]}`,
				ociIndex, ociManifest, absent),
			header{"Content-Type": ociIndex}, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"a manifest compressed to almost nothing", "PUT", "/v2/app/manifests/v2", string(bomb),
			header{"Content-Type": ociManifest, "Content-Encoding": "gzip"}, 400, "MANIFEST_INVALID"},
		{"a deeply nested array", "PUT", "/v2/app/manifests/v2", strings.Repeat("[", 1<<20),
			header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest in UTF-16", "PUT", "/v2/app/manifests/v2", "\xff\xfe{\x00}\x00",
			header{"Content-Type": ociManifest}, 400, "MANIFEST_INVALID"},
		{"a manifest with something behind it", "PUT", "/v2/app/manifests/v2",
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]} {}`, header{"Content-Type": ociIndex},
			400, "MANIFEST_INVALID"},
		{"null as manifest", "PUT", "/v2/app/manifests/v2", "null", header{"Content-Type": ociManifest}, 400,
			"MANIFEST_INVALID"},
		{"an array as manifest", "PUT", "/v2/app/manifests/v2", "[]", header{"Content-Type": ociManifest}, 400,
			"MANIFEST_INVALID"},
		{"a schema version beyond all numbers", "PUT", "/v2/app/manifests/v2",
			`{"schemaVersion":1e400,"mediaType":"` + ociManifest + `"}`, header{"Content-Type": ociManifest}, 400,
			"MANIFEST_INVALID"},
		{"a manifest that says to be of another type", "PUT", "/v2/app/manifests/v2",
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`, header{"Content-Type": ociManifest},
			400, "MANIFEST_INVALID"},
		{"a manifest that names itself", "PUT", "/v2/app/manifests/" + absent,
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[{"mediaType":"` + ociIndex +
				`","digest":"` + absent + `","size":1}]}`, header{"Content-Type": ociIndex}, 400, "DIGEST_INVALID"},
		{"a manifest of 10,001 layers", "PUT", "/v2/app/manifests/v2", manyLayers(10_001),
			header{"Content-Type": ociIndex}, 400, "MANIFEST_INVALID"},
		{"a manifest of 10,000 layers that are not there", "PUT", "/v2/app/manifests/v2", manyLayers(10_000),
			header{"Content-Type": ociIndex}, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"a subject that is no digest", "PUT", "/v2/app/manifests/v2",
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[],"subject":{"digest":"../x"}}`,
			header{"Content-Type": ociIndex}, 400, "MANIFEST_INVALID"},
		{"a negative size of a layer that is not there", "PUT", "/v2/app/manifests/v2",
			fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,`+
				`"config":{"mediaType":%q,"digest":%q,"size":-1},"layers":[]}`,
				ociManifest, ociConfig, absent),
			header{"Content-Type": ociManifest}, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"a referrers list of what is no digest", "GET", "/v2/app/referrers/..%2fx", "", nil, 404, "NOT_FOUND"},
		{"tags with n beyond 64 bits", "GET", "/v2/app/tags/list?n=99999999999999999999", "", nil, 400,
			"PAGINATION_NUMBER_INVALID"},
		{"tags after a path", "GET", "/v2/app/tags/list?last=../../x", "", nil, 400, "TAG_INVALID"},
		{"a catalog after a path", "GET", "/v2/_catalog?last=../../x", "", nil, 400, "NAME_INVALID"},
		{"a broken query", "GET", "/v2/app/tags/list?n=%zz", "", nil, 200, ""},
		{"a login that is no base64", "GET", "/v2/", "", header{"Authorization": "Basic !!!"}, 200, ""},
		{"a login of another kind", "GET", "/v2/", "", header{"Authorization": "Bearer " + strings.Repeat("a", 4000)},
			200, ""},
		{"a forged host", "GET", "/v2/app/manifests/v1", "", header{"X-Forwarded-Host": "evil.example\"<>",
			"X-Forwarded-Proto": "gopher"}, 200, ""},
		{"tags after a NUL", "GET", "/v2/app/tags/list?last=%00", "", nil, 400, "TAG_INVALID"},
		{"a catalog after a NUL", "GET", "/v2/_catalog?last=%00", "", nil, 400, "NAME_INVALID"},
		{"a tag that is none", "PUT", "/v2/app/manifests/-v", `{"schemaVersion":2,"mediaType":"` + ociIndex +
			`","manifests":[]}`, header{"Content-Type": ociIndex}, 400, "TAG_INVALID"},
		{"an upload with a wrong digest", "PUT", session() + "&digest=" + absent, "data", nil, 400, "DIGEST_INVALID"},
		{"an upload that is a form", "PUT", session() + "&digest=" + absent, "digest=" + layer,
			header{"Content-Type": "application/x-www-form-urlencoded"}, 400, "DIGEST_INVALID"},
		{"an upload that is a form of many parts", "POST", "/v2/app/blobs/uploads/",
			"--x\r\nContent-Disposition: form-data; name=\"mount\"\r\n\r\n" + layer + "\r\n--x--\r\n",
			header{"Content-Type": "multipart/form-data; boundary=x"}, 202, ""},
		{"two digests", "PUT", session() + "&digest=" + absent + "&digest=" + layer, "data", nil, 400,
			"DIGEST_INVALID"},
		{"an upload to an id that is a path", "PUT", "/v2/app/blobs/uploads/..%2f..%2fx?digest=" + absent, "data", nil,
			404, "NOT_FOUND"},
		{"an upload to an id that is dots", "PATCH", "/v2/app/blobs/uploads/%2e%2e", "data", nil, 404,
			"BLOB_UPLOAD_INVALID"},
		{"a status of an upload that is dots", "GET", "/v2/app/blobs/uploads/%2e%2e", "", nil, 404,
			"BLOB_UPLOAD_UNKNOWN"},
		{"an upload without its state", "PUT", stateless(session()) + "?digest=" + absent, "data", nil, 404,
			"BLOB_UPLOAD_INVALID"},
		{"a state of another upload", "PATCH", stateless(session()) + "?" + stateOf(session()), "data", nil, 404,
			"BLOB_UPLOAD_INVALID"},
		{"a state of 32 KiB", "PATCH", stateless(session()) + "?_state=" + strings.Repeat("A", 32<<10), "data", nil,
			404, "BLOB_UPLOAD_INVALID"},
		{"a status of an unknown upload", "GET", "/v2/app/blobs/uploads/00000000-0000-0000-0000-000000000000", "", nil,
			404, "BLOB_UPLOAD_UNKNOWN"},
		{"a cancel of an unknown upload", "DELETE",
			"/v2/app/blobs/uploads/00000000-0000-0000-0000-000000000000?_state=x", "", nil, 404, "BLOB_UPLOAD_INVALID"},
		{"an upload without digest", "PUT", session(), "data", nil, 400, "DIGEST_INVALID"},
		{"an upload with a malformed digest", "PUT", session() + "&digest=sha256:xyz", "data", nil, 400,
			"DIGEST_INVALID"},
		{"an upload by sha512", "PUT", session() + "&digest=sha512:" + strings.Repeat("ab", 64), "data", nil, 400,
			"DIGEST_INVALID"},
		{"an unknown upload", "PATCH", "/v2/app/blobs/uploads/00000000-0000-0000-0000-000000000000?_state=x", "data",
			nil, 404, "BLOB_UPLOAD_INVALID"},
		{"an upload of another repository", "PATCH", strings.Replace(session(), "/app/", "/other/", 1), "data", nil,
			404, "BLOB_UPLOAD_INVALID"},
		{"a forged upload state", "PATCH", "/v2/app/blobs/uploads/x?_state=AAAA", "data", nil, 404,
			"BLOB_UPLOAD_INVALID"},
		{"a malformed Content-Range", "PATCH", session(), "data", header{"Content-Range": "bytes x"}, 416,
			"RANGE_MALFORMED"},
		{"a Content-Range beyond 64 bits", "PATCH", session(), "data",
			header{"Content-Range": "0-99999999999999999999"}, 416, "RANGE_MALFORMED"},
		{"a Content-Range below zero", "PATCH", session(), "data", header{"Content-Range": "-5-2"}, 416,
			"RANGE_MALFORMED"},
		{"a Content-Range that runs backwards", "PATCH", session(), "data", header{"Content-Range": "3-0"}, 416,
			"RANGE_INVALID"},
		{"a Content-Range with a gap", "PATCH", session(), "data", header{"Content-Range": "5-8"}, 416,
			"RANGE_INVALID"},
		{"a Content-Range of another length", "PATCH", session(), "data", header{"Content-Range": "0-99"}, 400,
			"SIZE_INVALID"},
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
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\nshort", request,
			w.host, ociManifest)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		conn.Close()
		if first, _, _ := strings.Cut(string(answer), "\r\n"); err != nil ||
			(len(answer) > 0 && !strings.HasPrefix(first, "HTTP/1.1 4")) {
			t.Errorf("%s with a short body: %q %v; want a 4xx", request, first, err)
		}
	}
}

// TestAClientThatLeft holds that who hangs up is no failure of the registry. A client that only sends no
// more looks the same, and hears the answer.
func TestAClientThatLeft(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	left, cancel := context.WithCancel(t.Context())
	cancel()
	for _, request := range []string{
		"GET /v2/", "GET /v2/_catalog", "GET /v2/app/tags/list",
		"GET /v2/app/manifests/v1", "HEAD /v2/app/manifests/" + hashOf(t, img), "GET /v2/app/blobs/" + layerOf(t, img),
		"PUT /v2/app/manifests/v2", "POST /v2/app/blobs/uploads/", "DELETE /v2/app/manifests/v1",
	} {
		method, path, _ := strings.Cut(request, " ")
		got := httptest.NewRecorder()
		w.s.Handler().ServeHTTP(got, httptest.NewRequestWithContext(left, method, path, bytes.NewReader(raw)))
		if got.Code >= 500 {
			t.Errorf("%s of a client that left: %d %s", request, got.Code, got.Body)
		}
	}
}

func TestMethodsThatNobodyKnows(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/v1",
		"/v2/app/blobs/uploads/"} {
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
	for _, accept := range []string{"", "*/*", "application/json",
		"application/vnd.docker.distribution.manifest.v2+json"} {
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

// TestManyUploadsOfOneClient holds that a client at its limit is told so, and may go on once it finished one, or
// the registry forgot one.
func TestManyUploadsOfOneClient(t *testing.T) {
	w := newWorldWith(t, func(cfg *config.Config) { cfg.Limits.UploadsPerClient = 3 })
	begin := func(status int) string {
		t.Helper()
		resp := w.want(status, "POST", "/v2/app/blobs/uploads/", nil, "")
		if status == 429 {
			if errs := errorsOf(t, resp); errs[0].Code != "TOOMANYREQUESTS" || resp.Header.Get("Retry-After") == "" {
				t.Errorf("%+v, Retry-After %q", errs[0], resp.Header.Get("Retry-After"))
			}
		}
		return strings.TrimPrefix(resp.Header.Get("Location"), w.http.URL)
	}
	data := []byte("data")
	w.upload("app", data)
	for range 3 {
		w.want(201, "POST", "/v2/app/blobs/uploads/?mount="+digestOf(data)+"&from=app", nil, "") // is no upload
	}
	first, second, third := begin(202), begin(202), begin(202)
	begin(429)
	w.want(201, "PUT", first+"&digest="+digestOf(data), data, "")
	first = begin(202)
	begin(429)
	w.want(204, "DELETE", second, nil, "")
	second = begin(202)
	begin(429)
	path, _, _ := strings.Cut(third, "?")
	gone := filepath.Join(w.dir, "docker/registry/v2/repositories/app/_uploads", path[strings.LastIndex(path, "/")+1:])
	if err := os.RemoveAll(gone); err != nil { // as the expiry does with an old one
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); w.do("POST", "/v2/app/blobs/uploads/", nil,
		"").StatusCode != 202; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("an upload that is gone counts for ever")
		}
	}
	begin(429)
	w.want(202, "PATCH", first, data, "") // what was begun goes on
	w.want(202, "PATCH", second, data, "")
}

// TestManyWritersOfOneUpload sends pieces of one upload at once. Whatever becomes of it, what is stored in the end is
// what its digest says, or nothing.
func TestManyWritersOfOneUpload(t *testing.T) {
	w := newWorld(t)
	for round := range 5 {
		loc := strings.TrimPrefix(w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location"),
			w.http.URL)
		piece := bytes.Repeat([]byte{byte('a' + round)}, 100_000)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if status := w.do("PATCH", loc, piece, "").StatusCode; status != 202 && status != 404 && status != 416 {
					t.Errorf("a PATCH beside others: %d", status)
				}
			})
		}
		d := digestOf(piece)
		all.Go(func() {
			if status := w.do("PUT", loc+"&digest="+d, nil, "").StatusCode; status != 201 && status/100 != 4 {
				t.Errorf("a PUT beside PATCHes: %d", status)
			}
		})
		all.Wait()
		resp := w.do("GET", "/v2/app/blobs/"+d, nil, "")
		if got := digestOf(w.read(resp)); resp.StatusCode != 404 && got != d {
			t.Errorf("the blob of a torn upload: %d, bytes of %s; want %s or nothing", resp.StatusCode, got, d)
		}
	}
}

// TestManyTags holds that a repository of thousands of tags is listed in pages, all of them once.
func TestManyTags(t *testing.T) {
	w := newWorld(t)
	data := []byte(`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`)
	const n = 1200
	for i := range n {
		w.want(201, "PUT", fmt.Sprintf("/v2/app/manifests/t%05d", i), data, ociIndex)
	}
	seen := map[string]bool{}
	for next := "/v2/app/tags/list?n=500"; next != ""; {
		resp := w.want(200, "GET", next, nil, "")
		var list struct{ Tags []string }
		if err := json.Unmarshal(w.read(resp), &list); err != nil || len(list.Tags) > 500 {
			t.Fatalf("a page of %d tags, %v", len(list.Tags), err)
		}
		for _, tag := range list.Tags {
			if seen[tag] {
				t.Errorf("%s is listed twice", tag)
			}
			seen[tag] = true
		}
		link, _, _ := strings.Cut(resp.Header.Get("Link"), ">")
		next = strings.TrimPrefix(strings.TrimPrefix(link, "<"), w.http.URL)
	}
	if len(seen) != n {
		t.Errorf("%d tags are listed, %d were pushed", len(seen), n)
	}
	w.want(202, "DELETE", "/v2/app/manifests/"+digestOf(data), nil, "") // with all its tags, as one
	if len(w.files()) == 0 || w.do("GET", "/v2/app/manifests/t00000", nil, "").StatusCode != 404 {
		t.Error("a tag of a deleted manifest is there")
	}
}

// TestALineOfTheAccessLogIsBounded holds it for what a client writes into it.
func TestALineOfTheAccessLogIsBounded(t *testing.T) {
	var log bytes.Buffer
	w := newWorldWith(t, func(cfg *config.Config) { cfg.Log.Access = true })
	w.s.log.SetOutput(&log)
	req, err := http.NewRequest("GET", w.http.URL+"/v2/"+strings.Repeat("a/", 9000), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", strings.Repeat("b", 20_000))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	w.http.Close() // the line is written when the request is over
	if n := log.Len(); n == 0 || n > 2000 {
		t.Errorf("one request wrote %d bytes: %.300s", n, log.String())
	}
}

// TestADamagedManifestIsAMiss holds that a client that finds one pushes the image again, which mends it.
func TestADamagedManifestIsAMiss(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	for what, content := range map[string]string{"noise": "\x00\x01",
		"schema 1": `{"schemaVersion":1,"name":"app","tag":"v1","fsLayers":[]}`, "nothing": ""} {
		d := hashOf(t, img)
		file := tree.Dir(w.dir).File(layout.Path{Kind: layout.BlobData, Digest: digestFrom(d)})
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, reference := range []string{"v1", d} {
			for _, method := range []string{"GET", "HEAD"} {
				resp := w.do(method, "/v2/app/manifests/"+reference, nil, "")
				if resp.StatusCode != 404 {
					t.Errorf("%s of %s, which is %s: %d", method, reference, what, resp.StatusCode)
				}
			}
		}
		w.push("app:v1", img)
		w.pull("app:v1")
	}
}
