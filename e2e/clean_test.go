//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// collected is what a dcs gc without a server says.
type collected struct {
	Compared string
	Removed  struct{ Tags, Blobs int }
}

func collectAlone(t *testing.T, dir string, args ...string) (c collected) {
	t.Helper()
	args = append([]string{"gc", "--storage.directory", dir, "--ttl", "2s", "--grace", "1s", "--format", "json"}, args...)
	if err := json.Unmarshal([]byte(run(t, exec.Command(dcsBin, args...))), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAStockRegistryPushesBetweenTwoRuns: a manifest over blobs that were there, of which nothing else lives. The run
// before it had found the tree as it was, and the run after it must not.
func TestAStockRegistryPushesBetweenTwoRuns(t *testing.T) {
	dir := t.TempDir()
	addr, end := serveStock(t, dir)
	old := newImage(t, 1<<10)
	pushImage(t, addr+"/app:old", old)
	end()
	if c := collectAlone(t, dir); c.Compared == "" {
		t.Error("a run took over a directory without a comparison")
	}
	eventually(t, time.Minute, "end of the image", func() error {
		c := collectAlone(t, dir, "--dry-run")
		if c.Compared != "" {
			t.Errorf("a run compared a tree that nobody had touched: %s", c.Compared)
		}
		if c.Removed.Blobs != 4 {
			return fmt.Errorf("%+v", c.Removed)
		}
		return nil
	})

	addr, end = serveStock(t, dir)
	stored := map[string]v1.Hash{}
	for tag := range 2 {
		young, ok := mutate.Annotations(old, map[string]string{"built again": fmt.Sprint(tag)}).(v1.Image)
		if !ok {
			t.Fatal("an image with annotations is none")
		}
		ref := fmt.Sprintf("app:%d", tag)
		stored[ref] = pushImage(t, addr+"/"+ref, young)
	}
	end()
	if c := collectAlone(t, dir); c.Compared == "" || c.Removed.Tags != 1 || c.Removed.Blobs != 1 {
		t.Errorf("after the push: %+v", c)
	}

	addr, end = serveStock(t, dir)
	pullAll(t, addr, stored)
	if c := collectAlone(t, dir, "--ttl", "24h"); c.Compared != "" {
		t.Errorf("after a run that removed something, and pulls, the tree was compared: %s", c.Compared)
	}
	moved, err := remote.Image(reference(t, addr+"/app:0"))
	if err != nil {
		t.Fatal(err)
	}
	pushImage(t, addr+"/app:1", moved) // no directory is new
	end()
	if c := collectAlone(t, dir, "--ttl", "24h"); c.Compared == "" {
		t.Error("it is not seen that a tag was moved")
	}
	var listed struct{ Tags []struct{ Digest string } }
	said := run(t, exec.Command(dcsBin, "inspect", "--tags", "--format", "json", "--storage.directory", dir))
	if err := json.Unmarshal([]byte(said), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed.Tags) != 2 || listed.Tags[0] != listed.Tags[1] {
		t.Errorf("the index knows %+v", listed.Tags)
	}
}

// TestAnOverlayIsAlwaysCompared: it does not tell what becomes of its lower layers.
func TestAnOverlayIsAlwaysCompared(t *testing.T) {
	base := t.TempDir()
	mountAt(t, "tmpfs", base, "tmpfs", 0, "size=64m")
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(base, "merged")
	mountAt(t, "overlay", dir, "overlay", 0,
		fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", base, base, base))
	addr, end := serveStock(t, dir)
	pushImage(t, addr+"/app:v1", newImage(t, 1<<10))
	end()
	for range 3 {
		if c := collectAlone(t, dir, "--ttl", "24h"); c.Compared == "" {
			t.Error("a run trusted an overlay")
		}
	}
}
