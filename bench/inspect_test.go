package bench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// The store: images of twelve layers and a config, of which three layers are shared by a hundred images.
const (
	ownLayers, sharedLayers, sharers = 8, 3, 100
	blobsAnImage                     = 2 + ownLayers // manifest and config too
	repositories                     = 1000
)

// BenchmarkInspect lists a store of a million blobs (BENCH_BLOBS says otherwise). Only its index is made:
// inspect looks at nothing else.
func BenchmarkInspect(b *testing.B) {
	blobs := 1_000_000
	if n, err := strconv.Atoi(os.Getenv("BENCH_BLOBS")); err == nil {
		blobs = n
	}
	dir := b.TempDir()
	fill(b, layout.Dir(dir), blobs/blobsAnImage)
	for _, args := range []string{
		"--limit 50", "--images --limit 50 --format csv", "--tags --limit 50 --format csv",
		"--format json", "--format csv", "--format table", "--images --format json", "--tags --format json", "--histogram",
	} {
		b.Run(strings.ReplaceAll(args, " ", "_"), func(b *testing.B) {
			for b.Loop() {
				report(b, dir, strings.Fields(args))
			}
		})
	}
}

// rounds is how often each listing is timed.
const rounds = 3

// report runs a listing a few times.
func report(b *testing.B, dir string, args []string) {
	b.Helper()
	var first, whole, memory []float64
	for range rounds {
		f, w, m := list(b, dir, args)
		first, whole, memory = append(first, f.Seconds()*1000), append(whole, w.Seconds()*1000), append(memory, m)
	}
	b.ReportMetric(0, "ns/op") // one process after the other: the medians below say it
	b.ReportMetric(median(first), "ms-to-first-row")
	b.ReportMetric(median(whole), "ms-in-all")
	b.ReportMetric(median(memory), "MiB-peak")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// list runs dcs inspect, and returns when its first row came, when it ended, and the most memory that it had.
func list(b *testing.B, dir string, args []string) (first, whole time.Duration, mebibytes float64) {
	b.Helper()
	bin, err := filepath.Abs("../bin/dcs")
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, append([]string{"inspect", "--storage.directory", dir}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	peak := watch(cmd.Process.Pid)
	rows := bufio.NewReaderSize(out, 1<<20)
	for range 2 { // the titles, or the summary, and a row
		if _, err := rows.ReadString('\n'); err != nil {
			b.Fatal(err)
		}
	}
	first = time.Since(start)
	if _, err := io.Copy(io.Discard, rows); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	return first, time.Since(start), <-peak / 1024
}

// watch returns the most memory that a process had until it ended, in kibibytes. What the kernel tells of an
// ended process counts what its parent had when it was forked.
func watch(pid int) <-chan float64 {
	peak := make(chan float64, 1)
	go func() {
		var most float64
		for {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, rest, there := strings.Cut(string(status), "VmHWM:")
			if err != nil || !there { // ended
				peak <- most
				return
			}
			if _, err := fmt.Sscan(rest, &most); err != nil {
				most = 0
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return peak
}

// fill makes the index of a store in which images were used over the last 29 days.
func fill(b *testing.B, dir layout.Dir, images int) {
	b.Helper()
	for _, d := range []string{dir.Metadata(), dir.File(layout.Path{Kind: layout.BlobsDir})} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	ix, err := sqlite.Open(b.Context(), dir.Index(), sqlite.Serve, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	f := filler{b: b, ix: ix}
	token, err := ix.CloseGate(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	for i := range images {
		f.image(i, now.Add(-time.Duration(i*7919%images)*(29*24*time.Hour/time.Duration(images))))
	}
	f.flush()
	if _, err := ix.OpenGate(b.Context(), token); err != nil {
		b.Fatal(err)
	}
	if err := ix.Close(); err != nil {
		b.Fatal(err)
	}
}

type filler struct {
	b     *testing.B
	ix    index.Store
	looks []index.Look
}

func (f *filler) image(i int, at time.Time) {
	repo := fmt.Sprintf("team-%d/app-%d", i%repositories%30, i%repositories)
	var names []digest.Digest
	blob := func(name string, size int64) {
		d := digest.FromString(name)
		names = append(names, d)
		f.add(index.Adoption{Claim: index.Claim{Key: index.BlobKey(d), Size: size}, At: at})
		f.add(index.Adoption{Claim: index.Claim{Key: index.LayerKey(repo, d)}, At: at})
	}
	blob(fmt.Sprint("config ", i), 2000)
	for n := range sharedLayers {
		blob(fmt.Sprint("base ", i%repositories, " ", i/repositories/sharers, " ", n), 30<<20)
	}
	for n := range ownLayers {
		blob(fmt.Sprint("layer ", i, " ", n), int64(1+n)<<18)
	}
	m := digest.FromString(fmt.Sprint("manifest ", i))
	f.add(index.Adoption{Claim: index.Claim{Key: index.BlobKey(m), Size: 1500}, At: at})
	f.add(index.Adoption{Claim: index.Claim{Key: index.ManifestKey(repo, m), Size: 1500,
		Content: &index.Content{MediaType: "application/vnd.oci.image.manifest.v1+json", Config: names[0], References: names}}, At: at})
	if i%5 < 3 {
		f.add(index.Adoption{Claim: index.Claim{Key: index.TagKey(repo, fmt.Sprint("v", i))}, Digest: m, At: at})
	}
}

func (f *filler) add(a index.Adoption) {
	f.looks = append(f.looks, func() (index.Adoption, bool, error) { return a, true, nil })
	if len(f.looks) == 100_000 { // a transaction
		f.flush()
	}
}

func (f *filler) flush() {
	if err := f.ix.Adopt(f.b.Context(), f.looks...); err != nil {
		f.b.Fatal(err)
	}
	f.looks = f.looks[:0]
}
