package torture

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestAKillAtEveryStep kills a process before each change of the tree and around each commit of the index, one
// step in each run: a server from its start over a push to its end, a dcs gc, and a dcs pin. A run of less than ten
// minutes takes every fifth step, one of less than a minute every 41st, from one that its seed says.
func TestAKillAtEveryStep(t *testing.T) {
	t.Run("of a push", everyStepOfAPush)
	t.Run("of an expiry", everyStepOfAnExpiry)
	t.Run("of a pin", everyStepOfAPin)
}

// steps calls kill with the numbers of the steps until it says that nothing was left to kill.
func steps(t *testing.T, kill func(n int) (killed bool)) {
	stride := 1
	if *duration < 10*time.Minute {
		stride = 5
	}
	if *duration < time.Minute {
		stride = 41
	}
	n, runs := 1+int(*seed%uint64(stride)), 0
	for ; kill(n) && !t.Failed(); n += stride {
		runs++
	}
	if runs < 3 {
		t.Errorf("only %d runs were killed", runs)
	}
	t.Logf("%d runs were killed, each one at another of %d steps", runs, n)
}

// everyStepOfAPush holds after each kill that what was acknowledged is complete, each layer too, that a tag that is
// there is complete, and that nothing else is left once the grace is over.
func everyStepOfAPush(t *testing.T) {
	sweeping := []string{"--cache.grace", "200ms", "--cache.cleanup_interval", "100ms"}
	still := []string{"--cache.grace", "200ms", "--cache.cleanup_interval", "0"} // a push may take longer than that
	s := newStore(t, still...)
	s.start()
	before, pushed := someImage(t), someImage(t)
	s.write("before:v1", before)
	s.stop()
	base := s.dir
	without := s.list()

	s.dir = clone(t, base)
	s.start()
	s.write("app:v1", pushed)
	s.stop()
	with := s.list()
	less := func(part string) []string {
		return slices.DeleteFunc(slices.Clone(with), func(f string) bool { return strings.Contains(f, part) })
	}
	// the index of a tag means nothing to a pull
	untagged, unlisted := less("/app/_manifests/tags/"), less("/app/_manifests/tags/v1/index/")

	steps(t, func(n int) (killed bool) {
		s.dir, s.binary, s.env, s.args = clone(t, base), mortalBinary, []string{fmt.Sprint("DCS_FAILPOINT=", n)}, still
		acknowledged, layers := false, &answeredLayers{}
		if _, up := s.tryStart(); up {
			acknowledged = remote.Write(s.ref("app:v1"), pushed, remote.WithJobs(1), remote.WithTransport(layers),
				remote.WithRetryBackoff(remote.Backoff{Steps: 1})) == nil
			s.terminate()
		}
		killed = s.cmd.ProcessState.ExitCode() != 0
		if !killed && !acknowledged {
			t.Errorf("step %d: nobody was killed, and the push failed", n)
		}

		s.binary, s.env = dcsBinary, nil
		s.start()
		s.layers(n, "app", layers.digests)
		s.stop()
		s.args = sweeping
		s.start()
		s.complete(n, "before:v1")
		_, err := remote.Head(s.ref("app:v1"))
		if err == nil {
			s.complete(n, "app:v1")
		} else if acknowledged {
			t.Errorf("step %d: the push was acknowledged, and: %v", n, err)
		}
		want := [][]string{with, unlisted}
		if err != nil {
			want = [][]string{without, untagged}
		}
		s.awaitFiles(n, want...)
		s.stop()
		s.sound(n)
		return killed
	})
}

// everyStepOfAnExpiry holds that all that is listed is complete after each kill, and that the next run finishes
// what the killed one began. What went is remembered once, whichever run removed it.
func everyStepOfAnExpiry(t *testing.T) {
	s := newStore(t)
	base := s.aged()
	expire := []string{"gc", "--ttl", "24h", "--grace", "200ms"}
	run := func(n int) {
		if code, out, err := s.dcs(context.Background(), expire...); err != nil || code != 0 {
			t.Fatalf("step %d: dcs gc: exit %d, %v\n%s", n, code, err, out)
		}
	}
	s.dir = clone(t, base)
	all := s.list()
	run(0)
	left := s.list()
	if len(left) == 0 || len(left) > len(all)/2 {
		t.Fatalf("of %d files %d are left: that says nothing", len(all), len(left))
	}

	steps(t, func(n int) (killed bool) {
		s.dir, s.binary, s.env = clone(t, base), mortalBinary, []string{fmt.Sprint("DCS_FAILPOINT=", n)}
		code, out, err := s.dcs(context.Background(), expire...)
		if killed = code != 0; killed && (err != nil || code != -1) {
			t.Fatalf("step %d: exit %d, %v\n%s", n, code, err, out)
		}
		s.binary, s.env = dcsBinary, nil
		// A file that went in a transaction without a commit leaves a row, which promises nothing.
		_, out, err = s.dcs(context.Background(), "inspect", "--check", "--deep")
		s.must(err)
		for line := range strings.Lines(out) {
			if !slices.ContainsFunc([]string{"stale row: ", "no problems", "dcs: ", "time="},
				func(prefix string) bool { return strings.HasPrefix(line, prefix) }) {
				t.Errorf("step %d: %s", n, line)
			}
		}
		run(n)
		if got := s.list(); !slices.Equal(got, left) {
			t.Errorf("step %d: after the next run there are\n%s\nwant\n%s", n, strings.Join(got, "\n"),
				strings.Join(left, "\n"))
		}
		s.remembers(n, "app:multi", "app:old", "other/app:old")
		s.sound(n)
		s.start()
		s.complete(n, "app:keep")
		s.stop()
		return killed
	})
}

// remembers wants these tags to be listed as gone, each once.
func (s *store) remembers(n int, tags ...string) {
	s.t.Helper()
	_, out, err := s.dcs(context.Background(), "inspect", "--gone", "--format", "csv")
	s.must(err)
	var gone []string
	for line := range strings.Lines(out) {
		if cells := strings.Split(line, ","); len(cells) > 3 && cells[0] != "repository" && cells[1] != "" {
			gone = append(gone, cells[0]+":"+cells[1])
		}
	}
	if slices.Sort(gone); !slices.Equal(gone, tags) {
		s.t.Errorf("step %d: %q are remembered, want %q", n, gone, tags)
	}
}

// everyStepOfAPin holds after each kill that an image stays whose pin is listed, or was acknowledged, and that it goes
// otherwise. A pin has few steps, so a short run takes every fourth.
func everyStepOfAPin(t *testing.T) {
	s := newStore(t)
	base := s.aged()
	stride := 1
	if *duration < time.Minute {
		stride = 4
	}
	runs, pinned := 0, 0
	for n, killed := 1, true; killed && !t.Failed(); n += stride {
		s.dir, s.binary, s.env = clone(t, base), mortalBinary, []string{fmt.Sprint("DCS_FAILPOINT=", n)}
		code, out, err := s.dcs(context.Background(), "pin", "app:old")
		if killed = code != 0; killed && (err != nil || code != -1) {
			t.Fatalf("step %d: exit %d, %v\n%s", n, code, err, out)
		}
		s.binary, s.env = dcsBinary, nil
		code, out, err = s.dcs(context.Background(), "gc", "--ttl", "24h", "--grace", "200ms")
		if err != nil || code != 0 {
			t.Fatalf("step %d: dcs gc: exit %d, %v\n%s", n, code, err, out)
		}
		_, out, err = s.dcs(context.Background(), "inspect", "--pins", "--format", "csv")
		s.must(err)
		stays := strings.Contains(out, "\napp,old,")
		if !killed && !stays {
			t.Errorf("step %d: the pin was acknowledged, and is not listed:\n%s", n, out)
		}
		s.start()
		if stays {
			pinned++
			s.complete(n, "app:old")
		} else if _, err := remote.Head(s.ref("app:old")); err == nil {
			t.Errorf("step %d: app:old is there without a pin", n)
		}
		s.stop()
		s.sound(n)
		runs++
	}
	if runs < 3 || pinned == runs {
		t.Errorf("of %d runs %d had pinned", runs, pinned)
	}
	t.Logf("%d runs, %d had pinned", runs, pinned)
}

// aged makes a store in which all was used two days ago, but app:keep, which shares a layer with the rest.
func (s *store) aged() (dir string) {
	s.t.Helper()
	s.start()
	shared := someImage(s.t)
	layers, err := shared.Layers()
	s.must(err)
	keep, err := mutate.AppendLayers(someImage(s.t), layers...)
	s.must(err)
	s.write("app:keep", keep)
	s.write("app:old", shared)
	s.write("other/app:old", shared)
	var index v1.ImageIndex = empty.Index
	for range 2 {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: someImage(s.t)})
	}
	s.must(remote.WriteIndex(s.ref("app:multi"), index))
	subject, err := remote.Head(s.ref("app:old"))
	s.must(err)
	signature, ok := mutate.Subject(someImage(s.t), *subject).(v1.Image)
	if !ok {
		s.t.Fatal("no referrer")
	}
	d, err := signature.Digest()
	s.must(err)
	s.must(remote.Write(s.ref("app@"+d.String()), signature))
	s.stop()

	used, err := keep.Digest()
	s.must(err)
	for _, file := range s.list() {
		if !strings.Contains(file, "/app/_manifests/tags/keep/") && !strings.Contains(file, used.Hex) {
			old := time.Now().Add(-48 * time.Hour)
			s.must(os.Chtimes(filepath.Join(s.dir, file), old, old))
		}
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(s.dir, ".metadata", "index.db"+suffix)); err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
	}
	if code, out, err := s.dcs(context.Background(), "gc", "--cache.adopt_age", "mtime", "--ttl", "24h", "--grace",
		"200ms"); err != nil || code != 0 {
		s.t.Fatalf("adopt: exit %d, %v\n%s", code, err, out)
	}
	time.Sleep(500 * time.Millisecond) // longer than what was adopted is safe from
	return s.dir
}

func (s *store) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func someImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(2000, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func clone(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if out, err := exec.Command("cp", "-a", dir+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return to
}

func (s *store) ref(ref string) name.Reference {
	s.t.Helper()
	r, err := name.ParseReference(s.addr + "/" + ref)
	s.must(err)
	return r
}

func (s *store) write(ref string, img v1.Image) {
	s.t.Helper()
	s.must(remote.Write(s.ref(ref), img))
}

// answeredLayers notes which layers were answered, one request at a time.
type answeredLayers struct{ digests []string }

func (a *answeredLayers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if d := r.URL.Query().Get("digest"); err == nil && resp.StatusCode == http.StatusCreated && d != "" {
		a.digests = append(a.digests, d)
	}
	return resp, err
}

// layers wants every byte of some layers of a repository.
func (s *store) layers(step int, repo string, digests []string) {
	s.t.Helper()
	for _, d := range digests {
		layer, err := remote.Layer(s.ref(repo + "@" + d).(name.Digest))
		s.must(err)
		data, err := layer.Compressed()
		if err == nil {
			_, err = io.Copy(io.Discard, data) // which compares the digest
		}
		if err != nil {
			s.t.Errorf("step %d: layer %s was answered, and: %v", step, d, err)
		}
	}
}

// complete wants every byte of an image.
func (s *store) complete(step int, ref string) {
	s.t.Helper()
	img, err := remote.Image(s.ref(ref))
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		s.t.Errorf("step %d: %s: %v", step, ref, err)
	}
}

// sound has the store checked.
func (s *store) sound(step int) {
	s.t.Helper()
	if code, out, err := s.dcs(context.Background(), "inspect", "--check", "--deep"); err != nil || code != 0 {
		s.t.Errorf("step %d: dcs inspect --check --deep: exit %d, %v\n%s", step, code, err, out)
	}
}

// list are the files of the store, sorted.
func (s *store) list() []string {
	s.t.Helper()
	all, err := s.files("docker", ".metadata/tmp", ".metadata/trash")
	s.must(err)
	slices.Sort(all)
	return all
}

// awaitFiles waits until the files are one of some sets.
func (s *store) awaitFiles(step int, sets ...[]string) {
	s.t.Helper()
	var got []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got = s.list()
		if slices.ContainsFunc(sets, func(set []string) bool { return slices.Equal(got, set) }) {
			return
		}
	}
	s.t.Errorf("step %d: after the grace there are\n%s\nwant\n%s", step, strings.Join(got, "\n"),
		strings.Join(sets[0], "\n"))
}

// terminate ends a server that may have ended already.
func (s *store) terminate() {
	s.t.Helper()
	_ = s.cmd.Process.Signal(os.Interrupt)
	select {
	case <-s.done:
	case <-time.After(60 * time.Second):
		s.t.Fatal("the server does not stop")
	}
}
