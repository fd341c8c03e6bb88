package load

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestPercentiles(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, c := range []struct {
		of   []int
		p    float64
		want int
	}{
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
		{[]int{7}, 0.5, 7}, {[]int{7}, 0.99, 7}, {[]int{1, 2, 3}, 0.5, 2}, {nil, 0.5, 0},
	} {
		if got := Percentile(c.of, c.p); got != c.want {
			t.Errorf("Percentile of %d values at %v: %d, want %d", len(c.of), c.p, got, c.want)
		}
	}
}

// serve answers every path with what content has for it.
func serve(t *testing.T, content map[string][]byte) (addr string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		data, ok := content[r.URL.Path]
		if !ok || r.Header.Get("Accept") != "bytes" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(data) // the client counts
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked
}

func get(path string, data []byte) Request {
	return Request{Method: "GET", Path: path, Header: "Accept: bytes\r\n", Length: int64(len(data)),
		Digest: digest.FromBytes(data)}.Prepare()
}

func TestBodiesOfEverySizeAreReadToTheirEnd(t *testing.T) {
	content := map[string][]byte{}
	var requests []Request
	for _, size := range []int{0, 1, 4 << 10, dropAbove - 1, dropAbove + 1, dropAbove + 4<<10, 3*piece + 1} {
		path := fmt.Sprint("/", size)
		content[path] = bytes.Repeat([]byte{'x'}, size)
		requests = append(requests, get(path, content[path]))
		h := get(path, content[path])
		h.Method = "HEAD"
		requests = append(requests, h.Prepare())
	}
	addr, asked := serve(t, content)
	if err := Verify(addr, nil, requests, time.Minute); err != nil {
		t.Error(err)
	}
	s, err := Loop{Addr: addr, Plans: Spread(requests, 3, 2), Once: true}.Run()
	if err != nil {
		t.Fatal(err)
	}
	if want := 3 * len(requests); s.Requests != want || int(asked.Load()) != want+len(requests) {
		t.Errorf("%d requests, of which the server knows %d; want %d", s.Requests, asked.Load(), want)
	}
}

func TestWrongAnswersAreNoticed(t *testing.T) {
	addr, _ := serve(t, map[string][]byte{"/a": []byte("bytes")})
	short, missing, other := get("/a", []byte("byte")), get("/b", []byte("bytes")), get("/a", []byte("BYTES"))
	for name, r := range map[string]Request{"length": short, "status": missing, "digest": other} {
		if err := Verify(addr, nil, []Request{r}, time.Minute); err == nil {
			t.Errorf("Verify: a wrong %s is accepted", name)
		}
	}
	for name, r := range map[string]Request{"length": short, "status": missing} {
		if _, err := (Loop{Addr: addr, Plans: [][]Request{{r}}, Once: true}).Run(); err == nil {
			t.Errorf("a wrong %s is accepted", name)
		}
	}
}

func TestLoopsEnd(t *testing.T) {
	data := []byte("bytes")
	addr, _ := serve(t, map[string][]byte{"/a": data})
	plans := Spread([]Request{get("/a", data)}, 2, 1)
	s, err := Loop{Addr: addr, Plans: plans, For: 500 * time.Millisecond}.Run()
	if err != nil || s.Requests < 2 || s.Bytes != int64(s.Requests*len(data)) || s.P99 < s.P50 {
		t.Errorf("by time: %+v, %v", s, err)
	}
	s, err = Loop{Addr: addr, Plans: plans, For: 2 * time.Second, Rate: 100}.Run()
	if err != nil || s.Requests < 50 || s.Requests > 205 {
		t.Errorf("at a rate: %d requests in %v, want some 200: %v", s.Requests, s.Elapsed, err)
	}
	ended := make(chan struct{})
	close(ended)
	if s, err = (Loop{Addr: addr, Plans: plans, For: time.Minute, Until: ended}).Run(); err != nil || s.Requests > 0 {
		t.Errorf("until something ended: %+v, %v", s, err)
	}
}

// A request that had to wait for its connection counts from when it was due.
func TestAStallIsChargedToAllWhoWaited(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 1 {
			time.Sleep(200 * time.Millisecond)
		}
	}))
	defer s.Close()
	plan := []Request{Request{Method: "GET", Path: "/"}.Prepare()}
	got, err := Loop{Addr: s.Listener.Addr().String(), Plans: [][]Request{plan}, For: 300 * time.Millisecond,
		Rate: 100}.Run()
	if err != nil {
		t.Fatal(err)
	}
	if got.P50 < 20*time.Millisecond {
		t.Errorf("half of the requests took %v or less: those that waited are not counted as such", got.P50)
	}
}

func TestSpreadKeepsSessionsWhole(t *testing.T) {
	var all []Request
	for i := range 12 {
		all = append(all, Request{Path: fmt.Sprint(i)})
	}
	path := func(plan []Request) (s string) {
		for _, r := range plan {
			s += r.Path + " "
		}
		return s
	}
	for i, plan := range Spread(all, 2, 3) {
		if want := []string{"0", "6"}[i]; len(plan) != len(all) || plan[0].Path != want {
			t.Errorf("connection %d: %s", i, path(plan))
		}
	}
	if divided := slices.Concat(Divide(all, 5)...); path(divided) != path(all) {
		t.Errorf("divided and put together again: %s", path(divided))
	}
}

func TestBodiesUnderTLSAreReadToTheirEnd(t *testing.T) {
	data := bytes.Repeat([]byte{'x'}, 3*piece+1)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data) // the client counts
	}))
	defer s.Close()
	addr, secure := s.Listener.Addr().String(), s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	secure.ServerName = "example.com" // of the certificate
	if err := Verify(addr, secure, []Request{get("/a", data)}, time.Minute); err != nil {
		t.Error(err)
	}
	got, err := Loop{Addr: addr, TLS: secure, Plans: [][]Request{{get("/a", data), get("/a", data)}}, Once: true}.Run()
	if err != nil || got.Requests != 2 || got.Bytes != int64(2*len(data)) {
		t.Errorf("%+v, %v", got, err)
	}
	c, err := Dial(addr, secure)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := get("/a", data)
	if err := c.Do(&r); err != nil || !strings.HasPrefix(c.Cipher(), "TLS 1.3, TLS_") {
		t.Error(err, c.Cipher())
	}
}

// Each form sends the same bytes, in as many requests as its name says.
func TestPushSpeaksAsClientsDo(t *testing.T) {
	block := bytes.Repeat([]byte("layer "), 20_000)
	data := bytes.Repeat(block, parts)
	d := digest.FromBytes(data)
	body := Body{Digest: d, Size: int64(len(data))}
	for range parts {
		body.Pieces, body.Chunks = append(body.Pieces, block), append(body.Chunks, Chunks(block))
	}
	body.Chunks = append(body.Chunks, End)
	var spoken []string
	var bytesSent bytes.Buffer
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.Copy(&bytesSent, r.Body)
		spoken = append(spoken, fmt.Sprint(r.Method, " ", r.URL.RequestURI(), " ", sent, " ", r.TransferEncoding,
			r.Header["Content-Range"]))
		switch {
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost && r.URL.Query().Has("digest"), r.Method == http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodPost:
			w.Header().Set("Location", "http://elsewhere/upload?_state=1")
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPatch:
			w.Header().Set("Location", "/upload")
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer s.Close()
	p, err := NewPusher(s.Listener.Addr().String(), "app")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	size, escaped := fmt.Sprint(len(data)), strings.Replace(d.String(), ":", "%3A", 1)
	begin, end := "POST /v2/app/blobs/uploads/ 0 [] []", "PUT /upload?digest="+escaped+" 0 [] []"
	var patches []string
	for i := range parts {
		upload := "/upload"
		if i == 0 {
			upload = "/upload?_state=1"
		}
		patches = append(patches, fmt.Sprintf("PATCH %s %d [] [%d-%d]", upload, len(block), i*len(block),
			(i+1)*len(block)-1))
	}
	for form, want := range map[Form][]string{
		Chunked: {begin, "PATCH /upload?_state=1 " + size + " [chunked] []", end},
		Length:  {begin, "PATCH /upload?_state=1 " + size + " [] []", end},
		Parts:   slices.Concat([]string{begin}, patches, []string{end}),
		Put:     {begin, "PUT /upload?_state=1&digest=" + escaped + " " + size + " [] []"},
		Post:    {"POST /v2/app/blobs/uploads/?digest=" + escaped + " " + size + " [] []"},
	} {
		spoken = nil
		bytesSent.Reset()
		if err := p.Blob(form, body); err != nil {
			t.Fatal(form, err)
		}
		want = slices.Concat([]string{"HEAD /v2/app/blobs/" + d.String() + " 0 [] []"}, want)
		if !slices.Equal(spoken, want) || !bytes.Equal(bytesSent.Bytes(), data) {
			t.Errorf("form %d, %d bytes:\n%s\nwant:\n%s", form, bytesSent.Len(), strings.Join(spoken, "\n"),
				strings.Join(want, "\n"))
		}
	}
	spoken = nil
	if err := p.Manifest("v1", "application/json", []byte("{}")); err != nil || len(spoken) != 1 ||
		spoken[0] != "PUT /v2/app/manifests/v1 2 [] []" {
		t.Errorf("%q, %v", spoken, err)
	}
	small := []byte("small")
	if b := NewBody(digest.FromBytes(small), small); p.Blob(Chunked, b) != nil || p.Blob(Parts, b) != nil {
		t.Error("a body of one piece is not sent")
	}
}
