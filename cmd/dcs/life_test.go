package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

func (s *server) ref(ref string) name.Reference {
	s.t.Helper()
	r, err := name.ParseReference(s.host + "/" + ref)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *server) push(ref string) v1.Image {
	s.t.Helper()
	img, err := random.Image(4096, 2)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := remote.Write(s.ref(ref), img); err != nil {
		s.t.Fatalf("push %s: %v", ref, err)
	}
	return img
}

func (s *server) pull(ref string) error {
	img, err := remote.Image(s.ref(ref))
	if err != nil {
		return err
	}
	return validate.Image(img)
}

func (s *server) gone(ref string) bool {
	_, err := remote.Head(s.ref(ref))
	return err != nil && strings.Contains(err.Error(), "404")
}

// gc is `dcs gc --format json`, read strictly.
func gcJSON(t *testing.T, args ...string) report {
	t.Helper()
	code, stdout, stderr := dcs(t, append([]string{"gc", "--format", "json"}, args...)...)
	if code != 0 {
		t.Fatalf("dcs gc %v: exit %d\n%s", args, code, stderr)
	}
	var rep report
	dec := json.NewDecoder(strings.NewReader(stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rep); err != nil {
		t.Fatalf("dcs gc printed %q: %v", stdout, err)
	}
	return rep
}

// report is the JSON of the contract.
type report struct {
	DryRun     bool      `json:"dry_run"`
	StartedAt  time.Time `json:"started_at"`
	DurationMS *int64    `json:"duration_ms"`
	Cutoff     *string   `json:"cutoff"`
	Removed    struct{ Tags, Manifests, Blobs, Uploads int64 }
	FreedBytes int64 `json:"freed_bytes"`
	Remaining  struct{ Tags, Manifests, Blobs, Bytes int64 }
	Images     []struct {
		Repository, Tag, Digest, Reason string
		LastAccess                      time.Time `json:"last_access"`
		UniqueBytes                     int64     `json:"unique_bytes"`
		Rule                            int
	}
	HeldBy        string     `json:"held_by"`
	NothingBefore *time.Time `json:"nothing_before"`
	WaitingBytes  int64      `json:"waiting_bytes"`
	WaitingUntil  *time.Time `json:"waiting_until"`
	Resumes       *time.Time `json:"resumes"`
	Compared      string     `json:"compared"`
}

// bytesOf is what the files below a directory hold.
func bytesOf(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil && e.Type().IsRegular() {
			if fi, err := e.Info(); err == nil {
				total += fi.Size()
			}
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return total
}

func TestTheBuiltInCleanerExpiresWhatIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.ttl", "6s", "--cache.grace", "5s", "--cache.cleanup_interval", "500ms")
	s.push("used:v1")
	s.push("idle:v1")
	before := bytesOf(t, filepath.Join(s.dir, "docker"))
	s.await(func() bool {
		if err := s.pull("used:v1"); err != nil {
			t.Fatalf("the image in use: %v", err)
		}
		_, err := os.Stat(filepath.Join(s.dir, "docker/registry/v2/repositories/idle")) // asking for it would be use
		return os.IsNotExist(err)
	}, "the idle image is gone")
	if !s.gone("idle:v1") {
		t.Error("the idle image is gone from disk and still served")
	}
	s.await(func() bool { return bytesOf(t, filepath.Join(s.dir, "docker")) <= before/2+1000 }, "its bytes are gone")
	if err := s.pull("used:v1"); err != nil {
		t.Errorf("the image in use: %v", err)
	}
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d after SIGTERM", code)
	}
}

func TestGCFromAnotherProcessBesideAServer(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.cleanup_interval", "0", "--cache.grace", "1s")
	img := s.push("app:v1")
	size := bytesOf(t, filepath.Join(s.dir, "docker/registry/v2/blobs"))
	flags := []string{"--storage.directory", s.dir, "--ttl", "1s", "--grace", "1s"}
	if rep := gcJSON(t, flags[:2]...); rep.Removed.Tags != 0 || rep.Images == nil || len(rep.Images) != 0 ||
		rep.Remaining.Tags != 1 {
		t.Errorf("a run under the server's own ttl: %+v", rep)
	}
	var dry report
	s.await(func() bool {
		dry = gcJSON(t, append(flags, "--dry-run")...)
		return len(dry.Images) > 0
	}, "a dry run lists the image")
	if left := bytesOf(t, filepath.Join(s.dir, "docker/registry/v2/blobs")); left != size { // a pull would be use
		t.Errorf("a dry run left %d of %d bytes", left, size)
	}
	var rep report
	s.await(func() bool {
		rep = gcJSON(t, flags...)
		return rep.Removed.Tags > 0
	}, "the image expires")
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if i := rep.Images; len(i) != 1 || i[0].Repository != "app" || i[0].Tag != "v1" || i[0].Digest != digest.String() ||
		i[0].Reason != "ttl" || i[0].UniqueBytes != size {
		t.Errorf("images: %+v; want app:v1 with %d unique bytes", rep.Images, size)
	}
	if !dry.DryRun || rep.DryRun || dry.Removed != rep.Removed || dry.FreedBytes != rep.FreedBytes ||
		rep.FreedBytes != size {
		t.Errorf("dry run %+v, run %+v; %d bytes were stored", dry, rep, size)
	}
	if rep.Removed.Manifests != 1 || rep.Removed.Blobs != 4 || rep.Remaining.Blobs != 0 || rep.Remaining.Bytes != 0 ||
		rep.Cutoff == nil {
		t.Errorf("run: %+v", rep)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "docker")); !os.IsNotExist(err) {
		t.Errorf("directories are left: %v", err)
	}
	if !s.gone("app:v1") {
		t.Error("the server still serves it")
	}
	s.push("app:v1") // the server goes on
	if err := s.pull("app:v1"); err != nil {
		t.Error(err)
	}
}

// TestAPushInFlightIsSafe runs gc processes back to back while pushes take nearly the grace between the
// promise of a layer and the manifest that needs it.
func TestAPushInFlightIsSafe(t *testing.T) {
	t.Parallel()
	const grace = 2 * time.Second
	s := startServer(t, t.TempDir(), "--cache.cleanup_interval", "0", "--cache.grace", grace.String(), "--cache.ttl",
		"1s")
	stop := make(chan struct{})
	var collectors, pushers sync.WaitGroup
	var runs atomic.Int64
	collectors.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				gcJSON(t, "--storage.directory", s.dir)
				runs.Add(1)
			}
		}
	})
	for i := range 3 {
		pushers.Go(func() {
			inTime := 0
			for round := 0; !t.Failed() && (inTime < 2 || runs.Load() < 3); round++ {
				if s.slowPush(fmt.Sprintf("app%d", i), round, grace) {
					inTime++
				}
			}
		})
	}
	pushers.Wait()
	close(stop)
	collectors.Wait()
}

// slowPush is told that a layer exists, dawdles, and puts the manifest. Then all of it must be there. False: this
// machine was slower than the grace, which says nothing.
func (s *server) slowPush(repo string, round int, grace time.Duration) (inTime bool) {
	layer := []byte(fmt.Sprintf("layer of %s, round %d", repo, round))
	shared := []byte("shared by all")
	told := time.Now()
	for _, data := range [][]byte{layer, shared, []byte("{}")} {
		if status, _ := s.request("HEAD", "/v2/"+repo+"/blobs/"+digestOf(data), nil, ""); status == 404 {
			s.upload(repo, data)
		}
	}
	for time.Since(told) < grace*8/10 {
		time.Sleep(50 * time.Millisecond) // the rest of the push takes long
	}
	manifest := fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":%q,`+
			`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},`+
			`"layers":[{"digest":%q,"size":%d},{"digest":%q,"size":%d}]}`,
		ociManifest, digestOf([]byte("{}")), digestOf(layer), len(layer), digestOf(shared), len(shared))
	put := time.Now()
	status, answer := s.request("PUT", "/v2/"+repo+"/manifests/v1", []byte(manifest), ociManifest)
	if status != 201 && time.Since(told) >= grace {
		return false
	}
	if status != 201 {
		s.t.Errorf("PUT manifest %s after promises within the grace: %d %s", repo, status, answer)
		return true
	}
	for _, data := range [][]byte{layer, shared, []byte("{}")} {
		status, body := s.request("GET", "/v2/"+repo+"/blobs/"+digestOf(data), nil, "")
		if status == 404 && time.Since(put) >= grace {
			return false
		}
		if status != 200 || !bytes.Equal(body, data) {
			s.t.Errorf("GET blob of %s: %d", repo, status)
		}
	}
	return true
}

func TestAnAcknowledgedPushSurvivesKillMinusNine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flags := []string{"--cache.cleanup_interval", "0", "--cache.grace", "1s", "--cache.ttl", "30d"}
	s := startServer(t, dir, flags...)
	s.push("app:v1")
	s.push("used:v1")
	if err := s.pull("used:v1"); err != nil {
		t.Fatal(err)
	}
	used := time.Now()
	s.uploadURL("left") // never to be finished
	s.stop(syscall.SIGKILL)
	s = startServer(t, dir, flags...)
	for _, ref := range []string{"app:v1", "used:v1"} {
		if err := s.pull(ref); err != nil {
			t.Errorf("%s after kill -9: %v", ref, err)
		}
	}
	// Recency is at most the resolution (a quarter of the grace) older than the use.
	s.stop(syscall.SIGTERM)
	rep := gcJSON(t, "--storage.directory", dir, "--ttl", "1ms", "--dry-run")
	for _, i := range rep.Images {
		if i.Repository == "used" && i.LastAccess.Before(used.Add(-time.Second)) {
			t.Errorf("last access of used is %v, it was used at %v", i.LastAccess, used)
		}
	}
}

func TestASecondServerIsRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	code, _, stderr := dcs(t, "serve", "--storage.directory", s.dir, "--auth.enabled=false", "--server.address",
		"127.0.0.1", "--server.port", "0", "--debug.address", "")
	if code != 4 || !strings.Contains(stderr, fmt.Sprintf("(pid %d)", s.cmd.Process.Pid)) ||
		!strings.Contains(stderr, "dcs: hint:") {
		t.Errorf("exit %d, %s; want 4 and the pid %d", code, stderr, s.cmd.Process.Pid)
	}
	s.push("app:v1") // the first one does not mind
}

func TestAPortInUseIsToldWithAHint(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	_, port, _ := strings.Cut(s.host, ":")
	for _, flags := range [][]string{{"--server.port", port, "--debug.address", ""},
		{"--server.port", "0", "--debug.address", s.host}} {
		code, _, stderr := dcs(t, append([]string{"serve", "--storage.directory", t.TempDir(), "--auth.enabled=false",
			"--server.address", "127.0.0.1"}, flags...)...)
		if code != 1 || !strings.Contains(stderr, "address already in use") || !strings.Contains(stderr, "dcs: hint:") {
			t.Errorf("%v: exit %d, %s", flags, code, stderr)
		}
	}
}

func TestSIGTERMLetsTransfersFinish(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	body, feed := io.Pipe()
	data := []byte(strings.Repeat("slow ", 100_000))
	req, err := http.NewRequest("PUT", s.uploadURL("app")+"&digest="+digestOf(data), body)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- -1
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	half := len(data) / 2
	if _, err := feed.Write(data[:half]); err != nil {
		t.Fatal(err)
	}
	s.await(func() bool { return bytesOf(t, filepath.Join(s.dir, "docker")) > 1000 }, "the upload is in flight")
	s.signal(syscall.SIGTERM)
	s.await(func() bool { return strings.Contains(s.log.String(), "shutting down") }, "the server begins to stop")
	if _, err := feed.Write(data[half:]); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if status := <-answered; status != 201 {
		t.Errorf("the upload in flight: %d", status)
	}
	if code := exitCodeOf(<-s.done); code != 0 {
		t.Errorf("exit %d", code)
	}
	s.done <- nil
}

func TestGCKeepsWhatAServerOwes(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.grace", "1h")
	s.push("app:v1")
	code, _, stderr := dcs(t, "gc", "--storage.directory", s.dir, "--ttl", "1ms", "--grace", "1ms")
	if code != 2 || !strings.Contains(stderr, "promised") {
		t.Errorf("exit %d, %s; want 2", code, stderr)
	}
	if rep := gcJSON(t, "--storage.directory", s.dir, "--ttl", "1ms"); rep.Removed.Tags != 0 {
		t.Errorf("removed %+v within the grace", rep.Removed)
	}
	s.stop(syscall.SIGTERM) // and still owes it
	if code, _, _ := dcs(t, "gc", "--storage.directory", s.dir, "--ttl", "1ms", "--grace", "1ms"); code != 2 {
		t.Errorf("after its server stopped: exit %d; want 2", code)
	}
}

// A server with a shorter grace, which follows one that was killed or stopped, still owes what that one promised.
func TestAShorterGraceStillOwesTheLongerOne(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.grace", "1h")
	s.push("app:v1")
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		s.stop(how)
		s = startServer(t, s.dir, "--cache.grace", "1m", "--cache.ttl", "1m")
		code, _, stderr := dcs(t, "gc", "--storage.directory", s.dir, "--ttl", "1ms", "--grace", "1m")
		if code != 2 || !strings.Contains(stderr, "1h") {
			t.Errorf("after %s: exit %d, %s; want 2, and the grace that is owed", how, code, stderr)
		}
	}
}

func TestADryRunTouchesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.grace", "1s")
	s.push("app:v1")
	s.stop(syscall.SIGTERM)
	if err := os.RemoveAll(filepath.Join(s.dir, ".metadata")); err != nil {
		t.Fatal(err) // like the directory of a stock registry
	}
	before := snapshot(t, s.dir)
	gcJSON(t, "--storage.directory", s.dir, "--ttl", "1ms", "--dry-run")
	if after := snapshot(t, s.dir); after != before {
		t.Errorf("a dry run changed the directory from\n%s\nto\n%s", before, after)
	}
}

func TestAStoreNeverIndexedLosesNothingInTheFirstRun(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.grace", "1s")
	s.push("app:v1")
	s.stop(syscall.SIGTERM)
	if err := os.RemoveAll(filepath.Join(s.dir, ".metadata")); err != nil {
		t.Fatal(err)
	}
	for _, age := range []string{"now", "mtime"} {
		rep := gcJSON(t, "--storage.directory", s.dir, "--ttl", "1s", "--grace", "1s", "--cache.adopt_age", age)
		if rep.Removed.Tags != 0 || rep.Remaining.Tags != 1 {
			t.Errorf("first run, adopt_age %s: %+v", age, rep)
		}
		if err := os.RemoveAll(filepath.Join(s.dir, ".metadata")); err != nil {
			t.Fatal(err)
		}
	}
}

// snapshot lists names, sizes and times of everything below a directory.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, path, fi.Mode(), fi.Size(), fi.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestAGCWaitsForAServerThatStarts holds the server lock as a server does that has not shut the gate yet: the
// index still says that everything is known, and a gc that believed it could take what a stock registry
// has just begun to use.
func TestAGCWaitsForAServerThatStarts(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.grace", "1s")
	s.push("app:v1")
	s.stop(syscall.SIGTERM)
	dir := tree.Dir(s.dir)
	lock, err := dir.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Announce(tree.Holder{PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	done := make(chan report, 1)
	go func() { done <- gcJSON(t, "--storage.directory", s.dir) }()
	select {
	case rep := <-done:
		t.Errorf("gc did not wait: %+v", rep)
	case <-time.After(time.Second):
	}
	if err := lock.Unlock(); err != nil { // it gave up: gc is alone now, and rebuilds
		t.Fatal(err)
	}
	if rep := <-done; rep.Remaining.Tags != 1 {
		t.Errorf("gc alone: %+v", rep)
	}
}
