//go:build e2e

package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestPowerLossDuringAnExpiry records what a dcs gc asks of the kernel. A removal is sure after the fsync of its
// directory; before that a power loss may take it back. So nothing may go before the removal of everything that
// refers to it is sure, or a manifest comes back whose layers do not.
func TestPowerLossDuringAnExpiry(t *testing.T) {
	dir, record := agedStore(t), filepath.Join(t.TempDir(), "strace")
	g := newGraph(t, dir)
	run(t, exec.Command("strace", "-f", "-qq", "-y", "-o", record, "-e", "trace=renameat,renameat2,unlinkat,fsync",
		dcsBin, "gc", "--ttl", "24h", "--grace", "100ms", "--storage.directory", dir))
	for _, c := range readCalls(t, record) {
		paths := quoted.FindAllStringSubmatch(c.args, -1)
		switch c.name {
		case "fsync":
			if m := descriptor.FindStringSubmatch(c.args); m != nil {
				g.synced(m[1], c)
			}
		case "unlinkat", "renameat", "renameat2":
			if strings.Contains(c.args, "AT_REMOVEDIR") {
				g.emptied(paths[0][1], c)
			} else {
				g.removed(paths[0][1], c)
			}
		}
	}
	t.Logf("%d tags, %d manifests, %d links, %d blobs went", g.count["tag"], g.count["manifest"], g.count["layer"],
		g.count["blob"])
	for _, kind := range []string{"tag", "manifest", "layer", "blob"} {
		if g.count[kind] == 0 {
			t.Errorf("no %s went: that says nothing", kind)
		}
	}
}

// agedStore is a store in which nothing was used for two days.
func agedStore(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	addr, server := serveOpen(t, dir)
	subject := newImage(t, 1<<10)
	pushImage(t, addr+"/app:v1", subject)
	pushImage(t, addr+"/other/app:v1", subject)
	pushIndex(t, addr+"/app:multi", newIndex(t))
	pushReferrer(t, addr+"/app", subject)
	server.stop(t)
	age(t, filepath.Join(dir, "docker"), func(string) bool { return true })
	forgetIndex(t, dir)
	run(t, exec.Command(dcsBin, "gc", "--cache.adopt_age", "mtime", "--ttl", "24h", "--grace", "100ms",
		"--storage.directory", dir))
	time.Sleep(300 * time.Millisecond) // longer than what was adopted is safe from
	return dir
}

// pushReferrer pushes something that has an image as its subject, and no tag.
func pushReferrer(t *testing.T, repo string, subject v1.Image) (ref string, dgst v1.Hash) {
	t.Helper()
	desc, err := remote.Head(reference(t, repo+"@"+hashOf(t, subject).String()))
	if err != nil {
		t.Fatal(err)
	}
	signature := mutate.Subject(newImage(t, 100), *desc).(v1.Image)
	dgst = hashOf(t, signature)
	pushImage(t, repo+"@"+dgst.String(), signature)
	return repo[strings.Index(repo, "/")+1:] + "@" + dgst.String(), dgst
}

func hashOf(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// age makes files two days old.
func age(t *testing.T, dir string, old func(path string) bool) {
	t.Helper()
	at := time.Now().Add(-48 * time.Hour)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !old(path) {
			return err
		}
		return os.Chtimes(path, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func forgetIndex(t *testing.T, dir string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, ".metadata", "index.db"+suffix)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// graph is what refers to what in a store: repo:tag, repo@digest and digest stand for a tag, a manifest or layer of a
// repository, and a blob.
type graph struct {
	*testing.T
	repos  string
	by     map[string][]string // thing -> what refers to it
	unsure map[string]call     // things that went, until that is sure
	place  map[string]string   // thing -> directory that held its name
	count  map[string]int
}

var (
	tagLink      = regexp.MustCompile(`^(.+)/_manifests/tags/([^/]+)(/current/link)?$`)
	revisionLink = regexp.MustCompile(`^(.+)/_manifests/revisions/sha256/([0-9a-f]{64})(/link)?$`)
	layerLink    = regexp.MustCompile(`^(.+)/_layers/sha256/([0-9a-f]{64})(/link)?$`)
	blobFile     = regexp.MustCompile(`/blobs/sha256/../([0-9a-f]{64})(/data)?$`)
)

func newGraph(t *testing.T, dir string) *graph {
	t.Helper()
	g := &graph{T: t, repos: filepath.Join(dir, "docker/registry/v2/repositories") + "/", by: map[string][]string{},
		unsure: map[string]call{}, place: map[string]string{}, count: map[string]int{}}
	err := filepath.WalkDir(g.repos, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		kind, thing := g.thing(path)
		switch kind {
		case "tag":
			link, err := os.ReadFile(path)
			repo, _, _ := strings.Cut(thing, ":")
			to := repo + "@" + strings.TrimPrefix(string(link), "sha256:")
			g.by[to] = append(g.by[to], thing)
			return err
		case "manifest":
			repo, hex, _ := strings.Cut(thing, "@")
			g.by[hex] = append(g.by[hex], thing)
			data, err := os.ReadFile(filepath.Join(dir, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data"))
			if err != nil {
				return err
			}
			var m struct {
				Config            v1.Descriptor
				Layers, Manifests []v1.Descriptor
			}
			if err := json.Unmarshal(data, &m); err != nil {
				return err
			}
			for _, d := range slices.Concat(m.Layers, m.Manifests, []v1.Descriptor{m.Config}) {
				for _, needed := range []string{repo + "@" + d.Digest.Hex, d.Digest.Hex} {
					g.by[needed] = append(g.by[needed], thing)
				}
			}
		case "layer":
			_, hex, _ := strings.Cut(thing, "@")
			g.by[hex] = append(g.by[hex], thing)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// thing says what a file is the name of.
func (g *graph) thing(path string) (kind, thing string) {
	if m := blobFile.FindStringSubmatch(path); m != nil {
		return "blob", m[1]
	}
	path, in := strings.CutPrefix(path, g.repos)
	if m := tagLink.FindStringSubmatch(path); in && m != nil {
		return "tag", m[1] + ":" + m[2]
	}
	if m := revisionLink.FindStringSubmatch(path); in && m != nil {
		return "manifest", m[1] + "@" + m[2]
	}
	if m := layerLink.FindStringSubmatch(path); in && m != nil {
		return "layer", m[1] + "@" + m[2]
	}
	return "", ""
}

func (g *graph) removed(path string, c call) {
	kind, thing := g.thing(path)
	if kind == "" {
		return
	}
	g.count[kind]++
	for _, by := range g.by[thing] {
		if _, unsure := g.unsure[by]; unsure {
			g.Errorf("%s %s went before it was sure that %s did", kind, thing, by)
		}
	}
	g.unsure[thing], g.place[thing] = c, filepath.Dir(path)
}

// emptied is for a directory that is removed: what went from it is sure when that is.
func (g *graph) emptied(dir string, c call) {
	for thing := range g.unsure {
		if g.place[thing] == dir {
			g.unsure[thing], g.place[thing] = c, filepath.Dir(dir)
		}
	}
}

func (g *graph) synced(dir string, c call) {
	for thing, went := range g.unsure {
		if g.place[thing] == dir && went.end < c.start {
			delete(g.unsure, thing)
		}
	}
}
