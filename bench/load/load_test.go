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
	if err := Verify(addr, requests, time.Minute); err != nil {
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
		if err := Verify(addr, []Request{r}, time.Minute); err == nil {
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
	s, err := Loop{Addr: addr, Plans: plans, For: 50 * time.Millisecond}.Run()
	if err != nil || s.Requests < 2 || s.Bytes != int64(s.Requests*len(data)) || s.P99 < s.P50 {
		t.Errorf("by time: %+v, %v", s, err)
	}
	s, err = Loop{Addr: addr, Plans: plans, For: 200 * time.Millisecond, Rate: 100}.Run()
	if err != nil || s.Requests < 5 || s.Requests > 25 {
		t.Errorf("at a rate: %d requests in %v, want some 20: %v", s.Requests, s.Elapsed, err)
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

func TestPushSpeaksAsDockerDoes(t *testing.T) {
	data := bytes.Repeat([]byte("layer "), 20_000)
	d := digest.FromBytes(data)
	var spoken []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		spoken = append(spoken, fmt.Sprint(r.Method, " ", r.URL.RequestURI(), " ", len(body), " ", r.TransferEncoding))
		switch r.Method {
		case http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case http.MethodPost:
			w.Header().Set("Location", "http://elsewhere/upload?_state=1")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPatch:
			w.Header().Set("Location", "/upload")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer s.Close()
	p, err := NewPusher(s.Listener.Addr().String(), "app")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	wire := append(Chunks(data), End...)
	if err := p.Blob(d, func(write func([]byte) error) error { return write(wire) }); err != nil {
		t.Fatal(err)
	}
	if err := p.Manifest("v1", "application/json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"HEAD /v2/app/blobs/" + d.String() + " 0 []", "POST /v2/app/blobs/uploads/ 0 []",
		fmt.Sprint("PATCH /upload?_state=1 ", len(data), " [chunked]"), "PUT /upload?digest=" +
			strings.Replace(d.String(), ":", "%3A", 1) + " 0 []",
		"PUT /v2/app/manifests/v1 2 []",
	}
	if !slices.Equal(spoken, want) {
		t.Errorf("spoken:\n%s\nwant:\n%s", strings.Join(spoken, "\n"), strings.Join(want, "\n"))
	}
}
