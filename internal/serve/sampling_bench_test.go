package serve

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/reuse"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// BenchmarkSampling compares the processor time of GETs over a socket, their client included, with that of what is
// recorded of them. It is told beside the time of the clock, which says little on a busy machine.
func BenchmarkSampling(b *testing.B) {
	cfg := config.DefaultConfig()
	cfg.Storage.Directory, cfg.Auth.Enabled, cfg.Log.Access = b.TempDir(), false, false
	cfg.Cache.CleanupInterval, cfg.Cache.WhatIfMemory = 0, 0
	s, err := New(Options{Config: cfg, Log: quietLog()})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	b.Cleanup(func() {
		server.Close()
		if err := s.Shutdown(time.Second); err != nil {
			b.Error(err)
		}
	})
	send := func(method, path, contentType string, body []byte) {
		req, err := http.NewRequestWithContext(b.Context(), method, server.URL+path, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode >= 300 {
			b.Fatalf("%s %s: %s, %v", method, path, resp.Status, err)
		}
	}
	layers := make([]string, 0, 12)
	for n := range cap(layers) {
		data := fmt.Appendf(nil, `{"n":%d}`, n)
		send("POST", "/v2/app/blobs/uploads/?digest="+digestOf(data), "", data)
		layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, ociLayer, digestOf(data), len(data)))
	}
	image := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, ociManifest, layers[0],
		strings.Join(layers[1:], ","))
	send("PUT", "/v2/app/manifests/v1", ociManifest, image)
	says, err := manifest.Parse(image)
	if err != nil {
		b.Fatal(err)
	}
	request := event.Request{Method: "GET", Status: 200, Sent: 1000}
	for _, pull := range []struct {
		path string
		event.Event
	}{
		{"/v2/app/manifests/v1", event.Event{Kind: event.Pull, Hit: true, Repository: "app", Tag: "v1",
			Digest: digest.FromBytes(image), Size: int64(len(image)), Manifest: says, Request: request}},
		{"/v2/app/blobs/" + string(says.Parts[0].Digest), event.Event{Kind: event.Pull, Hit: true, Repository: "app",
			Digest: says.Parts[0].Digest, Size: 1000, Request: request}},
	} {
		kind, _, _ := strings.Cut(strings.TrimPrefix(pull.path, "/v2/app/"), "/")
		b.Run(kind+": a GET", func(b *testing.B) {
			processor(b, func() { send("GET", pull.path, "", nil) })
		})
		for objects, what := range map[int]string{0: "all in the sample", 1_000_000: "of a million objects"} {
			b.Run(kind+": what is recorded, "+what, func(b *testing.B) {
				t, err := tree.Open(tree.Dir(b.TempDir()))
				if err != nil {
					b.Fatal(err)
				}
				s := newSampling(t, 1<<20, nil, quietLog())
				for n := range objects {
					s.sampler.Pushed(reuse.OfTag("object", fmt.Sprint(n)), 10<<20)
				}
				processor(b, func() { s.observe(pull.Event) })
			})
		}
	}
}

// processor runs f as often as the benchmark wants, and reports the processor time of the program.
func processor(b *testing.B, f func()) {
	b.Helper()
	before := processorTime(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
