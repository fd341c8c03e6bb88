package serve

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// encrypted is a server with TLS and HTTP/2, into which nobody is let without a login.
func encrypted(t *testing.T, change func(*config.Config)) (address string) {
	t.Helper()
	dir := t.TempDir()
	cfg := config.DefaultConfig()
	cfg.Server.TLS = config.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	cfg.Storage.Directory, cfg.Server.Address, cfg.Server.Port, cfg.Log.Access = t.TempDir(), "127.0.0.1", 0, false
	cfg.Auth.Htpasswd = filepath.Join(dir, "htpasswd")
	if _, err := users.Open(cfg.Auth.Htpasswd).Add("alice", password, cheapest); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(cfg)
	}
	writeCertificate(t, cfg.Server.TLS, 1)
	log := logrus.New()
	log.SetOutput(io.Discard)
	ready := make(chan struct{})
	s, err := New(Options{Config: cfg, Log: log, OnReady: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Start() }()
	t.Cleanup(func() {
		if err := s.Shutdown(time.Second); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return s.Addr().String()
}

// streams is a client of HTTP/2 that does what it likes.
type streams struct {
	*testing.T
	net.Conn
	*http2.Framer
	block bytes.Buffer
	hpack *hpack.Encoder
	last  uint32
}

func newStreams(t *testing.T, address string, settings ...http2.Setting) *streams {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true,
		NextProtos: []string{"h2"}}) //nolint:gosec // it is ours
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &streams{T: t, Conn: conn, Framer: http2.NewFramer(conn, conn)}
	s.hpack = hpack.NewEncoder(&s.block)
	_, err = io.WriteString(conn, http2.ClientPreface)
	s.must(err)
	s.must(s.WriteSettings(settings...))
	return s
}

func (s *streams) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// ask begins a stream with a request. From then on the connection waits for a minute at most.
func (s *streams) ask(method, path string, whole bool, fields ...hpack.HeaderField) (id uint32) {
	s.Helper()
	s.must(s.SetDeadline(time.Now().Add(time.Minute)))
	s.block.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "localhost"}, {Name: ":path", Value: path}}, fields...) {
		s.must(s.hpack.WriteField(f))
	}
	s.last = max(1, s.last+2) | 1
	s.must(s.WriteHeaders(http2.HeadersFrameParam{StreamID: s.last, BlockFragment: s.block.Bytes(), EndHeaders: true,
		EndStream: whole}))
	return s.last
}

// catchUp waits until the server has read all that was sent.
func (s *streams) catchUp() {
	s.Helper()
	s.must(s.WritePing(false, [8]byte{1}))
	for {
		f, err := s.ReadFrame()
		s.must(err)
		if ping, ok := f.(*http2.PingFrame); ok && ping.IsAck() {
			return
		}
	}
}

// live are the bytes that are in use.
func live() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestNothingStaysOfAResetStream resets many streams as soon as they begin, without a login. No deadline, timer,
// goroutine or buffer of them outlives them.
func TestNothingStaysOfAResetStream(t *testing.T) {
	const resets = 20_000
	address := encrypted(t, func(cfg *config.Config) { cfg.Limits.StallTimeout = time.Hour })
	for _, c := range []struct {
		what, method, path string
		whole              bool
		fields             []hpack.HeaderField
	}{
		{"of requests without a body", "GET", "/v2/", true, nil},
		{"of requests whose body is to come", "PUT", "/v2/app/manifests/v1", false,
			[]hpack.HeaderField{{Name: "content-length", Value: "1000"}}},
	} {
		s := newStreams(t, address)
		reset := func(n int) {
			for i := range n {
				s.must(s.WriteRSTStream(s.ask(c.method, c.path, c.whole, c.fields...), http2.ErrCodeCancel))
				if i%50 == 49 {
					s.catchUp()
				}
			}
			s.catchUp()
		}
		reset(200) // what is allocated once
		before, goroutines := live(), runtime.NumGoroutine()
		reset(resets)
		var grown int64
		w := &world{T: t}
		w.await("handlers of streams that were reset end",
			func() bool { return runtime.NumGoroutine() <= goroutines+5 })
		if grown = live() - before; grown > resets*100 {
			t.Errorf("%d resets %s: %d bytes stay of each", resets, c.what, grown/resets)
		}
		s.Close()
	}
}

// TestAStreamThatTakesNothingIsCut, of an answer that is small enough to be buffered, too: nobody keeps a handler.
func TestAStreamThatTakesNothingIsCut(t *testing.T) {
	address := encrypted(t, func(cfg *config.Config) { cfg.Limits.StallTimeout = 200 * time.Millisecond })
	s := newStreams(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	id := s.ask("GET", "/v2/", true) // is answered by 401, with a text
	for {
		f, err := s.ReadFrame()
		s.must(err)
		if rst, ok := f.(*http2.RSTStreamFrame); ok && rst.StreamID == id {
			return
		}
		if f.Header().StreamID == id && f.Header().Flags.Has(http2.FlagDataEndStream) {
			t.Fatalf("it has ended: %v", f)
		}
	}
}

// TestAConnectionOfStreamsThatTakesNothingIsCut: no frame gets through to a client that does not read its socket,
// also not the one that ends its stream.
func TestAConnectionOfStreamsThatTakesNothingIsCut(t *testing.T) {
	address := encrypted(t, func(cfg *config.Config) {
		cfg.Auth.Enabled, cfg.Limits.StallTimeout = false, 2*time.Second // the upload below may take long, and moves
	})
	data := make([]byte, 32<<20)
	ours := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // it is ours
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: ours}}
	resp, err := client.Post("https://"+address+"/v2/app/blobs/uploads/?digest="+digestOf(data), "",
		bytes.NewReader(data))
	if err != nil || resp.StatusCode != 201 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	s := newStreams(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	s.must(s.WriteWindowUpdate(0, 1<<30))
	s.ask("GET", "/v2/app/blobs/"+digestOf(data), true)
	(&world{T: t}).await("the connection is cut", func() bool { return s.WritePing(false, [8]byte{}) != nil })
}

// TestWhoTakesABlobByBytesHoldsLittleMemory: many streams, of which each takes one byte of a blob.
func TestWhoTakesABlobByBytesHoldsLittleMemory(t *testing.T) {
	const connections, each = 5, 200
	address := encrypted(t, func(cfg *config.Config) { cfg.Auth.Enabled = false })
	blob := bytes.Repeat([]byte("b"), 1<<20)
	ours := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // it is ours
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: ours}}
	resp, err := client.Post("https://"+address+"/v2/app/blobs/uploads/?digest="+digestOf(blob),
		"application/octet-stream", bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 201 {
		t.Fatal(resp.StatusCode)
	}
	client.CloseIdleConnections()
	before := live()
	for range connections {
		s := newStreams(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		for range each {
			s.ask("GET", "/v2/app/blobs/"+digestOf(blob), true)
		}
		for taken := 0; taken < each; {
			f, err := s.ReadFrame()
			s.must(err)
			if _, ok := f.(*http2.DataFrame); ok {
				taken++
			}
		}
	}
	if used := live() - before; used > connections*each*(80<<10) {
		t.Errorf("%d KiB are in use for each", used>>10/(connections*each))
	}
}

// TestWhoSendsALayerByBytesHoldsLittleMemory: many uploads, of each of which one byte came.
func TestWhoSendsALayerByBytesHoldsLittleMemory(t *testing.T) {
	const uploads = 600
	w := newWorldWith(t, func(cfg *config.Config) { cfg.Limits.UploadsPerClient = 0 })
	var paths []string
	for range uploads {
		paths = append(paths, strings.TrimPrefix(w.want(202, "POST", "/v2/app/blobs/uploads/", nil,
			"").Header.Get("Location"), w.http.URL))
	}
	before := live()
	for i, path := range paths {
		fmt.Fprintf(w.dial(), "PATCH %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\nb", path, w.host,
			[]int{1 << 10, 1 << 20}[i%2])
	}
	w.await("all are in the hands of a request", func() bool {
		active := w.s.registry.Stats(time.Now().Add(-time.Hour)).Active
		return active == uploads
	})
	if used := live() - before; used > uploads*(100<<10) {
		t.Errorf("%d KiB are in use for each", used>>10/uploads)
	}
}
