package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// BenchmarkRebuild starts a server on a directory of a hundred thousand blobs (BENCH_DISK_BLOBS says
// otherwise; a million are five million files and directories) that has no index, and waits until it
// has one. The server answers all the while.
func BenchmarkRebuild(b *testing.B) {
	blobs := 100_000
	if n, err := strconv.Atoi(os.Getenv("BENCH_DISK_BLOBS")); err == nil {
		blobs = n
	}
	dir := layout.Dir(b.TempDir())
	for i := range blobs / blobsAnImage {
		writeImage(b, dir, i)
	}
	var took, peaks []float64
	for range rounds {
		if err := os.RemoveAll(dir.Metadata()); err != nil {
			b.Fatal(err)
		}
		d, peak := rebuild(b, dir)
		took, peaks = append(took, d.Seconds()), append(peaks, peak)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(took), "s")
	b.ReportMetric(median(peaks), "MiB-peak")
}

// writeImage puts an image on disk as a registry does: a config, eight layers, a manifest, a tag.
func writeImage(b *testing.B, dir layout.Dir, i int) {
	repo := fmt.Sprintf("team%03d/app", i%repositories)
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest}
	m.SchemaVersion = 2
	link := func(kind layout.Kind, d digest.Digest, tag string) {
		write(b, dir.File(layout.Path{Kind: kind, Repository: repo, Digest: d, Tag: tag}), []byte(d))
	}
	store := func(data []byte) v1.Descriptor {
		d := digest.FromBytes(data)
		write(b, dir.File(layout.Path{Kind: layout.BlobData, Digest: d}), data)
		return v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: d, Size: int64(len(data))}
	}
	for n := range ownLayers + 1 {
		desc := store([]byte(fmt.Sprintf("%d of %d", n, i)))
		link(layout.LayerLink, desc.Digest, "")
		if n == 0 {
			m.Config = desc
			continue
		}
		m.Layers = append(m.Layers, desc)
	}
	data, err := json.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	d, tag := store(data).Digest, fmt.Sprintf("t%d", i)
	link(layout.RevisionLink, d, "")
	link(layout.TagLink, d, tag)
	link(layout.TagIndexLink, d, tag)
}

func write(b *testing.B, path string, data []byte) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.Fatal(err)
	}
}

// rebuild serves a directory until its index is whole, and says how long that took and the most memory
// that the server had, in mebibytes.
func rebuild(b *testing.B, dir layout.Dir) (took time.Duration, peak float64) {
	b.Helper()
	bin, err := filepath.Abs("../bin/dcs")
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", "--storage.directory", string(dir), "--auth.enabled=false", "--server.address", "127.0.0.1",
		"--server.port", "0", "--debug.address", "")
	log, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	most := watch(cmd.Process.Pid)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if strings.Contains(lines.Text(), "rebuilding") {
			b.Log(lines.Text())
		}
		if strings.Contains(lines.Text(), "index is in line with the disk") {
			took = time.Since(start)
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	if err := cmd.Wait(); err != nil || took == 0 {
		b.Fatalf("dcs serve: %v; rebuilt after %v", err, took)
	}
	return took, <-most / 1024
}
