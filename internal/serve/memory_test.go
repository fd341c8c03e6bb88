package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// large is a manifest of nearly so many bytes, of which no two are alike.
func large(n, size int) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":"%d","a":%q}}`,
		ociIndex, n, strings.Repeat("a", size-300))
}

// peak calls f, and says how much more memory was in use meanwhile than before, at most.
func peak(f func()) (most int64) {
	before := live()
	ctx, end := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			runtime.GC() // so that what is counted is in use
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, int64(m.HeapAlloc)-before) //nolint:gosec // memory fits
			time.Sleep(50 * time.Millisecond)
		}
	})
	f()
	end()
	watching.Wait()
	return most
}

// from is a client at an address of this machine.
func from(t *testing.T, address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	tr := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 5 * time.Minute} // the race detector on a busy machine takes its time
}

// TestManifestsThatLackOneByteKeepNobodyOut, and their memory is bounded: 150 of 4 MiB, from one address or from many.
func TestManifestsThatLackOneByteKeepNobodyOut(t *testing.T) {
	const attackers, size = 150, 4 << 20
	for name, address := range map[string]func(i int) string{
		"from one address":    func(int) string { return "127.0.0.2" },
		"from many addresses": func(i int) string { return fmt.Sprint("127.0.1.", i+1) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			body := large(0, size)
			var open []net.Conn
			var told atomic.Int64
			used := peak(func() {
				var all sync.WaitGroup
				for i := range attackers {
					dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address(i))}}
					conn, err := dialer.Dial("tcp", w.host)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { conn.Close() })
					open = append(open, conn)
					all.Go(func() {
						fmt.Fprintf(conn,
							"PUT /v2/app/manifests/v%d HTTP/1.1\r\nHost: %s\r\n"+
								"Content-Type: %s\r\nContent-Length: %d\r\n\r\n",
							i, w.host, ociIndex, len(body)+1)
						_, _ = conn.Write(body) // who gives way takes no more
					})
				}
				all.Wait()
				for i, honest := range []struct{ n, size int }{{1, 1000}, {2, 100_000}, {3, size}, {4, 1000}} {
					data := large(honest.n, honest.size)
					req, err := http.NewRequest("PUT", w.http.URL+fmt.Sprint("/v2/app/manifests/honest", i),
						bytes.NewReader(data))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Type", ociIndex)
					resp, err := from(t, "127.0.0.9").Do(req)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					if resp.StatusCode != 201 {
						t.Errorf("an honest manifest of %d bytes: %d", len(data), resp.StatusCode)
					}
				}
			})
			if used > 300<<20 {
				t.Errorf("%d MiB were in use", used>>20)
			}
			for _, conn := range open[:100] {
				_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				if line := firstLine(t, conn); strings.HasPrefix(line, "HTTP/1.1 429") ||
					strings.HasPrefix(line, "HTTP/1.1 503") {
					told.Add(1)
				}
				conn.Close()
			}
			if told.Load() == 0 {
				t.Error("nobody was told that he had to give way")
			}
		})
	}
}

// TestManyLargeManifestsAtOnceTakeBoundedMemory, whoever sends or takes them, however slowly.
func TestManyLargeManifestsAtOnceTakeBoundedMemory(t *testing.T) {
	const n, size = 40, 2 << 20
	w := newWorld(t)
	stored := make([]bool, n)
	var manifests [n][]byte
	for i := range manifests {
		manifests[i] = large(i, size)
	}
	used := peak(func() {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				resp := w.do("PUT", fmt.Sprint("/v2/app/manifests/v", i), manifests[i], ociIndex)
				stored[i] = resp.StatusCode == 201
				if !stored[i] && (resp.StatusCode != 429 && resp.StatusCode != 503 ||
					resp.Header.Get("Retry-After") == "") {
					t.Errorf("a manifest beside others: %d", resp.StatusCode)
				}
			})
		}
		all.Wait()
	})
	if used > 300<<20 {
		t.Errorf("%d MiB were in use while they were sent", used>>20)
	}
	for i := range n {
		if !stored[i] {
			w.want(201, "PUT", fmt.Sprint("/v2/app/manifests/v", i), manifests[i], ociIndex)
		}
	}
	used = peak(func() {
		for i := range n {
			conn := w.dial()
			fmt.Fprintf(conn, "GET /v2/app/manifests/v%d HTTP/1.1\r\nHost: %s\r\n\r\n", i, w.host)
		}
		for i := range n { // who takes what he asked for is served
			resp := w.want(200, "GET", fmt.Sprint("/v2/app/manifests/v", i), nil, "")
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Error(err)
			}
		}
	})
	if used > 300<<20 {
		t.Errorf("%d MiB were in use while they were taken", used>>20)
	}
}

// TestWhoTakesNothingOfLargeAnswersHoldsBoundedMemory: manifests and lists are made in memory, and many ask at once.
// An honest client is answered beside them.
func TestWhoTakesNothingOfLargeAnswersHoldsBoundedMemory(t *testing.T) {
	const bound = 160 << 20
	w := newWorld(t)
	w.want(201, "PUT", "/v2/app/manifests/large", large(0, 4<<20), ociIndex)
	w.want(201, "PUT", "/v2/app/manifests/small", large(1, 1000), ociIndex)
	subject := digestOf([]byte("nobody pushed it"))
	for i := range 52 {
		w.want(201, "PUT", fmt.Sprint("/v2/app/manifests/r", i), fmt.Appendf(nil,
			`{"schemaVersion":2,"mediaType":%q,"manifests":[],"subject":%s,"annotations":{"n":"%d","a":%q}}`,
			ociIndex, subjectOf(subject), i, strings.Repeat("a", 60_000)), ociIndex)
	}
	tagged := large(2, 1000)
	w.want(201, "PUT", "/v2/tags/manifests/first", tagged, ociIndex)
	w.stop()
	for i := range 6_000 {
		dir := filepath.Join(w.dir, "docker/registry/v2/repositories/tags/_manifests/tags",
			fmt.Sprintf("%06d%s", i, strings.Repeat("t", 120)), "current")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "link"),
			[]byte(digestOf(tagged)), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	for what, c := range map[string]struct {
		path   string
		takers int
	}{
		"a manifest":          {"/v2/app/manifests/large", 120},
		"a list of referrers": {"/v2/app/referrers/" + subject, 40},
		"a list of tags":      {"/v2/tags/tags/list", 250},
	} {
		t.Run(what, func(t *testing.T) {
			var open []net.Conn
			used := peak(func() {
				for range c.takers {
					conn := w.dial()
					if err := errors.Join(conn.(*net.TCPConn).SetReadBuffer(4<<10),
						conn.SetDeadline(time.Now().Add(5*time.Minute))); err != nil {
						t.Fatal(err)
					}
					fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", c.path, w.host)
					open = append(open, conn)
				}
				for _, path := range []string{c.path, "/v2/app/manifests/small", "/v2/app/tags/list"} {
					resp, err := from(t, "127.0.0.9").Get(w.http.URL + path)
					if err != nil {
						t.Fatal(err)
					}
					n, err := io.Copy(io.Discard, resp.Body)
					if resp.Body.Close(); resp.StatusCode != 200 || err != nil {
						t.Errorf("an honest client is answered %s by %d, %d bytes, %v", path, resp.StatusCode, n, err)
					}
				}
				for _, conn := range open { // each is answered, or refused, or gives way
					if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatal(err)
					}
				}
			})
			if used > bound {
				t.Errorf("%d MiB were in use", used>>20)
			}
			for _, conn := range open {
				conn.Close()
			}
		})
	}
}

func subjectOf(d string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":16}`, ociIndex, d)
}
