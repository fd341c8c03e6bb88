//go:build e2e

package e2e

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// TestAdoption puts directories of other registries under dcs: all is served at once, counts as used when dcs found
// it, or by file time where that is asked for, and goes by the rules. Then the registry that it came from serves
// what is left.
func TestAdoption(t *testing.T) {
	for name, binary := range map[string]string{"registry 2.8 of Debian": "docker-registry",
		"stock v3.1.2": stockRegistryBin} {
		t.Run(name, func(t *testing.T) { adopts(t, binary) })
	}
}

func adopts(t *testing.T, binary string) {
	dir := t.TempDir()
	addr, end := serveOther(t, binary, dir)
	stored := map[string]v1.Hash{}
	app := newImage(t, 10<<10)
	stored["app:v1"] = pushImage(t, addr+"/app:v1", app)
	stored["multi:latest"] = pushIndex(t, addr+"/multi:latest", newIndex(t))
	signature := artifact(t, types.OCIConfigJSON, "application/vnd.dev.cosign.simplesigning.v1+json")
	tag := strings.Replace(stored["app:v1"].String(), ":", "-", 1) + ".sig"
	stored["app:"+tag] = pushImage(t, addr+"/app:"+tag, signature)
	referrer, dgst := pushReferrer(t, addr+"/app", app)
	stored[referrer] = dgst
	stored["charts/demo:0.1.0"] = pushImage(t, addr+"/charts/demo:0.1.0",
		artifact(t, "application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"))
	old := newImage(t, 1<<10)
	forgotten := pushImage(t, addr+"/old:v1", old)
	end()
	// All of it was stored two days ago, and most of it again just now.
	age(t, dir, func(path string) bool {
		return strings.Contains(path, "/repositories/old/") || strings.Contains(path, "/blobs/")
	})

	byTime := filepath.Join(t.TempDir(), "data")
	run(t, exec.Command("cp", "-a", dir, byTime))

	addr, server := serveOpen(t, dir)
	pullAll(t, addr, stored)
	mustPull(t, addr+"/old:v1", forgotten)
	server.stop(t)
	run(t, exec.Command(dcsBin, "gc", "--ttl", "24h", "--storage.directory", dir))
	run(t, exec.Command(dcsBin, "inspect", "--check", "--deep", "--storage.directory", dir))
	addr, end = serveOther(t, binary, dir)
	pullAll(t, addr, stored)
	mustPull(t, addr+"/old:v1", forgotten) // adopted is used
	end()

	addr, serve := openCommand(t, byTime)
	serve.Args = append(serve.Args, "--cache.adopt_age", "mtime", "--cache.ttl", "24h", "--cache.grace", "1s",
		"--cache.cleanup_interval", "300ms")
	server = startServer(t, addr, time.Minute, serve)
	if err := answers(addr, "app", "v1"); err != nil {
		t.Errorf("at once: %v", err)
	}
	eventually(t, time.Minute, "an old image goes", func() error {
		if files := filesOf(t, filepath.Join(byTime, "docker/registry/v2/repositories/old")); len(files) > 0 {
			return fmt.Errorf("%d files of it are left", len(files))
		}
		return nil
	})
	eventually(t, time.Minute, "its bytes go", func() error {
		if blobs := filesOf(t, filepath.Join(byTime, "docker/registry/v2/blobs/sha256", forgotten.Hex[:2],
			forgotten.Hex)); len(blobs) > 0 {
			return fmt.Errorf("%v is left", blobs)
		}
		return nil
	})
	pullAll(t, addr, stored)
	server.stop(t)
	run(t, exec.Command(dcsBin, "inspect", "--check", "--deep", "--storage.directory", byTime))

	addr, end = serveOther(t, binary, byTime)
	pullAll(t, addr, stored)
	if err := answers(addr, "old", "v1"); err == nil {
		t.Error("what dcs forgot is there")
	}
	end()
}

// artifact is an image of which only the types are anything special.
func artifact(t *testing.T, config, layer types.MediaType) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer([]byte(t.Name()+string(layer)), layer))
	if err != nil {
		t.Fatal(err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), config)
}

// answers asks for a manifest without any library's retries.
func answers(addr, repo, reference string) error {
	req, err := http.NewRequest(http.MethodHead, "http://"+addr+"/v2/"+repo+"/manifests/"+reference, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", string(types.DockerManifestSchema2)+", "+string(types.OCIManifestSchema1))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s:%s answers %d", repo, reference, resp.StatusCode)
	}
	return nil
}

func filesOf(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil && !e.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
