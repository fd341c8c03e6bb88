package torture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// outside brings images into the tree beside the running server, as rsync does and as links do: no request
// tells the server of them.
type outside struct {
	*worker
	elsewhere string // a directory beside the store, on the same file system
	arrived   atomic.Int64
}

const tree = "docker/registry/v2"

// linked makes a store whose tree is spread over several directories by symbolic links, some of which the storm's
// clients push through.
func (st *storm) linked(elsewhere string) {
	st.t.Helper()
	for i, path := range []string{"repositories/team", "repositories/base/_layers", "repositories/app/_manifests",
		"repositories/app/_uploads",
		"blobs/sha256/00", "blobs/sha256/7f", "blobs/sha256/a0", "blobs/sha256/ff"} {
		to := filepath.Join(elsewhere, fmt.Sprint("part-", i))
		link := filepath.Join(st.dir, tree, path)
		for _, dir := range []string{to, filepath.Dir(link)} {
			st.must(os.MkdirAll(dir, 0o755))
		}
		st.must(os.Symlink(to, link))
	}
}

// arrive writes a file as rsync does: beside its place, and then in it. Directories that a run empties meanwhile
// are made again.
func (o *outside) arrive(path string, data []byte) {
	o.t.Helper()
	for range 100 {
		temporary := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d", filepath.Base(path), o.id))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(temporary, data, 0o644)
		}
		if err == nil {
			err = os.Rename(temporary, path)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) {
			o.t.Fatal(err)
		}
	}
	o.t.Fatalf("the directory of %s keeps vanishing", path)
}

func blobPath(d digest.Digest) string {
	return filepath.Join(tree, "blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded(), "data")
}

// copyIn brings an image into a repository: bytes first, names last, the tag at the end. Every third one is a
// directory elsewhere to which a link leads.
func (o *outside) copyIn(repo string, c content, blobs map[digest.Digest]blob) {
	o.t.Helper()
	d := digest.FromBytes(c.data)
	for _, b := range blobs {
		o.arrive(filepath.Join(o.dir, blobPath(b.digest)), b.data)
	}
	o.arrive(filepath.Join(o.dir, blobPath(d)), c.data)
	place := filepath.Join(o.dir, tree, "repositories", repo)
	to := place
	if o.random.IntN(3) == 0 {
		to = filepath.Join(o.elsewhere, strings.ReplaceAll(repo, "/", "-"))
	}
	link := func(dir string, d digest.Digest, in ...string) {
		path := append(append([]string{to, dir}, in...), "link")
		o.arrive(filepath.Join(path...), []byte(d))
	}
	for _, b := range blobs {
		link("_layers", b.digest, "sha256", b.digest.Encoded())
	}
	link("_manifests", d, "revisions", "sha256", d.Encoded())
	link("_manifests", d, "tags", "v1", "index", "sha256", d.Encoded())
	link("_manifests", d, "tags", "v1", "current")
	if to == place {
		return
	}
	for range 100 {
		_ = os.MkdirAll(filepath.Dir(place), 0o755) // Symlink says what is wrong
		err := os.Symlink(to, place)
		if err == nil {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) {
			o.t.Fatal(err)
		}
	}
	o.t.Fatalf("the directory of %s keeps vanishing", place)
}

// use brings an image in and uses it for several times the ttl, by its tag alone: its client has the layers. Others
// push the blobs that it shares and let them go. In the end all of it is there, unless this client was too slow.
func (o *outside) use(repo string) {
	o.t.Helper()
	c, blobs := o.image(nil, o.blobs)
	d := digest.FromBytes(c.data)
	o.mu.Lock()
	o.manifests[d] = c
	o.mu.Unlock()
	o.copyIn(repo, c, blobs)
	// What it shares may be going while it comes: rsync runs again until nothing is missing.
	var used time.Time
	for deadline := time.Now().Add(time.Minute); ; {
		a, ok := o.ask("GET", "/v2/"+repo+"/manifests/v1", nil, "Accept", "*/*")
		missing := !ok || a.code != 200
		for _, b := range blobs {
			path := filepath.Join(o.dir, blobPath(b.digest))
			if _, err := os.Stat(path); err != nil {
				missing = true
				o.arrive(path, b.data)
			}
		}
		if !missing {
			used = a.sent
			break
		}
		if time.Now().After(deadline) {
			o.violation("%s was copied in again and again, and does not become whole: %d", repo, a.code)
			return
		}
	}
	o.arrived.Add(1)
	again := func(method string) (a answer, ok bool) {
		a, ok = o.ask(method, "/v2/"+repo+"/manifests/v1", nil, "Accept", "*/*")
		if ok && a.code != 200 && a.received.Sub(used) < stormTTL {
			o.violation("%s:v1 answers %d, %v after it was used", repo, a.code, a.received.Sub(used))
		}
		used = a.sent
		return a, ok && a.code == 200
	}
	for end := time.Now().Add(3 * (stormTTL + stormGrace)); time.Now().Before(end); time.Sleep(stormTTL / 4) {
		if _, ok := again("HEAD"); !ok {
			return
		}
	}
	if a, ok := again("GET"); ok {
		o.readManifest(repo, "v1", a)
	}
}

// TestStormFromOutside lets clients loose on a tree that is spread over links, while images are copied into it and
// linked into it that no client pushed. What is used is whole at any time, by whatever way it came; a restart finds
// everything; and what nobody uses goes to the last file, also behind the links, which stay.
func TestStormFromOutside(t *testing.T) {
	s := newStore(t, "--cache.ttl", stormTTL.String(), "--cache.grace", stormGrace.String(), "--cache.cleanup_interval",
		"100ms")
	st := newStorm(t, s, stormGrace)
	elsewhere := t.TempDir()
	st.linked(elsewhere)
	st.links = true
	s.start()
	ctx, cancel := context.WithTimeout(t.Context(), *duration/storms)
	defer cancel()
	var others sync.WaitGroup
	others.Go(func() { st.expire(ctx) })
	o := &outside{elsewhere: elsewhere}
	for id := range 4 {
		w := &outside{worker: &worker{storm: st, id: 100 + id, random: rand.New(rand.NewPCG(*seed, uint64(5000+id)))},
			elsewhere: elsewhere}
		others.Go(func() {
			for n := 0; n == 0 || ctx.Err() == nil; n++ {
				w.use(fmt.Sprintf("outside/%d-%d", id, n))
			}
			o.arrived.Add(w.arrived.Load())
		})
	}
	st.rage(ctx, 8)
	others.Wait()
	s.stop()
	s.start()
	st.awaitGate()
	st.atRest()
	st.allGone()
	st.nothingIn(elsewhere)
	if code, out, err := st.dcs(t.Context(), "inspect", "--check", "--deep"); err != nil || code != 0 {
		st.violation("dcs inspect --check --deep of what is left: exit %d, %v\n%s", code, err, out)
	}
	s.stop()
	st.end()
	t.Logf("%d images came from outside", o.arrived.Load())
	if o.arrived.Load() < 4 {
		t.Errorf("only %d images came from outside", o.arrived.Load())
	}
}

// awaitGate waits until a server has compared its index with the disk.
func (st *storm) awaitGate() {
	st.t.Helper()
	if code, out, err := st.dcs(st.t.Context(), "gc"); err != nil || code != 0 { // which waits for that
		st.violation("dcs gc: exit %d, %v\n%s", code, err, out)
	}
}

// nothingIn wants no file to be left below a directory to which links lead.
func (st *storm) nothingIn(dir string) {
	st.t.Helper()
	var left []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			left = append(left, path)
		}
		return err
	})
	if err != nil || len(left) > 0 {
		st.violation("behind the links there are still: %v, %v", left, err)
	}
}
