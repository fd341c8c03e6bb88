package usage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/content/files"
	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/internal/usage"
)

var promised = index.Policy{TTL: 10 * time.Minute, Grace: time.Minute, Resolution: time.Second}

// world is a served data directory, in which time passes when a test says so.
type world struct {
	testing.TB
	dir     tree.Dir
	now     atomic.Int64
	served  *store.Served
	content *files.Store
	log     logrus.FieldLogger

	mu   sync.Mutex // guards the rest
	tags []layout.Key
	at   map[layout.Key]digest.Digest
}

// serve opens a data directory as a server does, up to the comparison of the index with the tree.
func serve(t testing.TB, dir string, now int64) *world {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	w := &world{TB: t, dir: tree.Dir(dir), log: log, at: map[layout.Key]digest.Digest{}}
	w.now.Store(now)
	var err error
	w.served, err = store.Opener{Dir: w.dir, Log: log,
		Now: func() time.Time { return time.Unix(w.now.Load(), 0) }}.Serve(t.Context(), promised)
	w.must(err)
	w.content, err = files.New(files.Options{Tree: w.served.Tree, Index: w.served.Index, Log: log,
		Resolution: promised.Resolution, Linger: 10 * time.Millisecond})
	w.must(err)
	w.must(w.content.Start(t.Context()))
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) compare() {
	w.Helper()
	res, err := reconcile.Rebuild(w.Context(), reconcile.Options{Dir: w.dir, Index: w.served.Index, Log: w.log,
		Prune: w.served.Tree.Prune, PruneUploads: w.served.Tree.PruneUploads})
	w.must(err)
	_, err = w.served.Index.OpenGate(w.Context(), res.Token)
	w.must(err)
}

func (w *world) close() {
	w.Helper()
	w.must(errors.Join(w.content.Close(), w.served.Close()))
}

// pass lets time pass that is watched.
func (w *world) pass(d time.Duration) {
	w.Helper()
	for ; d > 0; d -= 10 * time.Second {
		w.now.Add(10)
		w.must(w.served.Index.Beat(w.Context()))
	}
}

func (w *world) expire() {
	w.Helper()
	c := gc.Collector{Files: gc.LocalFiles(w.dir, w.served.Tree), Index: w.served.Index, Log: w.log}
	_, err := c.Run(w.Context(), promised, false)
	w.must(err)
}

// right wants the counter to be no less than what du shows, and at most a fiftieth more.
func (w *world) right(when string, uploads ...usage.Uploads) {
	w.Helper()
	w.must(w.content.Flush(w.Context()))
	began := time.Now()
	used, err := usage.Of(w.dir, w.served.Tree, w.served.Index, uploads...).Used(w.Context())
	took := time.Since(began)
	w.must(err)
	shown := du(w.TB, string(w.dir))
	w.Logf("%s: du shows %d, the counter %+d (%.2f %%), in %s", when, shown, used-shown,
		100*float64(used-shown)/float64(shown), took)
	if used < shown || used-shown > shown/50 {
		w.Errorf("%s: the counter says %d, and du %d", when, used, shown)
	}
}

func du(t testing.TB, dir string) int64 {
	t.Helper()
	out, err := exec.Command("du", "-s", "--block-size=1", dir).Output()
	if err != nil {
		return tree.TakenInAll(dir)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// repositories have names of all depths.
func repository(r *rand.Rand) string {
	name := fmt.Sprintf("repo%d", r.IntN(40))
	for range r.IntN(6) {
		name = fmt.Sprintf("team%d/%s", r.IntN(3), name)
	}
	return name
}

// layer is a size that layers have: some a byte, some that need blocks which say where the others are.
func layer(r *rand.Rand) []byte {
	size := []int{1, 1 + r.IntN(600), 1 + r.IntN(20_000), 17_000 + r.IntN(200_000)}[r.IntN(4)]
	if r.IntN(100) == 0 {
		size = 1 << 20 << r.IntN(3)
	}
	b := make([]byte, size)
	for i := 0; i < len(b) && i < 64; i++ {
		b[i] = byte(r.Uint32())
	}
	if size == 1 {
		b[0] = byte(r.IntN(200))
	}
	return b
}

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int           `json:"size"`
}

func (w *world) upload(repo string, data []byte, pieces int) error {
	u, err := w.content.Begin(context.Background(), repo, "")
	if err != nil {
		return err
	}
	for i := range pieces {
		part := data[i*len(data)/pieces : (i+1)*len(data)/pieces]
		err = errors.Join(err, u.Receive(context.Background(), bytes.NewReader(part), int64(len(part))))
		if i+1 < pieces && err == nil { // a request of its own
			u.Close()
			if u, err = w.content.Resume(repo, u.ID()); err != nil {
				return err
			}
		}
	}
	defer u.Close()
	return errors.Join(err, u.Finish(context.Background(), digest.FromBytes(data)))
}

// push pushes an image, under a tag or none.
func (w *world) push(r *rand.Rand) error {
	repo, of := repository(r), map[string]any{"schemaVersion": 2,
		"mediaType": "application/vnd.oci.image.manifest.v1+json"}
	var layers []descriptor
	for range 1 + r.IntN(4) {
		data := layer(r)
		if err := w.upload(repo, data, 1+r.IntN(2)); err != nil {
			return err
		}
		layers = append(layers, descriptor{"application/octet-stream", digest.FromBytes(data), len(data)})
	}
	of["layers"] = layers
	data, err := json.Marshal(of)
	if err != nil {
		return err
	}
	parsed, err := manifest.Parse(data)
	if err != nil {
		return err
	}
	var tags []string
	if r.IntN(10) > 0 {
		tags = append(tags, fmt.Sprintf("v%d", r.IntN(60)))
	}
	m := content.Manifest{Digest: digest.FromBytes(data), Data: data, Manifest: parsed}
	if err := w.content.PutManifest(context.Background(), repo, m, tags); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tag := range tags {
		k := layout.TagKey(repo, tag)
		w.tags = append(w.tags, k)
		w.at[k] = m.Digest
	}
	return nil
}

// any is a tag that was pushed, and where it pointed to. False: there is none.
func (w *world) any(r *rand.Rand) (k layout.Key, to digest.Digest, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.tags) == 0 {
		return k, "", false
	}
	k = w.tags[r.IntN(len(w.tags))]
	return k, w.at[k], true
}

// work does one of what clients do. What does not exist any more is no error.
func (w *world) work(r *rand.Rand) error {
	k, to, ok := w.any(r)
	var err error
	switch op := r.IntN(20); {
	case op < 10 || !ok:
		return w.push(r)
	case op < 13:
		err = w.content.DeleteTag(context.Background(), k.Repository, k.Tag)
	case op < 15:
		_, err = w.content.DeleteManifest(context.Background(), k.Repository, to)
	case op < 16:
		_, err = w.content.MountFromAny(context.Background(), repository(r), to)
	case op < 17: // an upload that is left half done
		u, err := w.content.Begin(context.Background(), repository(r), "")
		if err != nil {
			return err
		}
		defer u.Close()
		return u.Receive(context.Background(), bytes.NewReader(layer(r)), -1)
	case op < 18:
		u, err := w.content.Begin(context.Background(), repository(r), "")
		if err != nil {
			return err
		}
		defer u.Close()
		u.Cancel()
	default:
		return w.upload(repository(r), layer(r), 1)
	}
	var missing *content.MissingError
	var needed *index.ReferencedError
	if errors.Is(err, content.ErrUnknown) || errors.As(err, &missing) || errors.As(err, &needed) {
		err = nil
	}
	return err
}

// churn has several clients do so many things.
func (w *world) churn(ops int, seed uint64) {
	w.Helper()
	const clients = 8
	errs := make(chan error, clients)
	for c := range uint64(clients) {
		go func() {
			r := rand.New(rand.NewPCG(seed, c))
			var err error
			for range ops / clients {
				if err = w.work(r); err != nil {
					break
				}
			}
			errs <- err
		}()
	}
	var failed error
	for range clients {
		failed = errors.Join(failed, <-errs)
	}
	w.must(failed)
}

// mounted makes a small file system of a kind in a file, and mounts it. The test is skipped where that is not possible.
func mounted(t *testing.T, kind string, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(4<<30), f.Close(), os.Mkdir(at, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]string{append(append([]string{"mkfs." + kind, "-q"}, options...), image),
		{"mount", "-o", "loop", image, at}} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no %s on this machine: %v: %s", kind, err, out)
		}
	}
	t.Cleanup(func() {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			out, err := exec.Command("umount", at).CombinedOutput()
			if err == nil {
				return
			}
			if time.Now().After(end) {
				t.Errorf("unmount: %v: %s", err, out)
				return
			}
		}
	})
	return at
}
