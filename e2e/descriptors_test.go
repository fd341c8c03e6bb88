//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestFewDescriptorsAreEnough gives a server hardly more file descriptors than it needs, and many clients: some that
// only connect, some that keep a connection, some that take what they asked for slowly, and some that mean well.
// Those are served, in full, and the server never runs out of descriptors.
func TestFewDescriptorsAreEnough(t *testing.T) {
	const limit, tags, connections = 48, 30, 60
	port := freePort(t)
	addr := "127.0.0.1:" + port
	p := startServer(t, addr, time.Minute, exec.Command("/bin/sh", "-c", fmt.Sprintf(
		"ulimit -n %d; exec %s serve --storage.directory %s --auth.enabled=false "+
			"--server.address 127.0.0.1 --server.port %s "+
			"--debug.address '' --limits.stall_timeout 3s",
		limit, dcsBin, t.TempDir(), port)))
	img := newImage(t, 8<<20)
	dgst := pushImage(t, addr+"/app:v0", img)
	for i := range tags {
		if err := remote.Tag(reference(t, fmt.Sprintf("%s/app:v%d", addr, i)).Context().Tag(fmt.Sprint("v", i)),
			img); err != nil {
			t.Fatal(err)
		}
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	for i := range connections {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		switch i % 3 {
		case 0: // sends nothing
		case 1: // sends a request, and keeps the connection
			fmt.Fprintf(conn, "GET /v2/ HTTP/1.1\r\nHost: %s\r\n\r\n", addr)
		case 2:
			if i < 12 { // takes nothing of a layer; more of those would keep the others from layers, and nothing else
				fmt.Fprintf(conn, "GET /v2/app/blobs/%s HTTP/1.1\r\nHost: %s\r\n\r\n", layer, addr)
			}
		}
	}
	client := &http.Client{Timeout: time.Minute}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for range 20 {
				manifest, err := client.Get("http://" + addr + "/v2/app/manifests/" + dgst.String())
				if err != nil || manifest.StatusCode != http.StatusOK {
					t.Errorf("a manifest: %v %v", manifest, err)
					return
				}
				_, _ = io.Copy(io.Discard, manifest.Body)
				manifest.Body.Close()
				var list struct{ Tags []string }
				resp, err := client.Get("http://" + addr + "/v2/app/tags/list")
				if err == nil {
					err = json.NewDecoder(resp.Body).Decode(&list)
					resp.Body.Close()
				}
				if err != nil || len(list.Tags) < tags { // those who are done push others
					t.Errorf("%d tags, %v; want %d", len(list.Tags), err, tags)
					return
				}
				fds, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid), "fd"))
				if err != nil || len(fds) >= limit {
					t.Errorf("%d descriptors are open, %v", len(fds), err)
				}
			}
			pushImage(t, fmt.Sprintf("%s/app:w%d", addr, worker), newImage(t, 1<<10))
		})
	}
	all.Wait()
	if log := p.output.String(); strings.Contains(log, "too many open files") {
		t.Error("the server ran out of descriptors")
	}
}
