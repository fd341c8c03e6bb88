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

	"github.com/jc-lab/docker-cache-server/internal/fsck"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// wreck is a store in which a test breaks things.
type wreck struct {
	*testing.T
	dir string
}

func (w wreck) file(p layout.Path) string { return tree.Dir(w.dir).File(p) }

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
	code, stdout, stderr := dcs(w.T, append([]string{"inspect", "--storage.directory", w.dir, "--check", "--format",
		"json"}, args...)...)
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
	rotten, hollow, flipped := layersOf(t, s.push("rotten:v1")), layersOf(t, s.push("hollow:v1")), layersOf(t,
		s.push("flipped:v1"))
	s.push("bad/tag:v1")
	relinked := layersOf(t, s.push("relinked:v1"))
	torn := layersOf(t, s.push("torn:v1"))
	idx, children := pushedIndex(t, s.ref("multi:v1"))
	if found := w.problems("--deep"); len(found) > 0 {
		t.Fatalf("problems in a sound store: %v", found)
	}

	w.write(w.blob(rotten[0]), strings.Repeat("x", 100)) // its size is wrong as well
	w.write(w.blob(flipped[0]), strings.Repeat("x", w.size(w.blob(flipped[0]))))
	w.remove(w.blob(hollow[0]))
	w.write(w.file(layout.Path{Kind: layout.TagLink, Repository: "bad/tag", Tag: "v2"}), hexOf('7').String())
	w.write(w.file(layout.Path{Kind: layout.LayerLink, Repository: "good", Digest: hexOf('8')}), hexOf('8').String())
	w.write(w.file(layout.Path{Kind: layout.LayerLink, Repository: "relinked", Digest: relinked[0]}),
		hexOf('9').String())
	orphan := digest.FromString("nobody knows me")
	w.write(w.blob(orphan), "nobody knows me")
	unknown := filepath.Join("docker/registry/v2/repositories/good/_manifests/.DS_Store")
	w.write(filepath.Join(s.dir, unknown), "")
	w.write(w.blob(torn[3]), "{")
	for _, child := range children {
		w.remove(w.blob(child))
	}

	at := func(flaw, repo string, d digest.Digest) string { return fmt.Sprintf("%s %s@%s", flaw, repo, d) }
	shallow := []string{
		at("dangling link", "good", hexOf('8')), at("orphan file", "good", hexOf('8')),
		at("dangling link", "hollow", hollow[0]), at("missing blob", "hollow", hollow[3]), "stale row " +
			hollow[0].String(),
		at("dangling link", "relinked", relinked[0]),
		"wrong digest " + rotten[0].String(), at("missing blob", "rotten", rotten[3]),
		"tag to nowhere bad/tag:v2", "orphan file bad/tag:v2",
		"orphan file " + orphan.String(),
		"unknown file " + unknown,
		at("unparsable manifest", "torn", torn[3]), "wrong digest " + torn[3].String(),
		at("missing blob", "multi", idx), at("missing blob", "multi", idx), // one for each
		at("missing blob", "multi", children[0]), "stale row " + children[0].String(),
		at("missing blob", "multi", children[1]), "stale row " + children[1].String(),
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
	kept, err := os.ReadFile(filepath.Join(tree.Dir(s.dir).Quarantine(), "sha256-"+rotten[0].Encoded()))
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

// pushedIndex pushes an index of two images and returns its digest and theirs.
func pushedIndex(t *testing.T, ref name.Reference) (idx digest.Digest, children []digest.Digest) {
	t.Helper()
	made := indexOf(t)
	if err := remote.WriteIndex(ref, made); err != nil {
		t.Fatal(err)
	}
	return digestOfIndex(t, made), childrenOf(t, made)
}

// indexOf is an index of two images, and of more that are given.
func indexOf(t *testing.T, more ...mutate.Appendable) v1.ImageIndex {
	t.Helper()
	var made v1.ImageIndex = empty.Index
	for range 2 {
		img, err := random.Image(512, 1)
		if err != nil {
			t.Fatal(err)
		}
		made = mutate.AppendManifests(made, mutate.IndexAddendum{Add: img})
	}
	for _, m := range more {
		made = mutate.AppendManifests(made, mutate.IndexAddendum{Add: m})
	}
	return made
}

func digestOfIndex(t *testing.T, idx v1.ImageIndex) digest.Digest {
	t.Helper()
	d, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.Digest(d.String())
}

func childrenOf(t *testing.T, idx v1.ImageIndex) (all []digest.Digest) {
	t.Helper()
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		all = append(all, digest.Digest(d.Digest.String()))
	}
	return all
}

// TestARepairKeepsWhatSomebodyCanPull takes parts from indexes, as tools that copy one platform do, and repairs
// quarantine, beside a live server. What is left of an index is served as before, and said in the words of a part; what
// nobody can pull goes, whatever names it.
func TestARepairKeepsWhatSomebodyCanPull(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.cleanup_interval", "0")
	w := wreck{t, s.dir}
	link := func(repo string, d digest.Digest) string {
		return w.file(layout.Path{Kind: layout.RevisionLink, Repository: repo, Digest: d})
	}
	sparse, sparseParts := pushedIndex(t, s.ref("sparse:v1"))
	w.remove(w.blob(sparseParts[1]))
	w.remove(link("sparse", sparseParts[1]))

	hollow, hollowParts := pushedIndex(t, s.ref("hollow:v1")) // one of its images has lost its layer
	image, err := remote.Image(s.ref("hollow@" + hollowParts[1].String()))
	if err != nil {
		t.Fatal(err)
	}
	layer := layersOf(t, image)[0]
	if err := remote.Tag(s.ref("hollow:part").Context().Tag("part"), image); err != nil {
		t.Fatal(err)
	}
	w.remove(w.blob(layer))

	inner := indexOf(t)
	outer := indexOf(t, inner)
	if err := remote.WriteIndex(s.ref("nested:v1"), outer); err != nil {
		t.Fatal(err)
	}
	for _, d := range childrenOf(t, inner) { // nothing of the inner index can be pulled
		w.remove(w.blob(d))
	}

	_, lost := pushedIndex(t, s.ref("lost:v1"))
	for _, d := range lost {
		w.remove(w.blob(d))
		w.remove(link("lost", d))
	}
	if found := w.problems(); !slices.Contains(found, "partial index sparse@"+sparse.String()) ||
		slices.Contains(found, "missing blob sparse@"+sparse.String()) {
		t.Errorf("problems: %v", found)
	}
	if code, stdout := w.repair(); code != 3 || !strings.Contains(stdout, "other parts of it can be pulled") {
		t.Errorf("repair: exit %d\n%s", code, stdout)
	}
	want := []string{"partial index hollow@" + hollow.String(), "partial index nested@" +
		digestOfIndex(t, outer).String(), "partial index sparse@" + sparse.String()}
	if got := w.problems("--deep"); !slices.Equal(got, want) {
		t.Errorf("left are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, ref := range []string{"sparse:v1", "hollow:v1", "nested:v1"} {
		if s.gone(ref) {
			t.Errorf("%s can be pulled in part, and is gone", ref)
		}
	}
	for _, ref := range []string{"sparse@" + sparseParts[0].String(), "hollow@" + hollowParts[0].String(),
		"nested@" + childrenOf(t, outer)[0].String()} {
		if err := s.pull(ref); err != nil {
			t.Errorf("%s is whole: %v", ref, err)
		}
	}
	for _, ref := range []string{"hollow@" + hollowParts[1].String(), "hollow:part",
		"nested@" + digestOfIndex(t, inner).String(), "lost:v1"} {
		if !s.gone(ref) {
			t.Errorf("nobody can pull %s, and it is not gone", ref)
		}
	}
	if err := remote.Write(s.ref("hollow@"+hollowParts[1].String()), image); err == nil {
		t.Error("the layer of an image was read though it is gone")
	}
}

// A server that was stopped has left the index as it was: nobody rebuilds it, and nobody saw what happened to the
// disk since.
func TestACheckSaysWhyItDidNotLookIntoTheIndex(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	s.push("app:v1")
	s.await(func() bool { return strings.Contains(s.log.String(), "index matches") }, "the gate opens")
	if _, stderr := bounded(t, "inspect", "--check", "--storage.directory", s.dir); stderr != "" {
		t.Errorf("beside a server: %q", stderr)
	}
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Fatalf("exit %d", code)
	}
	stdout, stderr := bounded(t, "inspect", "--check", "--storage.directory", s.dir)
	if !strings.Contains(stderr, "no server runs") || strings.Contains(stderr, "being rebuilt") ||
		!strings.HasPrefix(stdout, "no problems in 1 tag") {
		t.Errorf("without one: %q, %q", stdout, stderr)
	}
}

// The help names every flaw that a check can find.
func TestTheHelpNamesEveryFlaw(t *testing.T) {
	_, help, _ := dcs(t, "inspect", "--help")
	text := strings.Join(strings.Fields(help), " ")
	for _, f := range []fsck.Flaw{fsck.Unreadable, fsck.WrongDigest, fsck.Missing, fsck.WrongSize, fsck.Partial,
		fsck.Unparsable,
		fsck.Dangling, fsck.Nowhere, fsck.Stale, fsck.Orphan, fsck.Refused, fsck.Unknown} {
		if !strings.Contains(text, string(f)) {
			t.Errorf("%q is not in the help of dcs inspect --check", f)
		}
	}
}
