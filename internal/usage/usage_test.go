package usage_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/usage"
)

// operations is how much a story has of what clients do.
var operations = flag.Int("operations", 400, "how many pushes, deletions and uploads a test does")

const began = 1_772_000_000 // seconds since 1970

// story is what happens to a data directory, with the counter looked at all the time.
func story(t *testing.T, dir string) {
	t.Parallel()
	w := serve(t, dir, began)
	left := usage.Walked(w.dir)
	w.compare()
	w.right("empty", w.content.Unfinished, left)
	for round := range uint64(4) {
		w.churn(*operations/4, round)
		w.right(fmt.Sprint("after churn ", round), w.content.Unfinished, left)
		w.pass(4 * time.Minute)
		w.expire()
		w.right(fmt.Sprint("after expiry ", round), w.content.Unfinished, left)
	}
	w.right("for another process", usage.Walked(w.dir))
	w.close()

	w = serve(t, dir, w.now.Load())
	left = usage.Walked(w.dir)
	w.right("after a restart", left)
	w.compare()
	w.right("after a comparison", w.content.Unfinished, left)
	w.close()

	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(w.dir.Index() + suffix)
	}
	w = serve(t, dir, w.now.Load())
	left = usage.Walked(w.dir)
	w.compare()
	w.right("after a lost index", w.content.Unfinished, left)
	w.pass(12 * time.Minute)
	w.expire()
	w.pass(2 * time.Minute)
	w.expire()
	w.right("after all expired", w.content.Unfinished, left)
	w.close()
}

func TestTheCounterIsWhatDuShows(t *testing.T) { story(t, t.TempDir()) }

func TestTheCounterIsWhatDuShowsOnEachFileSystem(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		options    []string
	}{{"ext4", "ext4", []string{"-F", "-i", "4096"}}, {"ext4 with blocks of 1 KiB", "ext4", []string{"-F", "-b", "1024",
		"-i", "4096"}},
		{"xfs", "xfs", nil}, {"btrfs", "btrfs", nil}} {
		t.Run(c.name, func(t *testing.T) { story(t, filepath.Join(mounted(t, c.kind, c.options...), "data")) })
	}
}

// A stock registry keeps an entry in the history of a tag for each push, and operators make symbolic links.
func TestTheCounterKnowsWhatAStockRegistryLeft(t *testing.T) {
	w := serve(t, t.TempDir(), began)
	left := usage.Walked(w.dir)
	w.compare()
	w.churn(80, 7)
	k, _, _ := w.any(rand.New(rand.NewPCG(1, 2)))
	image := w.at[k]
	w.must(w.content.Flush(t.Context()))
	write := func(p layout.Path, text string) {
		file := w.dir.File(p)
		w.must(errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, []byte(text), 0o644)))
	}
	for i := range 200 { // the tag was moved so often
		d := digest.FromString(fmt.Sprint("an older image ", i))
		write(layout.Path{Kind: layout.TagIndexLink, Repository: k.Repository, Tag: k.Tag, Digest: d}, d.String())
	}
	write(layout.TagKey("another/repo", "v1").Path(), image.String())
	w.compare()
	w.right("with a history", w.content.Unfinished, left)
	data, err := w.dir.ReadManifest(image)
	w.must(err)
	parsed, err := manifest.Parse(data)
	w.must(err)
	elsewhere, large := filepath.Join(t.TempDir(), "blob"), bytes.Repeat([]byte("large"), 1<<20)
	w.must(w.upload(k.Repository, large, 1))
	w.must(w.content.Flush(t.Context()))
	blob := w.dir.File(layout.BlobKey(digest.FromBytes(large)).Path())
	w.must(errors.Join(os.Rename(blob, elsewhere), os.Symlink(elsewhere, blob)))
	w.compare()
	w.right("with a symbolic link", w.content.Unfinished, left)
	m := content.Manifest{Digest: image, Data: data, Manifest: parsed}
	w.must(w.content.PutManifest(t.Context(), k.Repository, m, []string{k.Tag})) // which ends the history
	w.right("after the tag moved", w.content.Unfinished, left)
	w.close()
}

// killed is set in the process that a test kills.
const killed = "USAGE_TEST_KILLED"

func TestAServerThatIsKilled(t *testing.T) {
	dir := os.Getenv(killed)
	if dir == "" {
		t.Skip("it is for the next test")
	}
	w := serve(t, dir, began)
	w.compare()
	for round := uint64(0); ; round++ {
		w.churn(400, rand.Uint64())
		w.pass(time.Minute)
		w.expire()
	}
}

func TestTheCounterIsRightAfterAKill(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAServerThatIsKilled$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), killed+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(2+i) * time.Second) // any time will do
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		w := serve(t, dir, began+1_000_000*int64(i+1))
		left := usage.Walked(w.dir)
		w.right("after a kill, before any comparison", left)
		w.compare()
		w.right("after a kill and a comparison", w.content.Unfinished, left)
		w.close()
	}
}
