package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// stock is a data directory that a stock registry wrote.
type stock struct {
	t   *testing.T
	dir tree.Dir
}

func (s stock) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s stock) write(p layout.Path, data []byte, at time.Time) {
	s.t.Helper()
	file := s.dir.File(p)
	s.must(os.MkdirAll(filepath.Dir(file), 0o755))
	s.must(os.WriteFile(file, data, 0o644))
	s.must(os.Chtimes(file, at, at))
}

func (s stock) blob(data []byte) digest.Digest {
	s.t.Helper()
	d := digest.FromBytes(data)
	s.write(layout.Path{Kind: layout.BlobData, Digest: d}, data, time.Now())
	return d
}

// push writes an image that was pushed some time ago.
func (s stock) push(repo, tag string, ago time.Duration) {
	s.t.Helper()
	at := time.Now().Add(-ago)
	img, err := random.Image(100, 1)
	s.must(err)
	layers, err := img.Layers()
	s.must(err)
	compressed, err := layers[0].Compressed()
	s.must(err)
	layer, err := io.ReadAll(compressed)
	s.must(err)
	config, err := img.RawConfigFile()
	s.must(err)
	manifest, err := img.RawManifest()
	s.must(err)
	for _, data := range [][]byte{layer, config} {
		d := s.blob(data)
		s.write(layout.Path{Kind: layout.LayerLink, Repository: repo, Digest: d}, []byte(d), at)
	}
	d := s.blob(manifest)
	s.write(layout.Path{Kind: layout.RevisionLink, Repository: repo, Digest: d}, []byte(d), at)
	s.write(layout.Path{Kind: layout.TagLink, Repository: repo, Tag: tag}, []byte(d), at)
}

// staleImages is how many images of a stale store go; the one in use is beside them.
const staleImages = 200

// staleStore makes a store of which everything but one image was last used two days ago. The flags are for
// a gc that removes the rest.
func staleStore(t *testing.T) (dir string, flags []string) {
	t.Helper()
	dir = t.TempDir()
	s := stock{t, tree.Dir(dir)}
	for i := range staleImages {
		s.push(fmt.Sprintf("stale/%03d", i), "v1", 48*time.Hour)
	}
	s.push("used", "v1", 0)
	flags = []string{"--storage.directory", dir, "--cache.adopt_age", "mtime", "--ttl", "24h", "--grace", "1ms"}
	if rep := gcJSON(t, flags...); rep.Removed.Tags != 0 || rep.Remaining.Tags != staleImages+1 {
		t.Fatalf("the adoption: %+v", rep)
	}
	return dir, flags
}

// blobFiles are the files below blobs, with their sizes.
func blobFiles(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	files := map[string]int64{}
	err := filepath.WalkDir(filepath.Join(dir, "docker/registry/v2/blobs"),
		func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			fi, err := e.Info()
			if err == nil {
				files[path] = fi.Size()
			}
			return err
		})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return files
}

// usage is what du says about a store, in bytes, but for the index: that one's log grows for a while.
func usage(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	for _, top := range []string{"docker", ".metadata/trash"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(_ string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := e.Info()
			if err == nil {
				bytes += fi.Sys().(*syscall.Stat_t).Blocks * 512
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return bytes
}

// TestABudgetTakesNoMoreThanItHasTo: the image that was used least recently goes, which makes enough room as du counts.
func TestABudgetTakesNoMoreThanItHasTo(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.grace", "1ms", "--cache.ttl", "0")
	for _, ref := range []string{"app:old", "app:new"} {
		s.pushLayers(ref, s.layer(3_000_000))
	}
	if err := s.pull("app:new"); err != nil {
		t.Fatal(err)
	}
	s.stop(syscall.SIGTERM)
	out, err := exec.Command("du", "--summarize", "--block-size=1", s.dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	used, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		most int64
		want string
	}{{used * 100 / 94, "[]"}, {used * 100 / 97, "[old]"}} { // below the mark, and above it
		var gone []string
		for _, i := range gcJSON(t, "--storage.directory", s.dir, "--max-size", strconv.FormatInt(c.most, 10),
			"--dry-run").Images {
			gone = append(gone, i.Tag)
		}
		if fmt.Sprint(gone) != c.want {
			t.Errorf("%d bytes are used; a budget of %d takes %v, want %s", used, c.most, gone, c.want)
		}
	}
}

func TestFreedIsTheBytesOfTheFilesThatWent(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.cleanup_interval", "0", "--cache.grace", "1s", "--cache.ttl", "5s")
	shared, own := s.layer(300_000), s.layer(200_000)
	for ref, layers := range map[string][]v1.Layer{
		"app:v1": {shared, s.layer(100_000)}, "app:v2": {shared, s.layer(100_000)}, "other:v1": {shared,
			own}, "kept:v1": {own, s.layer(50_000)},
	} {
		s.pushLayers(ref, layers...)
	}
	s.awaitNoUploads()
	before, used := blobFiles(t, s.dir), usage(t, s.dir)
	ctx, stop := context.WithCancel(t.Context())
	var using sync.WaitGroup
	using.Go(func() { // however slow everything else is
		for ctx.Err() == nil {
			if _, err := remote.Head(s.ref("kept:v1")); err != nil {
				t.Errorf("the image in use: %v", err)
			}
		}
	})
	s.await(func() bool { return gcJSON(t, "--storage.directory", s.dir, "--dry-run").Removed.Blobs == 9 },
		"the images expire")
	rep := gcJSON(t, "--storage.directory", s.dir)
	stop()
	using.Wait()
	after := blobFiles(t, s.dir)
	var gone, files int64
	for file, size := range before {
		if _, ok := after[file]; !ok {
			gone += size
			files++
		}
	}
	// Three manifests, three configs, the shared layer once, and a layer of each version of app.
	if rep.FreedBytes != gone || rep.Removed.Blobs != files || files != 9 || gone < 500_000 || gone > 550_000 {
		t.Errorf("freed %d bytes in %d blobs; %d bytes in %d files are gone", rep.FreedBytes, rep.Removed.Blobs, gone,
			files)
	}
	if du := usage(t, s.dir); used-du < rep.FreedBytes {
		t.Errorf("freed %d bytes; du was %d and is %d", rep.FreedBytes, used, du)
	}
	for _, i := range rep.Images {
		if i.UniqueBytes > 110_000 {
			t.Errorf("%s:%s had %d bytes for itself; the shared layer is not only its own", i.Repository, i.Tag,
				i.UniqueBytes)
		}
	}
	if err := s.pull("kept:v1"); err != nil {
		t.Errorf("the image in use: %v", err)
	}
}

func (s *server) layer(size int64) v1.Layer {
	s.t.Helper()
	l, err := random.Layer(size, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (s *server) pushLayers(ref string, layers ...v1.Layer) {
	s.t.Helper()
	img, err := random.Image(10, 0)
	if err == nil {
		img, err = mutate.AppendLayers(img, layers...)
	}
	if err == nil {
		err = remote.Write(s.ref(ref), img)
	}
	if err != nil {
		s.t.Fatalf("push %s: %v", ref, err)
	}
}

func TestADryRunPrintsWhatARunDoes(t *testing.T) {
	t.Parallel()
	_, flags := staleStore(t)
	ages := regexp.MustCompile(` +(now|\d+ \w+ ago) +`) // time passes between the two
	table := func(args ...string) string {
		code, stdout, stderr := dcs(t, append([]string{"gc"}, args...)...)
		if code != 0 {
			t.Fatalf("dcs gc %v: exit %d\n%s", args, code, stderr)
		}
		return ages.ReplaceAllString(stdout, " AGE ")
	}
	planned := table(append(flags, "--dry-run")...)
	removed := table(flags...)
	planned = strings.NewReplacer("\nwould remove ", "\nremoved ", " and free ", " and freed ").Replace(planned)
	if planned != removed || strings.Count(removed, "\nstale/") != staleImages {
		t.Errorf("planned\n%s\nremoved\n%s", planned, removed)
	}
	if !strings.Contains(removed, fmt.Sprintf("\n\nremoved %d images (%d blobs) and freed ", staleImages,
		3*staleImages)) {
		t.Errorf("removed\n%s", removed)
	}
}

// TestAGCBesideAServerWithAnotherIndex holds the lock as a server does whose index was replaced.
func TestAGCBesideAServerWithAnotherIndex(t *testing.T) {
	t.Parallel()
	s, _ := heldStore(t, tree.Holder{PID: os.Getpid(), Index: "another"})
	dir := tree.Dir(s.dir)
	for range 2 { // with an index in its place, and without one
		for _, flag := range []string{"--dry-run", "--dry-run=false"} {
			code, stdout, stderr := dcs(t, "gc", "--storage.directory", s.dir, "--format", "json", flag)
			if code != 4 || stdout != "" || !strings.Contains(stderr, fmt.Sprintf("(pid %d)", os.Getpid())) ||
				!strings.Contains(stderr, "\ndcs: hint: ") {
				t.Errorf("%s: exit %d, %s%s", flag, code, stdout, stderr)
			}
		}
		if err := os.RemoveAll(dir.Index()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir.Index()); !os.IsNotExist(err) {
		t.Errorf("a gc beside a server made an index: %v", err)
	}
}
