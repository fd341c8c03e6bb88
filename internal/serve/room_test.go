package serve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/jc-lab/docker-cache-server/internal/room"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

const mib = 1 << 20

// leaves gives the store a budget up to whose limit so many bytes are left.
func (w *world) leaves(n int64) {
	w.Helper()
	w.flush()
	w.bounded((w.takes() + n) / 105 * 100)
}

// bounded gives the running server a budget.
func (w *world) bounded(bytes int64) {
	w.Helper()
	if _, err := w.reloaded(func(cfg *config.Config) { cfg.Cache.MaxSize = config.Size{Bytes: bytes} }); err != nil {
		w.Fatal(err)
	}
}

// takes is how many bytes the store takes on disk.
func (w *world) takes() int64 {
	w.Helper()
	n, err := w.s.used(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return n
}

// begin begins an upload, and returns its address.
func (w *world) begin(repo string) string {
	w.Helper()
	return w.want(202, "POST", "/v2/"+repo+"/blobs/uploads/", nil, "").Header.Get("Location")
}

// announce sends the header of an upload, and a part of its body.
func (w *world) announce(method, path string, n int64, fields string, part []byte) net.Conn {
	w.Helper()
	conn := w.dial()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n%s\r\n%s", method,
		strings.TrimPrefix(path, w.http.URL), w.host, n, fields, part)
	return conn
}

const expects = "Expect: 100-continue\r\n"

// wantFull wants an answer of 507 that says what an operator can do.
func (w *world) wantFull(what string, conn net.Conn) {
	w.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusInsufficientStorage {
		w.Fatalf("%s: %s; want 507", what, resp.Status)
	}
	if e := errorsOf(w.T, resp)[0]; e.Code != "INSUFFICIENT_STORAGE" || !strings.Contains(e.Message, "cache.max_size") {
		w.Errorf("%s: %+v", what, e)
	}
}

// reserves waits until so many bytes are reserved.
func (w *world) reserves(n int64) {
	w.Helper()
	w.await(fmt.Sprintf("%d bytes are reserved", n), func() bool { return w.s.room.Stats().Reserved == n })
}

// received is how many bytes of uploads the server has read.
func (w *world) received() float64 {
	w.Helper()
	_, got := scrape(w.T, w.s)
	return got[`registry_http_request_bytes_total{handler="upload"}`]
}

// noise is content that nothing compresses.
func noise(n int64) []byte {
	data := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = random.Read(data)
	return data
}

// TestAnUploadIsRefusedBeforeItsBytes, when it announces more than fits, in whatever request. It is gone then, and
// whoever pulls or mounts does not notice.
func TestAnUploadIsRefusedBeforeItsBytes(t *testing.T) {
	w := newWorld(t)
	img := w.image(1)
	w.push("app:v1", img)
	const n = 64 * mib
	whole := "/v2/app/blobs/uploads/?digest=" + digestOf(nil)
	const empty = `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`
	for _, fields := range []string{expects, ""} {
		var part []byte
		if fields == "" {
			part = make([]byte, 100<<10)
		}
		patched, put := w.begin("app"), w.begin("app")
		before := w.received()
		w.leaves(20 * mib)
		w.wantFull("PATCH "+fields, w.announce("PATCH", patched, n, fields, part))
		w.wantFull("PUT "+fields, w.announce("PUT", put+"&digest="+digestOf(nil), n, fields, part))
		w.wantFull("POST "+fields, w.announce("POST", whole, n, fields, part))
		if got := w.received(); got != before {
			t.Errorf("%v bytes were read of uploads that do not fit", got-before)
		}
		w.reserves(0)
		for _, upload := range []string{patched, put} {
			w.want(404, "GET", upload, nil, "")
		}
		w.leaves(0)
		w.wantFull("an upload begins", w.announce("POST", "/v2/app/blobs/uploads/", 0, "", nil))
		w.wantFull("a manifest", w.announce("PUT", "/v2/app/manifests/v2", int64(len(empty)), "", []byte(empty)))
		w.pull("app:v1")
		w.head("app:v1")
		layer := layerOf(t, img)
		w.want(201, "POST", "/v2/fork/blobs/uploads/?from=app&mount="+layer, nil, "")
		w.want(200, "HEAD", "/v2/fork/blobs/"+layer, nil, "")
		w.bounded(0)
	}
	w.upload("app", noise(64<<10))
	w.want(201, "PUT", "/v2/app/manifests/v2", []byte(empty), ociIndex)
}

// TestAnUploadOfUnknownLengthIsRefusedWhereItDoesNotFit. What came of it goes.
func TestAnUploadOfUnknownLengthIsRefusedWhereItDoesNotFit(t *testing.T) {
	w := newWorld(t)
	path := w.begin("app")
	before, took := w.takes(), w.received()
	const left = 8 * mib
	w.leaves(left)
	conn := w.dial()
	fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
		strings.TrimPrefix(path, w.http.URL), w.host)
	go func() {
		chunk := fmt.Appendf(nil, "%x\r\n%s\r\n", 64<<10, make([]byte, 64<<10))
		for _, err := conn.Write(chunk); err == nil; {
			_, err = conn.Write(chunk)
		}
	}()
	w.wantFull("an endless upload", conn)
	if got := w.received() - took; got > left || got < left/2 {
		t.Errorf("%v bytes were read, where %d fit", got, left)
	}
	w.reserves(0)
	w.want(404, "GET", path, nil, "")
	if now := w.takes(); now > before+mib {
		t.Errorf("the store takes %d bytes, %d before", now, before)
	}
}

// TestUploadsThatDoNotFitTogether: the second is refused while the first runs, and taken once the client of that left.
func TestUploadsThatDoNotFitTogether(t *testing.T) {
	w := newWorld(t)
	first, second := w.begin("app"), w.begin("app")
	w.leaves(10 * mib)
	running := w.announce("PATCH", first, 6*mib, expects, nil)
	if line := firstLine(t, running); !strings.HasPrefix(line, "HTTP/1.1 100") { // it has its room
		t.Fatal(line)
	}
	_, got := scrape(t, w.s)
	if reserved := got["dcs_store_reserved_bytes"]; reserved < 6*mib || reserved > 7*mib {
		t.Errorf("%v bytes are reserved, says the scrape", reserved)
	}
	if want := float64(w.s.room.Stats().Budget); got["dcs_store_budget_bytes"] != want || want == 0 {
		t.Errorf("the budget is %v, says the scrape; want %v", got["dcs_store_budget_bytes"], want)
	}
	w.wantFull("beside the first", w.announce("PATCH", second, 6*mib, expects, nil))
	if _, err := running.Write(make([]byte, mib)); err != nil {
		t.Fatal(err)
	}
	w.await("what came is used, and not reserved any more", func() bool {
		return w.s.room.Stats().Reserved < 6*mib-mib/2
	})
	running.Close()
	w.reserves(0)
	w.upload("app", noise(6*mib))
}

// TestAResumedUploadReservesWhatIsMissing: what it has on disk is used, also after a restart.
func TestAResumedUploadReservesWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	data := noise(8 * mib)
	path := w.begin("app")
	path = w.want(202, "PATCH", path, data[:2*mib], "").Header.Get("Location")
	cut := w.announce("PATCH", path, 6*mib, "", data[2*mib:4*mib])
	cut.Close()
	w.await("a half is there", func() bool { return w.uploaded(path) == 4*mib })
	w.reserves(0)
	w.restart()
	w.leaves(4*mib + 256<<10)
	whole := "/v2/app/blobs/uploads/?digest=" + digestOf(data)
	w.wantFull("more than is left", w.announce("POST", whole, 8*mib, expects, nil))
	path = w.want(204, "GET", w.path(path), nil, "").Header.Get("Location")
	path = w.want(202, "PATCH", path, data[4*mib:], "").Header.Get("Location")
	w.want(201, "PUT", w.path(path)+"&digest="+digestOf(data), nil, "")
	w.reserves(0)
}

// TestWhatAClientLeftBehindMakesRoom, once nothing else may go.
func TestWhatAClientLeftBehindMakesRoom(t *testing.T) {
	w := newWorld(t)
	path := w.begin("app")
	left := w.announce("PATCH", path, 8*mib, "", noise(6*mib))
	left.Close()
	w.await("the client is gone", func() bool { return w.uploaded(path) == 6*mib })
	w.reserves(0)
	w.leaves(mib)
	w.upload("app", noise(4*mib))
	w.want(404, "GET", w.path(path), nil, "")
}

// TestUploadsWaitForLessThanTheirClientsMay, since who is waited for is not the one who stalls.
func TestUploadsWaitForLessThanTheirClientsMay(t *testing.T) {
	for stall, want := range map[time.Duration]time.Duration{0: room.Patience, 2 * time.Minute: room.Patience,
		10 * time.Second: 5 * time.Second} {
		cfg := config.DefaultConfig()
		cfg.Limits.StallTimeout = stall
		if got := patience(cfg); got != want {
			t.Errorf("with a stall timeout of %v: %v, want %v", stall, got, want)
		}
	}
}

// path is an address without its host: a restarted server has another one.
func (w *world) path(address string) string { return address[strings.Index(address, "/v2/"):] }

// uploaded is how many bytes an upload has.
func (w *world) uploaded(path string) (n int64) {
	w.Helper()
	last := w.want(204, "GET", w.path(path), nil, "").Header.Get("Range")
	if _, err := fmt.Sscanf(last, "0-%d", &n); err != nil {
		w.Fatal(last, err)
	}
	return n + 1
}

// TestAnUploadWaitsForAnEvictionThatMakesRoom: what was used least recently goes, and what is in its grace stays.
func TestAnUploadWaitsForAnEvictionThatMakesRoom(t *testing.T) {
	w := newWorld(t)
	old := w.upload("old", noise(8*mib))
	w.put("old", "v1", map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
		"config": descriptor(ociConfig, w.upload("old", []byte("{}")), 2),
		"layers": []any{descriptor(ociLayer, old, 8*mib)}})
	w.pass(2 * grace)
	w.push("app:v1", w.image(1))
	w.leaves(4 * mib)
	w.upload("app", noise(6*mib))
	w.gone("old:v1")
	w.pull("app:v1")
	w.reserves(0)
}

// TestABudgetIsLoweredWhileUploadsRun: what was announced goes on, and what was not is cut.
func TestABudgetIsLoweredWhileUploadsRun(t *testing.T) {
	w := newWorld(t)
	data := noise(6 * mib)
	w.leaves(100 * mib)
	announced := w.announce("POST", "/v2/app/blobs/uploads/?digest="+digestOf(data), 6*mib, expects, nil)
	if line := firstLine(t, announced); !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatal(line)
	}
	body, client := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "PATCH", w.begin("app"), body)
	if err != nil {
		t.Fatal(err)
	}
	cut := make(chan *http.Response, 1)
	go func() {
		defer close(cut)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		cut <- resp
	}()
	if _, err := client.Write(make([]byte, mib)); err != nil {
		t.Fatal(err)
	}
	w.bounded(mib)
	for err == nil {
		_, err = client.Write(make([]byte, mib))
	}
	resp := <-cut
	if resp == nil || resp.StatusCode != http.StatusInsufficientStorage {
		t.Fatalf("%v; want 507", resp)
	}
	resp.Body.Close()
	if _, err := announced.Write(data); err != nil {
		t.Error(err)
	}
	if line := finalLine(t, announced); !strings.HasPrefix(line, "HTTP/1.1 201") {
		t.Errorf("what was announced: %s", line)
	}
	w.reserves(0)
}

// TestAClientThatSendsAllTheSameReadsWhyItIsRefused: its connection ends after the answer, not before it.
func TestAClientThatSendsAllTheSameReadsWhyItIsRefused(t *testing.T) {
	w := newWorld(t)
	w.leaves(mib)
	data := noise(32 * mib)
	for range 3 {
		w.want(507, "POST", "/v2/app/blobs/uploads/?digest="+digestOf(data), data, "")
	}
	w.reserves(0)
}

// TestARefusalIsReadable by whoever uses the library of crane, and not tried again.
func TestARefusalIsReadable(t *testing.T) {
	w := newWorld(t)
	w.leaves(0)
	err := remote.Write(w.ref("app:v1"), w.image(1))
	var refusal *transport.Error
	if !errors.As(err, &refusal) || refusal.StatusCode != http.StatusInsufficientStorage || refusal.Temporary() {
		t.Fatalf("%v; want 507", err)
	}
	if text := err.Error(); !strings.Contains(text, "INSUFFICIENT_STORAGE: this needs ") {
		t.Errorf("crane says %q", text)
	}
	t.Log(err)
}
