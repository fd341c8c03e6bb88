package serve

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// TestARefusedRequestIsAnsweredBeforeItsBodyCame: whoever waits for the answer sends nothing of the body, and the
// registry would wait for an hour.
func TestARefusedRequestIsAnsweredBeforeItsBodyCame(t *testing.T) {
	url, _ := guarded(t, func(cfg *config.Config, o *Options) {
		withUsers("alice")(cfg, o)
		cfg.Limits.StallTimeout = time.Hour
	})
	w := &world{T: t, host: strings.TrimPrefix(url, "http://")}
	const known = "Authorization: Basic YWxpY2U6czNjcmV0\r\n"
	for _, c := range []struct{ what, request, fields, status string }{
		{"no login", "PUT /v2/app/manifests/v1", "", "401"},
		{"no such address", "POST /v2/nothing", "", "404"},
		{"a bad name", "PUT /v2/App/manifests/v1", known, "400"},
		{"a method that is none", "POST /v2/app/manifests/v1", known, "405"},
		{"another site", "POST /v2/app/blobs/uploads/", known + "Sec-Fetch-Site: cross-site\r\n", "403"},
		{"an upload without its state", "PATCH /v2/app/blobs/uploads/x", known, "404"},
		{"a blob of no digest", "POST /v2/app/blobs/uploads/?digest=x", known, "400"},
		{"a login by somebody who sends a body with it", "GET /v2/", known, "200"},
		{"an upload that begins with a form", "POST /v2/app/blobs/uploads/", known, "202"},
	} {
		for _, body := range []string{"Content-Length: 100\r\n", "Content-Length: 300000\r\n",
			"Content-Length: 99999999999\r\n", "Transfer-Encoding: chunked\r\n"} {
			for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
				conn := w.dial()
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n", c.request, w.host, c.fields, body, expect)
				if line := finalLine(t, conn); !strings.HasPrefix(line, "HTTP/1.1 "+c.status) {
					t.Errorf("%s, with %q %q: %s; want %s at once", c.what, body, expect, line, c.status)
				}
				conn.Close()
			}
		}
	}
}

// TestAConnectionOutlivesARefusedBody holds that what is left of a small body is no request, and that one can follow.
func TestAConnectionOutlivesARefusedBody(t *testing.T) {
	w := newWorld(t)
	for name, sent := range map[string]string{"all at once": strings.Repeat("GET / HTTP/1.1\r\n", 100), "nothing": ""} {
		conn := w.dial()
		in := bufio.NewReader(conn)
		fmt.Fprintf(conn, "POST /v2/nothing HTTP/1.1\r\nHost: %s\r\nContent-Length: 1600\r\n\r\n%s", w.host, sent)
		for i, want := range []int{404, 200} {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s of the body came before the answer: %v", name, err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
				t.Fatalf("%s of the body came before the answer: %d %v; want %d", name, resp.StatusCode, err, want)
			}
			if i == 0 {
				fmt.Fprintf(conn, "%sGET /v2/ HTTP/1.1\r\nHost: %s\r\n\r\n", strings.Repeat("x", 1600-len(sent)),
					w.host)
			}
		}
	}
}

// TestWhoNeverSendsARefusedBodyIsCut, so that nobody keeps a connection.
func TestWhoNeverSendsARefusedBodyIsCut(t *testing.T) {
	w := newWorldWith(t, func(cfg *config.Config) { cfg.Limits.StallTimeout = 100 * time.Millisecond })
	conn := w.dial()
	fmt.Fprintf(conn, "POST /v2/nothing HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\nshort", w.host)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 404 {
		t.Fatal(resp, err)
	}
	if rest, err := io.ReadAll(in); err != nil { // to the end of the connection
		t.Errorf("after the answer: %q %v", rest, err)
	}
}
