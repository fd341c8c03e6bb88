package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// wreck is a store in which a test breaks things.
type wreck struct {
	*testing.T
	dir string
}

func (w wreck) file(p layout.Path) string { return layout.Dir(w.dir).File(p) }

func (w wreck) blob(d digest.Digest) string {
	return w.file(layout.Path{Kind: layout.BlobData, Digest: d})
}

func (w wreck) write(path, content string) {
	w.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.Fatal(err)
	}
}

func (w wreck) remove(path string) {
	w.Helper()
	if err := os.Remove(path); err != nil {
		w.Fatal(err)
	}
}

// layers are the digests of an image: its layers, then its config, then itself.
func layersOf(t *testing.T, img v1.Image) (all []digest.Digest) {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Layers {
		all = append(all, digest.Digest(l.Digest.String()))
	}
	self, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return append(all, digest.Digest(m.Config.Digest.String()), digest.Digest(self.String()))
}

// problems is what dcs inspect --check says, as "problem object", in order.
func (w wreck) problems(args ...string) []string {
	w.Helper()
	code, stdout, stderr := dcs(w.T, append([]string{"inspect", "--storage.directory", w.dir, "--check", "--format", "json"}, args...)...)
	var out struct {
		Checked  map[string]any
		Problems []struct{ Problem, Object, Detail string }
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		w.Fatalf("dcs inspect --check printed %q: %v\n%s", stdout, err, stderr)
	}
	if want := map[bool]int{true: 3, false: 0}[len(out.Problems) > 0]; code != want {
		w.Errorf("exit code %d with %d problems, want %d\n%s", code, len(out.Problems), want, stderr)
	}
	var lines []string
	for _, p := range out.Problems {
		if p.Detail == "" {
			w.Errorf("%s %s says no more", p.Problem, p.Object)
		}
		lines = append(lines, p.Problem+" "+p.Object)
	}
	slices.Sort(lines)
	return lines
}

func (w wreck) repair(args ...string) (code int, stdout string) {
	w.Helper()
	code, stdout, stderr := dcs(w.T, append([]string{"gc", "--storage.directory", w.dir, "--repair"}, args...)...)
	w.Logf("dcs gc --repair %v: exit %d\n%s%s", args, code, stdout, stderr)
	return code, stdout
}

func (w wreck) size(path string) int {
	w.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		w.Fatal(err)
	}
	return int(fi.Size())
}

func hexOf(c byte) digest.Digest {
	return digest.NewDigestFromEncoded("sha256", strings.Repeat(string(c), 64))
}

// TestCheckFindsAndRepairMends breaks a store in every way that there is a word for, beside a live
// server: the check names each and nothing else, the repair mends all but what is not dcs's, and says so;
// what was not broken is as it was.
func TestCheckFindsAndRepairMends(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.cleanup_interval", "0")
	w := wreck{t, s.dir}
	s.push("good:v1")
	s.push("good:v2")
	rotten, hollow, flipped := layersOf(t, s.push("rotten:v1")), layersOf(t, s.push("hollow:v1")), layersOf(t, s.push("flipped:v1"))
	s.push("bad/tag:v1")
	relinked := layersOf(t, s.push("relinked:v1"))
	torn := layersOf(t, s.push("torn:v1"))
	idx, child := pushedIndex(t, s.ref("multi:v1"))
	if found := w.problems("--deep"); len(found) > 0 {
		t.Fatalf("problems in a sound store: %v", found)
	}

	w.write(w.blob(rotten[0]), strings.Repeat("x", 100)) // its size is wrong as well
	w.write(w.blob(flipped[0]), strings.Repeat("x", w.size(w.blob(flipped[0]))))
	w.remove(w.blob(hollow[0]))
	w.write(w.file(layout.Path{Kind: layout.TagLink, Repository: "bad/tag", Tag: "v2"}), hexOf('7').String())
	w.write(w.file(layout.Path{Kind: layout.LayerLink, Repository: "good", Digest: hexOf('8')}), hexOf('8').String())
	w.write(w.file(layout.Path{Kind: layout.LayerLink, Repository: "relinked", Digest: relinked[0]}), hexOf('9').String())
	orphan := digest.FromString("nobody knows me")
	w.write(w.blob(orphan), "nobody knows me")
	unknown := filepath.Join("docker/registry/v2/repositories/good/_manifests/.DS_Store")
	w.write(filepath.Join(s.dir, unknown), "")
	w.write(w.blob(torn[3]), "{")
	w.remove(w.blob(child))

	at := func(flaw, repo string, d digest.Digest) string { return fmt.Sprintf("%s %s@%s", flaw, repo, d) }
	shallow := []string{
		at("dangling link", "good", hexOf('8')), at("orphan file", "good", hexOf('8')),
		at("dangling link", "hollow", hollow[0]), at("missing blob", "hollow", hollow[3]), "stale row " + hollow[0].String(),
		at("dangling link", "relinked", relinked[0]),
		"wrong digest " + rotten[0].String(), at("missing blob", "rotten", rotten[3]),
		"tag to nowhere bad/tag:v2", "orphan file bad/tag:v2",
		"orphan file " + orphan.String(),
		"unknown file " + unknown,
		at("unparsable manifest", "torn", torn[3]), "wrong digest " + torn[3].String(),
		at("missing blob", "multi", idx), at("missing blob", "multi", child), "stale row " + child.String(),
	}
	slices.Sort(shallow)
	if got := w.problems(); !slices.Equal(got, shallow) {
		t.Fatalf("--check found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(shallow, "\n"))
	}
	deep := append([]string{"wrong digest " + flipped[0].String()}, shallow...)
	slices.Sort(deep)
	if got := w.problems("--deep"); !slices.Equal(got, deep) {
		t.Fatalf("--check --deep found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(deep, "\n"))
	}

	if code, stdout := w.repair("--dry-run"); code != 3 || strings.Count(stdout, "would have") != len(deep)-1 {
		t.Errorf("a dry run of a repair: exit %d and\n%s", code, stdout)
	}
	if got := w.problems("--deep"); !slices.Equal(got, deep) {
		t.Fatalf("a dry run changed something: %v", got)
	}
	code, stdout := w.repair()
	if code != 3 || !strings.Contains(stdout, "unknown file: "+unknown) || strings.Count(stdout, "left alone") != 1 {
		t.Errorf("repair: exit %d\n%s", code, stdout)
	}
	if got := w.problems("--deep"); !slices.Equal(got, []string{"unknown file " + unknown}) {
		t.Errorf("after a repair: %v", got)
	}
	w.remove(filepath.Join(s.dir, unknown))
	if code, stdout := w.repair(); code != 0 || stdout != "" {
		t.Errorf("a second repair: exit %d, %q", code, stdout)
	}

	for _, ref := range []string{"good:v1", "good:v2", "bad/tag:v1", "relinked:v1"} {
		if err := s.pull(ref); err != nil {
			t.Errorf("%s was not broken: %v", ref, err)
		}
	}
	for _, ref := range []string{"rotten:v1", "flipped:v1", "hollow:v1", "bad/tag:v2", "torn:v1", "multi:v1"} {
		if !s.gone(ref) {
			t.Errorf("%s cannot be pulled, and is not gone", ref)
		}
	}
	kept, err := os.ReadFile(filepath.Join(layout.Dir(s.dir).Quarantine(), "sha256-"+rotten[0].Encoded()))
	if err != nil || string(kept) != strings.Repeat("x", 100) {
		t.Errorf("in quarantine: %q, %v", kept, err)
	}
	s.push("rotten:v1") // and back
	if err := s.pull("rotten:v1"); err != nil {
		t.Error(err)
	}
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// pushedIndex pushes an index of two images and returns its digest and that of one of them.
func pushedIndex(t *testing.T, ref name.Reference) (idx, child digest.Digest) {
	t.Helper()
	var made v1.ImageIndex = empty.Index
	for range 2 {
		img, err := random.Image(512, 1)
		if err != nil {
			t.Fatal(err)
		}
		child = layersOf(t, img)[2]
		made = mutate.AppendManifests(made, mutate.IndexAddendum{Add: img})
	}
	if err := remote.WriteIndex(ref, made); err != nil {
		t.Fatal(err)
	}
	d, err := made.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.Digest(d.String()), child
}
