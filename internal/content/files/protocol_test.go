package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// bench is a store between whose steps a sweeper may come, at any time that a test chooses.
type bench struct {
	*testing.T
	*Store
	now *time.Time
}

var rules = index.Policy{TTL: 10 * time.Hour, Grace: time.Hour, Resolution: time.Minute}

func newBench(t *testing.T) *bench { return newBenchThat(t, 0) }

// newBenchThat is one on which layers wait for their names for so long.
func newBenchThat(t *testing.T, linger time.Duration) *bench {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := &bench{T: t, now: &now}
	dir, err := tree.At(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ix, err := sqlite.Open(context.Background(), dir.Index(), sqlite.Serve, func() time.Time { return *b.now })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	})
	log := logrus.New()
	log.SetOutput(io.Discard)
	b.open(Options{Tree: tree, Index: ix, Log: log, Resolution: rules.Resolution, Linger: linger})
	if err := b.index.Promise(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	if err := b.index.SetPins(t.Context()); err != nil {
		t.Fatal(err)
	}
	token, err := b.index.CloseGate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := b.index.OpenGate(t.Context(), token); !ok || err != nil {
		t.Fatal(ok, err)
	}
	return b
}

func (b *bench) open(opts Options) {
	b.Helper()
	s, err := New(opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Store = s
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
}

// start is a new server after one that was killed.
func (b *bench) start() {
	b.Helper()
	was := b.Store
	was.publisher.mu.Lock()
	was.publisher.queue = nil // which dies with it
	was.publisher.mu.Unlock()
	b.open(Options{Tree: was.tree, Index: was.index, Log: was.log, Resolution: rules.Resolution,
		Linger: was.publisher.linger})
	if err := b.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) pass(d time.Duration) { *b.now = b.now.Add(d) }

// sweep takes all that may be taken now, in every order that a sweeper may choose.
func (b *bench) sweep(keys ...layout.Key) {
	b.Helper()
	cutoffs := policy.NewCutoffs(rules, b.index.Back, time.Time{})
	for range keys {
		for _, k := range keys {
			_, err := indextest.Retire(b.Context(), b.index, k,
				func(r index.Row) index.Victim { return cutoffs.Victim(r, policy.Life(rules)) },
				func(r index.Row) (index.Removed, error) {
					return index.Removed{File: true}, os.RemoveAll(b.tree.File(r.Key.Path()))
				})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// sweepBlob takes a blob, with its links in all repositories.
func (b *bench) sweepBlob(d digest.Digest, repos ...string) {
	b.Helper()
	keys := []layout.Key{layout.BlobKey(d)}
	for _, r := range repos {
		keys = append(keys, layout.LayerKey(r, d))
	}
	b.sweep(keys...)
}

func (b *bench) wantFile(k layout.Key, there bool) {
	b.Helper()
	got, err := b.tree.Has(k)
	if err != nil || got != there {
		b.Errorf("%s on disk: %v %v; want %v", k, got, err, there)
	}
}

// write makes a file as a stock registry does.
func (b *bench) write(path, data string) {
	b.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
		b.Fatal(err)
	}
}

// upload is an upload of which all bytes came.
func (b *bench) upload(repo, data string) content.Upload {
	b.Helper()
	u, err := b.Begin(b.Context(), repo, "")
	if err != nil {
		b.Fatal(err)
	}
	if err := u.Receive(b.Context(), strings.NewReader(data), -1); err != nil {
		b.Fatal(err)
	}
	return u
}

// layer stores a blob with a link in each repository.
func (b *bench) layer(data string, repos ...string) digest.Digest {
	b.Helper()
	d := digest.FromString(data)
	for _, r := range repos {
		u := b.upload(r, data)
		if err := u.Finish(b.Context(), d); err != nil {
			b.Fatal(err)
		}
		u.Close()
	}
	return d
}

// use asks for a layer.
func (b *bench) use(repo string, d digest.Digest, use content.Use) {
	b.Helper()
	if _, err := b.Blob(b.Context(), repo, d, use); err != nil {
		b.Fatal(err)
	}
}

// manifest is one of one layer.
func manifestOver(layers ...digest.Digest) content.Manifest {
	return manifestOf("manifest", "layers", layers)
}

func indexOver(platforms ...digest.Digest) content.Manifest {
	return manifestOf("index", "manifests", platforms)
}

func manifestOf(kind, field string, parts []digest.Digest) content.Manifest {
	var descriptors []string
	for _, p := range parts {
		descriptors = append(descriptors, `{"digest":"`+p.String()+`"}`)
	}
	body := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.` + kind + `.v1+json","` + field + `":[` +
		strings.Join(descriptors, ",") + `]}`
	c, err := manifest.Parse([]byte(body))
	if err != nil {
		panic(err)
	}
	return content.Manifest{Digest: digest.FromString(body), Data: []byte(body), Manifest: c}
}

// after lets something happen between a claim and its placing.
func (b *bench) after(happens func(), do func()) {
	sound := b.index
	b.index = stalling{sound, func() {
		b.index = sound
		happens()
	}}
	do()
	b.index = sound
}

// stalling is an index whose claims are followed by whatever a test wants to happen before the placing.
type stalling struct {
	index.Store
	claimed func()
}

func (s stalling) Claim(ctx context.Context, cs ...index.Claim) error {
	err := s.Store.Claim(ctx, cs...)
	s.claimed()
	return err
}

func (b *bench) missing(what string, err error) {
	b.Helper()
	if !errors.As(err, new(*content.MissingError)) {
		b.Errorf("%s: %v", what, err)
	}
}

func TestAHeadInOneRepositoryPromisesThatLink(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a", "b")
	b.pass(2 * time.Hour)
	b.use("a", d, content.Promise)
	b.sweepBlob(d, "a", "b")
	b.wantFile(layout.LayerKey("a", d), true)
	b.wantFile(layout.LayerKey("b", d), false)
	b.wantFile(layout.BlobKey(d), true)
}

// TestABlobThatAnUploadSawIsThereForItsLink: the upload's own bytes are not synced where the blob is there.
func TestABlobThatAnUploadSawIsThereForItsLink(t *testing.T) {
	for what, goes := range map[string]func(b *bench, d digest.Digest){
		"a sweeper comes":      func(b *bench, d digest.Digest) { b.sweepBlob(d, "a") },
		"somebody removes it":  func(b *bench, d digest.Digest) { b.remove(b.tree.File(layout.BlobKey(d).Path())) },
		"somebody shortens it": func(b *bench, d digest.Digest) { b.truncate(b.tree.File(layout.BlobKey(d).Path())) },
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			d := b.layer("l", "a")
			b.pass(2 * time.Hour)
			u := b.upload("b", "l")
			defer u.Close()
			b.after(func() { goes(b, d) }, func() {
				if err := u.Finish(t.Context(), d); err != nil {
					t.Error(err)
				}
			})
			b.wantFile(layout.LayerKey("b", d), true)
			if data, err := os.ReadFile(b.tree.File(layout.BlobKey(d).Path())); err != nil || string(data) != "l" {
				t.Errorf("the blob is %q, %v", data, err)
			}
		})
	}
}

func (b *bench) truncate(path string) {
	if err := os.Truncate(path, 0); err != nil {
		b.Fatal(err)
	}
}

func TestASweeperBeforeTheLookLeavesNoPromise(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	b.pass(2 * time.Hour)
	b.sweepBlob(d, "a")
	if _, err := b.Blob(t.Context(), "a", d, content.Promise); !errors.Is(err, content.ErrUnknown) {
		t.Errorf("a blob that is gone was promised: %v", err)
	}
	err := b.index.View(t.Context(), func(r index.Reader) error {
		for _, k := range []layout.Key{layout.BlobKey(d), layout.LayerKey("a", d)} {
			if row, err := r.Row(k); err != nil || row != nil {
				t.Errorf("asking for what is not there left a row: %+v %v", row, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestALinkToABlobThatWentMeanwhileIsRefused(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "b")
	b.after(func() { b.remove(b.tree.File(layout.BlobKey(d).Path())) }, func() {
		if _, err := b.Mount(t.Context(), "a", "b", d); !errors.Is(err, content.ErrUnknown) {
			t.Errorf("link to nowhere: %v", err)
		}
	})
	b.wantFile(layout.LayerKey("a", d), false)
}

func (b *bench) remove(path string) {
	if err := os.Remove(path); err != nil {
		b.Fatal(err)
	}
}

func TestAManifestWhoseLayerWentMeanwhileIsRefusedAndPinsNothing(t *testing.T) {
	b := newBench(t)
	l := b.layer("l", "a")
	m := manifestOver(l)
	b.pass(2 * time.Hour) // the client stalled for longer than the grace
	b.sweepBlob(l, "a")
	b.missing("manifest without its layer", b.PutManifest(t.Context(), "a", m, nil))
	b.wantFile(layout.ManifestKey("a", m.Digest), false)
	b.wantFile(layout.BlobKey(m.Digest), false)
}

// TestAManifestThatStallsBetweenClaimAndPlaceIsLookedAtAgain: its claim ran out, or somebody took a file
// away by hand. The first look was good.
func TestAManifestThatStallsBetweenClaimAndPlaceIsLookedAtAgain(t *testing.T) {
	for what, happens := range map[string]func(b *bench, l, m digest.Digest){
		"for longer than the grace": func(b *bench, l, m digest.Digest) {
			b.pass(2 * time.Hour)
			b.sweep(layout.ManifestKey("a", m), layout.LayerKey("a", l), layout.BlobKey(l))
		},
		"while its layer is removed by hand": func(b *bench, l, _ digest.Digest) {
			b.remove(b.tree.File(layout.LayerKey("a", l).Path()))
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			l := b.layer("l", "a")
			m := manifestOver(l)
			b.after(func() { happens(b, l, m.Digest) }, func() {
				b.missing("manifest without its layer", b.PutManifest(t.Context(), "a", m, nil))
			})
			b.wantFile(layout.ManifestKey("a", m.Digest), false)
			if known, err := b.index.Lease(t.Context(), layout.ManifestKey("a", m.Digest)); err != nil ||
				known[0].Found {
				t.Errorf("the claim of a refused manifest stays (%v), and holds what it names", err)
			}
		})
	}
}

func TestATagToAManifestThatWentMeanwhileIsRefused(t *testing.T) {
	b := newBench(t)
	m := manifestOver(b.layer("l", "a"))
	sound := b.index
	b.index = goes{sound, func() { b.remove(b.tree.File(layout.ManifestKey("a", m.Digest).Path())) }}
	err := b.PutManifest(t.Context(), "a", m, []string{"v1"})
	b.index = sound
	if !errors.Is(err, content.ErrUnknown) {
		t.Errorf("tag to nowhere: %v", err)
	}
	b.wantFile(layout.TagKey("a", "v1"), false)
}

// goes is an index in which something happens before a tag moves.
type goes struct {
	index.Store
	happens func()
}

func (g goes) Place(ctx context.Context, ps ...index.Placing) []error {
	for i, p := range ps {
		if p.Key.Kind == layout.Tag {
			ps[i].Rename = func() error { g.happens(); return p.Rename() }
		}
	}
	return g.Store.Place(ctx, ps...)
}

func TestAPromiseFromMemoryHoldsForItsWholeGrace(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	b.use("a", d, content.Promise)
	b.pass(rules.Resolution - time.Second)
	b.use("a", d, content.Promise) // answered from memory: the row is as old as the first one
	b.pass(rules.Grace - time.Millisecond)
	b.sweepBlob(d, "a")
	b.wantFile(layout.LayerKey("a", d), true)
	b.pass(rules.Resolution)
	b.sweepBlob(d, "a")
	b.wantFile(layout.LayerKey("a", d), false)
}

func TestAUseLaterThanTheResolutionIsWritten(t *testing.T) {
	for uses := 1; uses <= 4; uses++ {
		b := newBench(t)
		d := b.layer("l", "a")
		for range uses {
			b.pass(rules.Resolution + time.Second)
			b.use("a", d, content.Promise)
		}
		b.pass(rules.Grace - time.Millisecond)
		b.sweepBlob(d, "a")
		b.wantFile(layout.LayerKey("a", d), true)
	}
}

// full is an index on a disk that takes no more.
type full struct{ index.Store }

func (full) Lease(context.Context, ...layout.Key) ([]index.Leased, error) { return nil, index.ErrFull }

func (full) LeaseBytes(context.Context, string, digest.Digest, time.Time) ([]index.Leased, error) {
	return nil, index.ErrFull
}

// TestAPromiseThatCannotBeRecordedIsNotMade: bytes that are in hand are served all the same.
func TestAPromiseThatCannotBeRecordedIsNotMade(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	b.pass(2 * rules.Resolution) // the next use has to be written
	b.leases.store = full{b.index}
	b.use("a", d, content.Read)
	if _, err := b.Blob(t.Context(), "a", d, content.Promise); !errors.As(err, new(*content.LeaseError)) {
		t.Errorf("a HEAD was promised what nobody wrote down: %v", err)
	}
	if _, err := b.Mount(t.Context(), "b", "a", d); !errors.As(err, new(*content.LeaseError)) {
		t.Errorf("a mount was promised what nobody wrote down: %v", err)
	}
	if n := b.Leases(); n.Failed < 3 {
		t.Errorf("uses that failed are not counted: %+v", n)
	}
}

func TestReadingForADeleteIsNoUse(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	b.pass(2 * time.Hour)
	b.use("a", d, content.Maintenance)
	b.sweepBlob(d, "a")
	b.wantFile(layout.LayerKey("a", d), false)
}

func TestWhatTheIndexDoesNotKnowIsAdoptedWhenItIsRead(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "b")
	link := b.tree.File(layout.LayerKey("a", d).Path())
	b.write(link, d.String()) // as a stock registry does
	b.use("a", d, content.Read)
	leased, err := b.index.Lease(t.Context(), layout.LayerKey("a", d))
	if err != nil || !leased[0].Found {
		t.Errorf("a link that was read is unknown: %v", err)
	}
}

// counted is an index that counts what is asked of it.
type counted struct {
	index.Store
	calls *int
}

func (c counted) Lease(ctx context.Context, ks ...layout.Key) ([]index.Leased, error) {
	*c.calls++
	return c.Store.Lease(ctx, ks...)
}

func (c counted) LeaseBytes(ctx context.Context, repo string, d digest.Digest,
	after time.Time) ([]index.Leased, error) {
	*c.calls++
	return c.Store.LeaseBytes(ctx, repo, d, after)
}

func (c counted) View(ctx context.Context, read func(index.Reader) error) error {
	*c.calls++
	return c.Store.View(ctx, read)
}

func (c counted) Adopt(ctx context.Context, looks ...index.Look) error {
	*c.calls++
	return c.Store.Adopt(ctx, looks...)
}

// TestTheHotPathAsksTheIndexNothing reads again what was just read, or pushed.
func TestTheHotPathAsksTheIndexNothing(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	m := manifestOver(d)
	if err := b.PutManifest(t.Context(), "a", m, []string{"v1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Mount(t.Context(), "b", "a", d); err != nil {
		t.Fatal(err)
	}
	alias := digest.SHA512.FromString("l")
	b.write(b.tree.File(layout.LayerKey("a", alias).Path()), d.String())
	read := func() {
		t.Helper()
		for _, of := range []layout.Key{layout.LayerKey("a", d), layout.LayerKey("b", d), layout.LayerKey("a", alias)} {
			b.use(of.Repository, of.Digest, content.Promise)
			f, err := b.Open(t.Context(), of.Repository, of.Digest)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close() // was only to be read
		}
		for _, reference := range []string{"v1", m.Digest.String()} {
			if _, err := b.Manifest(t.Context(), "a", reference, content.Promise, content.AnyLength); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.use("a", alias, content.Promise) // which is unknown
	for _, of := range []layout.Key{layout.LayerKey("a", d), layout.LayerKey("b", d), layout.LayerKey("a", alias)} {
		f, err := b.Open(t.Context(), of.Repository, of.Digest) // a push is no read of bytes, which keeps an image
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close() // was only to be read
	}
	for _, later := range []time.Duration{0, 2 * rules.Resolution} {
		if b.pass(later); later > 0 {
			read()
		}
		var calls int
		sound := b.index
		b.index = counted{sound, &calls}
		b.leases.store = b.index
		read()
		b.index, b.leases.store = sound, sound
		if calls > 0 {
			t.Errorf("%s later the index is asked %d times", later, calls)
		}
	}
}

// TestAReaderOfLayersKeepsItsImage: a client that reads a layer piece by piece asks for the manifest once, and a HEAD
// before each read answers for none. Other images over the same base expire, and so does what only a HEAD was sent for.
func TestAReaderOfLayersKeepsItsImage(t *testing.T) {
	b := newBench(t)
	base, other := b.layer("base", "a"), b.layer("other", "a")
	asked := manifestOver(other)
	var images []content.Manifest
	for i := range 50 {
		images = append(images, manifestOver(base, b.layer(fmt.Sprint("own ", i), "a")))
	}
	for i, m := range append(images, asked) {
		if err := b.PutManifest(t.Context(), "a", m, []string{fmt.Sprint("v", i)}); err != nil {
			t.Fatal(err)
		}
	}
	b.pass(2 * rules.Resolution)
	if _, err := b.Manifest(t.Context(), "a", "v7", content.Read, content.AnyLength); err != nil {
		t.Fatal(err)
	}
	for range 3 * rules.TTL / (30 * time.Minute) {
		b.pass(30 * time.Minute)
		b.use("a", other, content.Promise)
		b.use("a", base, content.Promise)
		f, err := b.Open(t.Context(), "a", base)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close() // was only to be read
	}
	for i, m := range append(images, asked) {
		tag, of := layout.TagKey("a", fmt.Sprint("v", i)), layout.ManifestKey("a", m.Digest)
		b.sweep(tag, of)
		b.wantFile(of, i == 7)
		b.wantFile(tag, i == 7)
	}
}

// TestAFirstTouchAsksTheIndexOnce: the lease says what the index knows, so nothing is read after it.
func TestAFirstTouchAsksTheIndexOnce(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	m := manifestOver(d)
	if err := b.PutManifest(t.Context(), "a", m, []string{"v1"}); err != nil {
		t.Fatal(err)
	}
	for name, touch := range map[string]func(){
		"a layer": func() { b.use("a", d, content.Promise) },
		"the bytes of a layer": func() {
			f, err := b.Open(t.Context(), "a", d)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close() // was only to be read
		},
		"a manifest by its tag": func() {
			if _, err := b.Manifest(t.Context(), "a", "v1", content.Promise, content.AnyLength); err != nil {
				t.Fatal(err)
			}
		},
	} {
		b.pass(2 * rules.Resolution)
		var calls int
		sound := b.index
		b.index = counted{sound, &calls}
		b.leases.store = b.index
		touch()
		b.index, b.leases.store = sound, sound
		if calls != 1 {
			t.Errorf("the first touch of %s asks the index %d times, want once", name, calls)
		}
	}
}

// TestTheLayersOfAnImageAreOneUse: they are written down once, together, and for as long as that was written.
func TestTheLayersOfAnImageAreOneUse(t *testing.T) {
	b := newBench(t)
	one, two, alone := b.layer("1", "a"), b.layer("2", "a"), b.layer("3", "a")
	m := manifestOver(one, two)
	if err := b.PutManifest(t.Context(), "a", m, []string{"v1"}); err != nil {
		t.Fatal(err)
	}
	var calls int
	sound := b.index
	read := func(want int, when string, digests ...digest.Digest) {
		t.Helper()
		calls = 0
		b.index = counted{sound, &calls}
		b.leases.store = b.index
		for _, d := range digests {
			f, err := b.Open(t.Context(), "a", d)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close() // was only to be read
		}
		b.index, b.leases.store = sound, sound
		if calls != want {
			t.Errorf("%s: the index was asked %d times, want %d", when, calls, want)
		}
	}
	b.pass(2 * rules.Resolution)
	read(1, "a pull", one, two, two, one)
	read(1, "a layer of no image", alone, alone)
	b.pass(rules.Resolution)
	if _, err := b.Manifest(t.Context(), "a", "v1", content.Read, content.AnyLength); err != nil {
		t.Fatal(err)
	}
	b.pass(rules.Resolution / 2)
	read(1, "after its manifest", one, two)
	b.pass(rules.Resolution/2 - time.Second)
	read(0, "until the use of the manifest has to be written again", one, two)
	b.pass(time.Second)
	read(1, "from then on", two, one)
	calls = 0
	b.leases.store = counted{sound, &calls}
	b.use("a", one, content.Promise)
	if b.leases.store = sound; calls != 1 {
		t.Error("a read of its image answered for a promise of the layer")
	}
}

// TestBeingFoundIsNoUse: what a miss and its end tell the index renews no lease in memory.
func TestBeingFoundIsNoUse(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	b.use("a", d, content.Promise)
	b.pass(rules.Resolution - time.Second)
	file := b.tree.File(layout.BlobKey(d).Path())
	b.remove(file)
	if _, err := b.Blob(t.Context(), "a", d, content.Promise); !errors.Is(err, content.ErrUnknown) {
		t.Errorf("a blob that was removed by hand: %v", err)
	}
	b.write(file, "l")
	b.use("a", d, content.Promise)
	b.pass(2 * time.Second) // the lease in memory is over
	b.use("a", d, content.Promise)
	b.pass(rules.Grace + rules.Resolution - time.Second)
	b.sweepBlob(d, "a")
	b.wantFile(layout.LayerKey("a", d), true)
}

// watched is an index after whose first view a test lets something happen.
type watched struct {
	index.Store
	viewed func()
}

func (w watched) View(ctx context.Context, read func(index.Reader) error) error {
	err := w.Store.View(ctx, read)
	w.viewed()
	return err
}

// TestAMissStaysOneWhenSomebodyBringsItMeanwhile: nobody wrote its lease down.
func TestAMissStaysOneWhenSomebodyBringsItMeanwhile(t *testing.T) {
	b := newBench(t)
	d, sound := b.layer("l", "b"), b.index
	b.leases.store = watched{sound, func() {
		b.leases.store = sound
		b.layer("l", "a")
	}}
	if _, err := b.Blob(t.Context(), "a", d, content.Promise); !errors.Is(err, content.ErrUnknown) {
		t.Errorf("promised without a lease: %v", err)
	}
	b.use("a", d, content.Promise)
}

func TestATagIsListedOnlyWithACurrentLink(t *testing.T) {
	b := newBench(t)
	m := manifestOver(b.layer("l", "a"))
	if err := b.PutManifest(t.Context(), "a", m, []string{"half", "whole"}); err != nil {
		t.Fatal(err)
	}
	b.remove(b.tree.File(layout.TagKey("a", "half").Path()))
	for range 2 { // by the index, and from the disk
		tags, _, err := b.Tags(t.Context(), "a", "", -1)
		if err != nil || len(tags) != 1 || tags[0] != "whole" {
			t.Errorf("listed %v, %v", tags, err)
		}
		if _, err := b.index.CloseGate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReferrersOfAnotherTypeAreNotRead: their rows say what type they are of. Who leaves has no more read for him.
func TestReferrersOfAnotherTypeAreNotRead(t *testing.T) {
	b := newBench(t)
	subject := digest.FromString("subject")
	for i := range 3 * referrersAtOnce / 2 {
		data, err := json.Marshal(map[string]any{"schemaVersion": 2,
			"mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "a/signature",
			"annotations": map[string]string{"number": fmt.Sprint(i)},
			"subject": map[string]any{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject,
				"size": 1}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := manifest.Parse(data)
		if err == nil {
			err = b.PutManifest(t.Context(), "a", content.Manifest{Digest: digest.FromBytes(data), Data: data,
				Manifest: c}, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(ctx context.Context, artifactType string, f func() bool) (files int, err error) {
		b.manifests.Purge()
		_, err = b.Referrers(ctx, "a", subject, "", artifactType, func(int64) error { return nil },
			func(*content.Manifest) bool { return f() })
		return b.manifests.Len(), err
	}
	listed := 0
	all := func() bool { listed++; return true }
	if files, err := read(t.Context(), "a/signature", all); err != nil || listed != 3*referrersAtOnce/2 ||
		files != listed {
		t.Errorf("%d of the type, %d read, %v", listed, files, err)
	}
	if files, err := read(t.Context(), "an/sbom", all); err != nil || files != 0 {
		t.Errorf("%d of another type were read, %v", files, err)
	}
	ctx, leave := context.WithCancel(t.Context())
	if files, err := read(ctx, "", func() bool { leave(); return true }); !errors.Is(err, context.Canceled) ||
		files != 1 {
		t.Errorf("%d were read for a client that left, %v", files, err)
	}
}

// TestALinkOfAStockRegistryToAnotherDigest: it stores what was pushed by sha512 under its sha256.
func TestALinkOfAStockRegistryToAnotherDigest(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	alias := digest.SHA512.FromString("l")
	b.write(b.tree.File(layout.LayerKey("a", alias).Path()), d.String())
	if size, err := b.Blob(t.Context(), "a", alias, content.Promise); err != nil || size != 1 {
		t.Errorf("%d bytes, %v", size, err)
	}
	f, err := b.Open(t.Context(), "a", alias)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var data [2]byte
	if n, err := f.Read(data[:]); err != nil || string(data[:n]) != "l" {
		t.Errorf("%q, %v", data[:n], err)
	}
}

// TestAManifestIsNotReadForWhomItIsTooLong: what it needs is known before any of it is in memory.
func TestAManifestIsNotReadForWhomItIsTooLong(t *testing.T) {
	b := newBench(t)
	data := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"a":%q}}`, strings.Repeat("a", content.MaxCached))
	c, err := manifest.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(data)
	if err := b.PutManifest(t.Context(), "a", content.Manifest{Digest: d, Data: data, Manifest: c}, nil); err != nil {
		t.Fatal(err)
	}
	var large *content.LargeError
	if m, err := b.Manifest(t.Context(), "a", d.String(), content.Read, content.MaxCached); m != nil ||
		!errors.As(err, &large) || large.Size != int64(len(data)) {
		t.Fatalf("%v, %v; want to hear that it has %d bytes", m, err, len(data))
	}
	if m, err := b.Manifest(t.Context(), "a", d.String(), content.Read, large.Size); err != nil ||
		!bytes.Equal(m.Data, data) {
		t.Errorf("with room for it: %v", err)
	}
}
