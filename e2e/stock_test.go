//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/jc-lab/docker-cache-server/bench/stores"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

const stockConfig = `
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: DIRECTORY}
  delete: {enabled: true}
http: {addr: ADDRESS, secret: e2e}
`

// A directory moves from the stock registry to dcs, back, and to dcs again. Each serves what the others stored.
func TestStockRegistryServesTheSameDirectory(t *testing.T) {
	dir := t.TempDir()
	stored := map[string]v1.Hash{} // repository:tag -> digest

	addr, end := serveStock(t, dir)
	stored["before/app:v1"] = pushImage(t, addr+"/before/app:v1", newImage(t, 1<<10))
	end()

	addr, server := serveOpen(t, dir)
	pullAll(t, addr, stored)
	stored["app:v1"] = pushImage(t, addr+"/app:v1", newImage(t, 1<<20))
	stored["before/app:v2"] = pushImage(t, addr+"/before/app:v2", newImage(t, 1<<10))
	stored["multi:latest"] = pushIndex(t, addr+"/multi:latest", newIndex(t))
	server.stop(t)

	addr, end = serveStock(t, dir)
	pullAll(t, addr, stored)
	stored["after:v1"] = pushImage(t, addr+"/after:v1", newImage(t, 1<<10))
	stored["app:v1"] = pushImage(t, addr+"/app:v1", newImage(t, 1<<10)) // the tag moves
	end()

	addr, server = serveOpen(t, dir)
	pullAll(t, addr, stored)
	eventually(t, time.Minute, "list of all images", func() error { return inspectLists(t, dir, stored) })
	server.stop(t)
	if err := inspectLists(t, dir, stored); err != nil {
		t.Errorf("without a server: %v", err)
	}
}

// The stock registry serves a store that `make bench` measures on, every image by its digest and by its tag. So the
// rows that measure both registries on one store measure the same work.
func TestStockRegistryServesAStoreOfTheBench(t *testing.T) {
	shape := stores.Shape{Images: 20, Repositories: 3, Layers: 2, Shared: 1, Sharers: 3, Size: 100, Untagged: 1}
	dir := t.TempDir()
	if err := stores.Disk(tree.Dir(dir), shape); err != nil {
		t.Fatal(err)
	}
	addr, _ := serveStock(t, dir)
	for i := range shape.Images {
		image := shape.Image(i)
		manifest, err := v1.ParseManifest(bytes.NewReader(image.Manifest.Data))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := 1+len(manifest.Layers), 1+shape.Shared+shape.Layers; got != want {
			t.Errorf("image %d refers to %d blobs, want %d", i, got, want)
		}
		dgst, err := v1.NewHash(image.Manifest.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		mustPull(t, addr+"/"+image.Repository+"@"+dgst.String(), dgst)
		if image.Tag != "" {
			mustPull(t, addr+"/"+image.Repository+":"+image.Tag, dgst)
		}
	}
}

func serveStock(t *testing.T, dir string) (addr string, end func()) {
	t.Helper()
	return serveOther(t, stockRegistryBin, dir)
}

// serveOther serves a directory by another registry.
func serveOther(t *testing.T, binary, dir string) (addr string, end func()) {
	t.Helper()
	addr = "127.0.0.1:" + freePort(t)
	config := strings.NewReplacer("DIRECTORY", dir, "ADDRESS", addr).Replace(stockConfig)
	stock := startServer(t, addr, time.Minute,
		exec.Command(binary, "serve", writeFile(t, filepath.Join(t.TempDir(), "config.yml"), config)))
	return addr, func() { stock.end(syscall.SIGTERM) } // it does not end with 0
}

func serveOpen(t *testing.T, dir string) (addr string, server *process) {
	t.Helper()
	addr, serve := openCommand(t, dir)
	return addr, startServer(t, addr, time.Minute, serve)
}

func pullAll(t *testing.T, addr string, stored map[string]v1.Hash) {
	t.Helper()
	for ref, dgst := range stored {
		mustPull(t, addr+"/"+ref, dgst)
	}
}

// inspectLists is nil when `dcs inspect --images` knows every tagged image that is stored, by its digest.
func inspectLists(t *testing.T, dir string, stored map[string]v1.Hash) error {
	t.Helper()
	var listed struct {
		Images []struct {
			Repository, Tag, Digest string
		}
	}
	printed := run(t, exec.Command(dcsBin, "inspect", "--images", "--format", "json", "--storage.directory", dir))
	if err := json.Unmarshal([]byte(printed), &listed); err != nil {
		t.Fatalf("%v in %s", err, printed)
	}
	digests := map[string]string{}
	for _, image := range listed.Images {
		if image.Tag != "" {
			digests[image.Repository+":"+image.Tag] = image.Digest
		}
	}
	want := map[string]string{}
	for ref, dgst := range stored {
		want[ref] = dgst.String()
	}
	if !maps.Equal(digests, want) {
		return fmt.Errorf("dcs inspect lists %v, want %v", slices.Sorted(maps.Keys(digests)),
			slices.Sorted(maps.Keys(want)))
	}
	return nil
}
