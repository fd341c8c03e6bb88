package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// raw sends bytes as they are, and returns what comes back until the server hangs up. Half is closed when
// no more will come.
func (s *server) raw(request string, half bool) (answer string, took time.Duration) {
	s.t.Helper()
	conn := s.dial()
	defer conn.Close()
	began := time.Now()
	if err := conn.SetDeadline(began.Add(patience)); err != nil {
		s.t.Error(err)
	}
	_, _ = io.WriteString(conn, request) // a server may hang up before it read all
	if half {
		_ = conn.(*net.TCPConn).CloseWrite() // so may it here
	}
	data, err := io.ReadAll(conn)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		s.t.Errorf("the server neither answers %.60q nor hangs up", request)
	}
	return string(data), time.Since(began)
}

func (s *server) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.host)
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// TestWhatIsHardlyHTTP sends bytes that no client sends. The server answers with a 4xx or hangs up, and goes on.
func TestWhatIsHardlyHTTP(t *testing.T) {
	s := startServer(t, t.TempDir(), "--limits.header_size", "16KiB", "--limits.header_timeout", "2s")
	img := s.push("app:v1")
	get := "GET /v2/app/manifests/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	for _, c := range []struct {
		what, request string
		want          string // how the answer begins; "": nothing has to come
	}{
		{"nothing", "", ""},
		{"a line break", "\r\n\r\n", ""},
		{"noise", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""},
		{"TLS to a plain port", "\x16\x03\x01\x00\x05hello\r\n\r\n", "HTTP/1.1 400"},
		{"HTTP/0.9", "GET /v2/\r\n\r\n", "HTTP/1.1 400"},
		{"HTTP/3.0", "GET /v2/ HTTP/3.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505"},
		{"no host", "GET /v2/ HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
		{"two hosts", "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HTTP/1.1 400"},
		{"a method of noise", "G\x00T /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400"},
		{"a header without a colon", "GET /v2/ HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", "HTTP/1.1 400"},
		{"a NUL in a header", "GET /v2/ HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", "HTTP/1.1 400"},
		{"a space before a colon", "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello", "HTTP/1.1 400"},
		{"two lengths",
			"PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
			"HTTP/1.1 400"},
		{"a negative length", "PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
			"HTTP/1.1 400"},
		{"a length beyond 64 bits",
			"PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
			"HTTP/1.1 400"},
		{"an unknown coding", "PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: cow\r\n\r\n",
			"HTTP/1.1 501"},
		{"a chunk that is none",
			"PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
				"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
			"HTTP/1.1 400"},
		{"a chunk of 2^63",
			"PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
				"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
			"HTTP/1.1 400"},
		{"chunks that end early",
			"PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
				"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
			"HTTP/1.1 400"},
		{"an expectation", get + "Expect: miracles\r\n\r\n", "HTTP/1.1 417"},
		{"a path outside", "GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"HTTP/1.1 404"},
		{"a path inside out",
			"GET /v2/app/manifests/../../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"HTTP/1.1 4"},
		{"slashes", "GET //v2//app//manifests//v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404"},
		{"a path that is none", "GET %zz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400"},
		{"another site", "GET http://example.org/v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 200"},
		{"a tunnel", "CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 4"},
		{"a star", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 "},
		{"an upgrade", get + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "HTTP/1.1 200"},
		{"one huge header", get + "A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", "HTTP/1.1 431"},
		{"a flood of headers", get + strings.Repeat("A: a\r\n", 20_000) + "\r\n", "HTTP/1.1 431"},
		{"a huge address", "GET /v2/" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 431"},
		{"a hidden second request",
			"PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
				"Content-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" +
				"DELETE /v2/app/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n",
			"HTTP/1.1 4"},
	} {
		t.Run(c.what, func(t *testing.T) {
			half := c.want != "HTTP/1.1 200" // a server may take it for a client that left
			got, _ := s.raw(c.request, half)
			if !strings.HasPrefix(got, c.want) || strings.Contains(got, "goroutine") || strings.Contains(got, "root:") {
				t.Errorf("got %.300q; want %s", got, c.want)
			}
		})
	}
	if err := s.pull("app:v1"); err != nil {
		t.Errorf("what was pushed before: %v", err)
	}
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.pull("app@" + hash.String()); err != nil {
		t.Error(err)
	}
}

// TestSlowClients holds that who sends nothing, or takes nothing, is cut, and who is slow but moves is not.
func TestSlowClients(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "--limits.header_timeout", "2s", "--limits.stall_timeout", "2s")
	s.push("app:v1")

	upload := func() string {
		resp, err := http.Post("http://"+s.host+"/v2/app/blobs/uploads/", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return strings.TrimPrefix(resp.Header.Get("Location"), "http://"+s.host)
	}
	patch := func(length int) string {
		return fmt.Sprintf("PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", upload(), length)
	}
	for what, request := range map[string]string{"half a header": "GET /v2/ HTTP/1.1\r\nHos", "nothing": ""} {
		if got, _ := s.raw(request, false); got != "" && !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("%s: %.200q", what, got)
		}
	}
	for what, request := range map[string]string{
		"a body that stalls":       patch(100) + "half",
		"a body that never begins": patch(100),
		"a manifest that stalls": "PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\n" +
			"Content-Length: 100\r\n\r\n{",
		"a stalled body that nobody wants to read": "PUT /v2/App/manifests/v2 HTTP/1.1\r\nHost: x\r\n" +
			"Content-Length: 100\r\n\r\n{",
	} {
		got, took := s.raw(request, false)
		want := "HTTP/1.1 408"
		if strings.Contains(request, "/App/") {
			want = "HTTP/1.1 400"
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %.200q after %v; want %s", what, got, took, want)
		}
	}

	// A client that sends a byte now and then is a client.
	conn := s.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, patch(40)); err != nil {
		t.Fatal(err)
	}
	for range 40 { // for twice as long as a stall may take
		time.Sleep(100 * time.Millisecond)
		if _, err := conn.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 202 {
		t.Errorf("a slow client: %v %v; want 202", resp, err)
	}

	// One that takes nothing of a large blob is cut; the server holds nothing for it any more.
	big := make([]byte, 64<<20)
	s.upload("app", big)
	d := digest.FromBytes(big)
	deaf := s.dial()
	defer deaf.Close()
	if _, err := fmt.Fprintf(deaf, "GET /v2/app/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", d); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second) // it takes nothing
	if err := deaf.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, deaf); n >= 64<<20 || (err != nil && strings.Contains(err.Error(), "timeout")) {
		t.Errorf("a client that took nothing for 6 s got %d bytes (%v); want to be cut after 2 s", n, err)
	}
}

// TestThousandsOfIdleConnections holds that they cost nobody else anything, and go.
func TestThousandsOfIdleConnections(t *testing.T) {
	s := startServer(t, t.TempDir(), "--limits.header_timeout", "3s")
	s.push("app:v1")
	conns := make([]net.Conn, 3000)
	for i := range conns {
		conns[i] = s.dial()
		defer conns[i].Close()
		if i%2 == 0 {
			if _, err := io.WriteString(conns[i], "GET /v2/ HTTP/1.1\r\nHost: x\r\nA: "); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.pull("app:v1"); err != nil {
		t.Error(err)
	}
	s.push("app:v2")
	for i, conn := range conns {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatalf("connection %d is still there", i)
		}
	}
}

// TestBruteForce holds that who tries passwords gets nothing but refusals, and nobody else out.
func TestBruteForce(t *testing.T) {
	dir := t.TempDir()
	if err := addUser(dir, "bob", "secret"); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, dir, "--auth.enabled=true")
	ask := func(password string) int {
		req, err := http.NewRequest("GET", "http://"+s.host+"/v2/", nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		req.SetBasicAuth("bob", password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask("secret"); got != 200 {
		t.Fatalf("the right password: %d", got)
	}
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			if got := ask(fmt.Sprint("guess ", i)); got != 401 {
				t.Errorf("a wrong password: %d", got)
			}
		})
	}
	began := time.Now()
	if got := ask("secret"); got != 200 { // remembered, so it does not stand in the queue of its own address
		t.Errorf("the right password among wrong ones: %d", got)
	}
	right := time.Since(began)
	all.Wait()
	if wrong := time.Since(began); right > wrong/2 {
		t.Errorf("who was known already waited %v of the %v that the guesses took", right, wrong)
	}
}
