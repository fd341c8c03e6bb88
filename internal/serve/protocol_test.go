package serve

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// header are fields of a request.
type header map[string]string

// send sends a request with header fields, as a user if one is named.
func send(t *testing.T, method, url string, fields header, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		req.Header.Set(name, value)
	}
	if user := fields["user"]; user != "" {
		req.Header.Del("user")
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(strings.NewReader(string(data)))
	return resp
}

// password is that of all users of these tests.
const password = "s3cret"

// withUsers lets these users in, and nobody else.
func withUsers(names ...string) func(*config.Config, *Options) {
	return func(cfg *config.Config, _ *Options) {
		for _, name := range names {
			cfg.Auth.Users = append(cfg.Auth.Users, config.User{Username: name, Password: password})
		}
	}
}

func TestARangeCountsForTheBytesOfABlobOnly(t *testing.T) {
	w := newWorld(t)
	data := []byte("0123456789")
	url := w.http.URL + "/v2/app/blobs/" + w.upload("app", data)
	for _, c := range []struct {
		what, method string
		fields       header
		status       int
		body         string
	}{
		{"a range of bytes", "GET", header{"Range": "bytes=2-4"}, 206, "234"},
		{"a range in capitals", "GET", header{"Range": "Bytes=2-4"}, 206, "234"},
		{"a range behind the end", "GET", header{"Range": "bytes=10-"}, 416, ""},
		{"the last no bytes", "GET", header{"Range": "bytes=-0"}, 416, ""},
		{"the last no bytes, spelled out", "GET", header{"Range": "bytes= -00 "}, 416, ""},
		{"the last no bytes and others", "GET", header{"Range": "bytes=-0,2-4"}, 206, "234"},
		{"a range of lines", "GET", header{"Range": "lines=2-4"}, 200, "0123456789"},
		{"a range without a unit", "GET", header{"Range": "2-4"}, 200, "0123456789"},
		{"a range of lines, if it is not that blob", "GET", header{"Range": "lines=2-4", "If-None-Match": `"x"`}, 200,
			"0123456789"},
		{"news of a range", "HEAD", header{"Range": "bytes=2-4"}, 200, ""},
		{"news of a range behind the end", "HEAD", header{"Range": "bytes=10-"}, 200, ""},
		{"news of a range of lines", "HEAD", header{"Range": "lines=2-4"}, 200, ""},
		{"news of a range, if it is not that blob", "HEAD", header{"Range": "bytes=2-4", "If-None-Match": `"x"`}, 200,
			""},
		{"news of a range, if it is still that blob", "HEAD", header{"Range": "bytes=2-4", "If-Range": `"x"`}, 200, ""},
	} {
		resp := send(t, c.method, url, c.fields, "")
		got := string(w.read(resp))
		if resp.StatusCode != c.status || c.status != 416 && got != c.body {
			t.Errorf("%s: %d %q; want %d %q", c.what, resp.StatusCode, got, c.status, c.body)
		}
		if length := resp.Header.Get("Content-Range"); c.status == 416 && length != "bytes */10" {
			t.Errorf("%s: Content-Range %q", c.what, length)
		}
		if c.status == 200 && (resp.ContentLength != int64(len(data)) || resp.Header.Get("Content-Range") != "") {
			t.Errorf("%s: length %d, range %q; want the whole", c.what, resp.ContentLength,
				resp.Header.Get("Content-Range"))
		}
	}
}

func TestWhoLooksAtTheRootNeedsNoLogin(t *testing.T) {
	url, _ := guarded(t, withUsers("alice"))
	for _, method := range []string{"GET", "HEAD"} {
		resp := send(t, method, url+"/", nil, "")
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || (method == "GET") != strings.Contains(string(text), "/v2/") {
			t.Errorf("%s /: %d %q", method, resp.StatusCode, text)
		}
	}
	for _, request := range [][2]string{{"GET", "/v2/"}, {"GET", "/v2/_catalog"}} {
		if resp := send(t, request[0], url+request[1], nil, ""); resp.StatusCode != 401 {
			t.Errorf("%s %s: %d; want 401", request[0], request[1], resp.StatusCode)
		}
	}
	if resp := send(t, "POST", url+"/", nil, ""); resp.StatusCode != 405 {
		t.Errorf("POST /: %d; want 405", resp.StatusCode)
	}
}

// TestEveryAnswerSaysOnceWhichAPIItIs, also those of distribution's handlers.
func TestEveryAnswerSaysOnceWhichAPIItIs(t *testing.T) {
	w := newWorld(t)
	w.push("app:v1", w.image(1))
	paths := []string{"/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/v1", "/v2/none",
		"/v2/none/tags/list"}
	look := func(when string) {
		t.Helper()
		for _, path := range paths {
			if said := w.do("GET", path, nil, "").Header["Docker-Distribution-Api-Version"]; len(said) != 1 ||
				said[0] != "registry/2.0" {
				t.Errorf("%s %s: %q", path, when, said)
			}
		}
	}
	look("while the index is whole")
	if _, err := w.s.store.Index.CloseGate(t.Context()); err != nil {
		t.Fatal(err)
	}
	look("while it is not")
}

func TestAPageOfAnotherSiteChangesNothing(t *testing.T) {
	w := newWorld(t)
	own := w.http.URL
	for _, c := range []struct {
		what   string
		fields header
		in     bool
	}{
		{"a client that is no browser", nil, true},
		{"our own page", header{"Sec-Fetch-Site": "same-origin", "Origin": own}, true},
		{"the user himself", header{"Sec-Fetch-Site": "none"}, true},
		{"our own page in an old browser", header{"Origin": own}, true},
		{"our own page behind a proxy, in an old browser", header{"Origin": "https://r.example",
			"X-Forwarded-Host": "r.example"}, true},
		{"our own page behind a proxy that spells the port", header{"Origin": "http://r.example",
			"X-Forwarded-Host": "r.example:80"}, true},
		{"our own page behind a proxy with TLS that spells the port",
			header{"Origin": "https://r.example", "X-Forwarded-Host": "r.example:443"}, true},
		{"our own page at an IPv6 address", header{"Origin": "http://[::1]", "X-Forwarded-Host": "[::1]:80"}, true},
		{"the port of the other scheme", header{"Origin": "http://r.example", "X-Forwarded-Host": "r.example:443"},
			false},
		{"another site", header{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, false},
		{"another site that claims our origin", header{"Sec-Fetch-Site": "cross-site", "Origin": own}, false},
		{"another port of the same host", header{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}, false},
		{"another site in an old browser", header{"Origin": "https://evil.example"}, false},
		{"another port in an old browser", header{"Origin": "http://127.0.0.1:1"}, false},
		{"a page without origin in an old browser", header{"Origin": "null"}, false},
		{"what no browser says", header{"Sec-Fetch-Site": "anywhere"}, false},
	} {
		for method, path := range map[string]string{"POST": "/v2/app/blobs/uploads/", "PUT": "/v2/app/manifests/v1",
			"DELETE": "/v2/app/manifests/v1", "PATCH": "/v2/app/blobs/uploads/x"} {
			resp := send(t, method, own+path, c.fields, "")
			if (resp.StatusCode != 403) != c.in {
				t.Errorf("%s of %s: %d", method, c.what, resp.StatusCode)
			}
			if resp.StatusCode == 403 {
				if errs := errorsOf(t, resp); errs[0].Code != "DENIED" ||
					!strings.Contains(errs[0].Message, "another site") {
					t.Errorf("%s of %s: %+v", method, c.what, errs[0])
				}
			}
		}
		if resp := send(t, "GET", own+"/v2/_catalog", c.fields, ""); resp.StatusCode != 200 {
			t.Errorf("GET of %s: %d; reading is for the browser to forbid", c.what, resp.StatusCode)
		}
	}
}

// TestNobodyGoesOnWithAnUploadOfAnother: the status, which hands out a state, is for who carries one, and for who
// began it.
func TestNobodyGoesOnWithAnUploadOfAnother(t *testing.T) {
	url, _ := guarded(t, withUsers("alice", "bob"))
	loc := send(t, "POST", url+"/v2/app/blobs/uploads/", header{"user": "alice"}, "").Header.Get("Location")
	for _, method := range []string{"GET", "HEAD"} {
		for _, c := range []struct {
			who, url string
			fields   header
			status   int
		}{
			{"the user who began it, with its state", loc, header{"user": "alice"}, 204},
			{"the user who began it", stateless(loc), header{"user": "alice"}, 204},
			{"another user to whom its state was given", loc, header{"user": "bob"}, 204},
			{"another user", stateless(loc), header{"user": "bob"}, 404},
			{"another user with a forged state", stateless(loc) + "?_state=0.AAAA", header{"user": "bob"}, 404},
		} {
			resp := send(t, method, c.url, c.fields, "")
			if resp.StatusCode != c.status || (resp.Header.Get("Location") != "") != (c.status == 204) {
				t.Errorf("%s by %s: %d, location %q; want %d", method, c.who, resp.StatusCode,
					resp.Header.Get("Location"), c.status)
			}
		}
	}
	w := newWorld(t) // where nobody logs in, only the state tells who is who
	loc = w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
	w.want(404, "GET", stateless(loc), nil, "")
	w.want(204, "GET", loc, nil, "")
	w.want(202, "PATCH", loc, []byte("data"), "")
	now := w.want(204, "GET", loc, nil, "").Header.Get("Location") // with an old state
	w.want(201, "PUT", now+"&digest="+digestOf([]byte("data")), nil, "")
}

// TestUploadsOfEveryFormAreCounted holds that a client at its limit can send no more of them in any form.
func TestUploadsOfEveryFormAreCounted(t *testing.T) {
	const limit = 5
	w := newWorldWith(t, func(cfg *config.Config) { cfg.Limits.UploadsPerClient = limit })
	data := strings.Repeat("a", 100)
	whole := "/v2/app/blobs/uploads/?digest=" + digestOf([]byte(data))
	var running []net.Conn
	for range limit {
		conn := w.dial()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", whole,
			w.host, len(data))
		if line := firstLine(t, conn); !strings.HasPrefix(line, "HTTP/1.1 100") { // it is being received
			t.Fatal(line)
		}
		running = append(running, conn)
	}
	for _, c := range []struct{ what, path, body string }{
		{"an upload in one request", whole, data},
		{"an upload of one digest in one request", "/v2/app/blobs/uploads/?digest-algorithm=sha512&digest=" +
			digestOf([]byte(data)), data},
		{"an upload that is to begin", "/v2/app/blobs/uploads/", ""},
		{"a mount of what is not there", "/v2/app/blobs/uploads/?from=other&mount=" + digestOf([]byte("absent")), ""},
	} {
		if resp := w.do("POST", c.path, []byte(c.body), ""); resp.StatusCode != 429 ||
			resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s beside %d others: %d; want 429", c.what, limit, resp.StatusCode)
		}
	}
	if _, err := io.WriteString(running[0], data); err != nil { // complete
		t.Fatal(err)
	}
	if line := finalLine(t, running[0]); !strings.HasPrefix(line, "HTTP/1.1 201") {
		t.Fatal(line)
	}
	w.want(400, "POST", "/v2/app/blobs/uploads/?digest="+digestOf(nil), []byte(data), "") // what fails is over, too
	loc := w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
	w.want(429, "POST", whole, []byte(data), "")
	w.want(400, "PUT", loc+"&digest="+digestOf(nil), []byte(data), "")
	w.want(201, "POST", whole, []byte(data), "")
	running[1].Close() // and who leaves has left
	loc = w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "").Header.Get("Location")
	w.await("the upload of a client that left is not counted", func() bool {
		return w.do("POST", whole, []byte(data), "").StatusCode == 201
	})
	for _, conn := range running {
		conn.Close()
	}
	w.restart()
	for range limit - 1 {
		w.want(202, "POST", "/v2/app/blobs/uploads/", nil, "")
	}
	loc = strings.Replace(loc, loc[:strings.Index(loc, "/v2/")], w.http.URL, 1)
	loc = w.want(202, "PATCH", loc, []byte(data), "").Header.Get("Location") // of the server before
	w.want(429, "POST", whole, []byte(data), "")
	w.want(201, "PUT", loc+"&digest="+digestOf([]byte(data)), nil, "")
	w.want(201, "POST", whole, []byte(data), "")
}

// dial opens a connection that is closed with the test, and that waits for five minutes at most: there may be hundreds.
func (w *world) dial() net.Conn {
	w.Helper()
	conn, err := net.Dial("tcp", w.host)
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	}
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close() })
	return conn
}

// await polls until something is so.
func (w *world) await(what string, is func() bool) {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain: %s", what)
		}
	}
}

// firstLine reads the status line of an answer and its header.
func firstLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	var b strings.Builder
	for p := make([]byte, 1); !strings.HasSuffix(b.String(), "\r\n\r\n"); {
		if _, err := conn.Read(p); err != nil {
			return fmt.Sprintf("%q: %v", b.String(), err)
		}
		b.Write(p)
	}
	line, _, _ := strings.Cut(b.String(), "\r\n")
	return line
}

// finalLine is the status line of the answer that follows.
func finalLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Proto + " " + resp.Status
}
