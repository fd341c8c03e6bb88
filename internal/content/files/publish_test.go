package files

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// late is for layers that wait until something else publishes them.
const late = time.Hour

func (b *bench) flush() {
	b.Helper()
	if err := b.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// wantLayer wants a layer to be promised, and to have its bytes.
func (b *bench) wantLayer(repo, data string) {
	b.Helper()
	d := digest.FromString(data)
	if size, err := b.Blob(b.Context(), repo, d, content.Promise); err != nil || size != int64(len(data)) {
		b.Errorf("%d bytes of %q in %s, %v", size, data, repo, err)
	}
	f, err := b.Open(b.Context(), repo, d)
	if err != nil {
		b.Error(err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != data || f.Size() != int64(len(data)) {
		b.Errorf("%q in %s is %q of %d bytes, %v", data, repo, got, f.Size(), err)
	}
}

func (b *bench) wantNoLayer(repo, data string) {
	b.Helper()
	_, err := b.Blob(b.Context(), repo, digest.FromString(data), content.Promise)
	if !errors.Is(err, content.ErrUnknown) {
		b.Errorf("%q in %s: %v, want %v", data, repo, err, content.ErrUnknown)
	}
}

// TestALayerThatWaitsForItsNameIsThere for all that clients do with layers, and has it when its manifest is answered.
func TestALayerThatWaitsForItsNameIsThere(t *testing.T) {
	b := newBenchThat(t, late)
	d := b.layer("l", "a")
	if size, err := b.Mount(t.Context(), "b", "a", d); size != 1 || err != nil {
		t.Errorf("mounted %d bytes, %v", size, err)
	}
	if size, err := b.MountFromAny(t.Context(), "c", d); size != 1 || err != nil {
		t.Errorf("mounted %d bytes from any, %v", size, err)
	}
	for _, repo := range []string{"a", "c"} {
		b.wantFile(layout.LayerKey(repo, d), false)
	}
	for _, repo := range []string{"a", "b", "c"} {
		b.wantLayer(repo, "l")
	}
	b.wantNoLayer("d", "l")
	if tags, _, err := b.Tags(t.Context(), "a", "", -1); len(tags) != 0 || err != nil {
		t.Errorf("a repository of a layer alone: %q, %v", tags, err)
	}
	if _, _, err := b.Tags(t.Context(), "d", "", -1); !errors.Is(err, content.ErrUnknown) {
		t.Errorf("a repository of nothing: %v", err)
	}
	m := manifestOver(d, b.layer("l2", "a"))
	if err := b.PutManifest(t.Context(), "a", m, []string{"v1"}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []layout.Key{layout.BlobKey(d), layout.LayerKey("a", d), layout.LayerKey("b", d),
		layout.LayerKey("c", d), layout.ManifestKey("a", m.Digest), layout.TagKey("a", "v1")} {
		b.wantFile(k, true)
	}
	b.wantPending()
	for _, repo := range []string{"a", "b", "c"} {
		b.wantLayer(repo, "l")
	}
}

// TestAMountThatWaitsIsReadAsItsBlob, and leased: the layer that it was made of may go.
func TestAMountThatWaitsIsReadAsItsBlob(t *testing.T) {
	b := newBenchThat(t, late)
	d := b.layer("l", "a")
	b.flush()
	if _, err := b.Mount(t.Context(), "b", "a", d); err != nil {
		t.Fatal(err)
	}
	b.wantFile(layout.LayerKey("b", d), false)
	for range 3 {
		b.pass(50 * time.Minute)
		b.wantLayer("b", "l")
		b.sweepBlob(d, "a")
	}
	b.wantFile(layout.LayerKey("a", d), false)
	b.flush()
	b.wantFile(layout.LayerKey("b", d), true)
	b.wantLayer("b", "l")
}

func TestALayerThatLingersGetsItsNameByItself(t *testing.T) {
	b := newBenchThat(t, time.Millisecond)
	d := b.layer("l", "a")
	for deadline := time.Now().Add(time.Minute); b.pending.layer(layout.LayerKey("a", d)) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("it waits for ever")
		}
		time.Sleep(time.Millisecond)
	}
	b.wantFile(layout.LayerKey("a", d), true)
}

// TestAnUploadKeepsTheRestOfItsPushUntilItsClaim, though it is over for its client.
func TestAnUploadKeepsTheRestOfItsPushUntilItsClaim(t *testing.T) {
	b := newBenchThat(t, late)
	u := b.upload("a", "l")
	if err := u.Finish(t.Context(), digest.FromString("l")); err != nil {
		t.Fatal(err)
	}
	u.Close()
	dir := filepath.Dir(b.tree.File(layout.Upload{Repository: "a", ID: u.ID()}.StartedAt()))
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("nothing keeps it: %v", err)
	}
	if _, err := b.Resume("a", u.ID()); !errors.Is(err, content.ErrUnknown) {
		t.Errorf("it goes on: %v", err)
	}
	if b.HasUpload("a", u.ID()) {
		t.Error("it counts as unfinished")
	}
	b.flush()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("its directory stays: %v", err)
	}
}

// TestWhatWaitedForAKilledServerIsPublished, if its bytes are right, and nothing else is.
func TestWhatWaitedForAKilledServerIsPublished(t *testing.T) {
	b := newBenchThat(t, late)
	upload := func(data string) string {
		u := b.upload("a", data)
		defer u.Close()
		if err := u.Finish(t.Context(), digest.FromString(data)); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(b.tree.Pending(), u.ID())
	}
	upload("whole")
	short, zeros, gone := upload("short"), upload("zeros"), upload("gone")
	b.truncate(short)
	b.write(zeros, strings.Repeat("\x00", len("zeros")))
	b.remove(gone)
	for _, data := range []string{"whole", "short"} {
		if _, err := b.Mount(t.Context(), "b", "a", digest.FromString(data)); err != nil {
			t.Fatal(err)
		}
	}
	b.write(filepath.Join(b.tree.Pending(), "unknown"), "unknown")
	f, err := os.OpenFile(filepath.Join(b.tree.Pending(), "log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("torn\x00"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.wantPending()
	for _, repo := range []string{"a", "b"} {
		b.wantLayer(repo, "whole")
		b.wantFile(layout.LayerKey(repo, digest.FromString("whole")), true)
		for _, lost := range []string{"short", "zeros", "gone"} {
			b.wantNoLayer(repo, lost)
		}
	}
	if _, err := os.Stat(b.tree.Native(layout.UploadsDir("a"))); err == nil {
		if entries, err := os.ReadDir(b.tree.Native(layout.UploadsDir("a"))); err != nil || len(entries) != 3 {
			t.Errorf("uploads that are published leave %v, %v", entries, err) // an expiry removes those of the lost ones
		}
	}
	b.start()
	b.wantLayer("a", "whole")
}

// TestALayerThatWasDeletedComesBackWithNoStart, whatever a power loss leaves of the files that waited.
func TestALayerThatWasDeletedComesBackWithNoStart(t *testing.T) {
	b := newBenchThat(t, late)
	b.layer("stays", "a")
	d := b.layer("l", "a")
	h := b.pending.layer(layout.LayerKey("a", d))
	if err := b.DeleteLayer(t.Context(), "a", d); err != nil {
		t.Fatal(err)
	}
	b.wantNoLayer("a", "l")
	b.write(filepath.Join(b.tree.Pending(), h.ID), "l")
	b.start()
	b.wantNoLayer("a", "l")
	b.wantLayer("a", "stays")
}

// TestASyncThatFailsTakesAllThatItMayHaveCovered: what waits, what waits behind it, and what is being sent. It is not
// tried again, and what comes later is stored.
func TestASyncThatFailsTakesAllThatItMayHaveCovered(t *testing.T) {
	b := newBenchThat(t, late)
	sending := b.upload("a", "half")
	d := b.layer("l", "a")
	h := b.pending.layer(layout.LayerKey("a", d))
	whole := b.layer("whole", "a")
	b.remove(filepath.Join(b.tree.Pending(), h.ID)) // as a disk loses it; its sync fails
	m := manifestOver(whole)
	if err := b.PutManifest(t.Context(), "a", m, []string{"v1"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a manifest whose sync failed: %v", err)
	}
	b.wantPending()
	for _, data := range []string{"l", "whole"} {
		b.wantNoLayer("a", data)
	}
	for _, k := range []layout.Key{layout.ManifestKey("a", m.Digest), layout.TagKey("a", "v1"), layout.BlobKey(whole)} {
		b.wantFile(k, false)
		if k.Kind == layout.Manifest {
			if known, err := b.index.Lease(t.Context(), k); err != nil || known[0].Found {
				t.Errorf("its claim stays: %v", err)
			}
		}
	}
	if b.HasUpload("a", sending.ID()) {
		t.Error("a start would go on with an upload whose first bytes may be lost")
	}
	if err := sending.Finish(t.Context(), digest.FromString("half")); !errors.Is(err, errFault) || !sending.Over() {
		t.Errorf("an upload whose first bytes may be lost: %v, over: %v", err, sending.Over())
	}
	sending.Close()
	m = manifestOver(b.layer("whole", "a"))
	if err := b.PutManifest(t.Context(), "a", m, []string{"v1"}); err != nil {
		t.Errorf("the next push: %v", err)
	}
	b.wantFile(layout.TagKey("a", "v1"), true)
}

// locked is an index that takes no claim.
type locked struct {
	index.Store
	why error
}

func (l locked) Claim(context.Context, ...index.Claim) error { return l.why }

// TestALayerWaitsForAnIndexThatIsBusy, or that has no room or no disk: its bytes are there.
func TestALayerWaitsForAnIndexThatIsBusy(t *testing.T) {
	for _, why := range []error{index.ErrBusy, index.ErrFull, index.ErrDisk} {
		t.Run(why.Error(), func(t *testing.T) { waitForIndex(t, why) })
	}
}

func waitForIndex(t *testing.T, why error) {
	b := newBenchThat(t, late)
	d := b.layer("l", "a")
	sound := b.index
	b.index = locked{sound, why}
	if err := b.PutManifest(t.Context(), "a", manifestOver(d), nil); !errors.Is(err, why) {
		t.Errorf("a manifest: %v", err)
	}
	b.flush()
	b.publisher.runs.Wait() // before the index is another one
	b.index = sound
	b.wantLayer("a", "l")
	b.wantFile(layout.LayerKey("a", d), false)
	if err := b.PutManifest(t.Context(), "a", manifestOver(d), nil); err != nil {
		t.Error(err)
	}
	b.wantFile(layout.LayerKey("a", d), true)
}

// leasedThen is an index after whose leases a test lets something happen.
type leasedThen struct {
	index.Store
	happens func()
}

func (l leasedThen) Lease(ctx context.Context, ks ...layout.Key) ([]index.Leased, error) {
	leased, err := l.Store.Lease(ctx, ks...)
	l.happens()
	return leased, err
}

// TestAMountIsRefusedWhoseBlobAFaultMayHaveTaken after it was promised, and before the mount was recorded.
func TestAMountIsRefusedWhoseBlobAFaultMayHaveTaken(t *testing.T) {
	b := newBenchThat(t, late)
	d := b.layer("l", "a")
	b.flush()
	b.pass(2 * rules.Resolution)
	sound := b.leases.store
	b.leases.store = leasedThen{sound, func() { b.publisher.failed() }}
	_, err := b.Mount(t.Context(), "b", "a", d)
	b.leases.store = sound
	if !errors.Is(err, errFault) {
		t.Errorf("%v, want %v", err, errFault)
	}
	b.wantNoLayer("b", "l")
}

// once is an index that takes one group of claims.
type once struct {
	index.Store
	taken *bool
}

func (o once) Claim(ctx context.Context, cs ...index.Claim) error {
	if *o.taken {
		return index.ErrBusy
	}
	*o.taken = true
	return o.Store.Claim(ctx, cs...)
}

// TestALayerThatWaitedAndWasLostHoldsUpNoDelete: it waits no more.
func TestALayerThatWaitedAndWasLostHoldsUpNoDelete(t *testing.T) {
	b := newBenchThat(t, late)
	for i := range claimsAtOnce + 1 {
		d := b.layer(strings.Repeat("l", i+1), "a")
		if i == 0 { // as a disk loses it; its sync fails
			b.remove(filepath.Join(b.tree.Pending(), b.pending.layer(layout.LayerKey("a", d)).ID))
		}
	}
	sound := b.index
	b.index = once{sound, new(bool)}
	b.flush()
	b.publisher.runs.Wait()
	b.index = sound
	b.wantPending()
	d := b.layer("other", "a")
	if err := b.DeleteLayer(t.Context(), "a", d); err != nil {
		t.Error(err)
	}
}

// unplaced is an index of which no transaction that places ends well. done: it fails after the files were renamed.
type unplaced struct {
	index.Store
	done bool
}

func (u unplaced) Place(ctx context.Context, ps ...index.Placing) []error {
	if u.done {
		u.Store.Place(ctx, ps...)
	}
	return slices.Repeat([]error{index.ErrBusy}, len(ps))
}

// TestALayerWaitsForAnIndexThatPlacesNothing, whether its file was renamed by then or not.
func TestALayerWaitsForAnIndexThatPlacesNothing(t *testing.T) {
	for _, done := range []bool{false, true} {
		b := newBenchThat(t, late)
		d := b.layer("l", "a")
		sound := b.index
		b.index = unplaced{sound, done}
		b.flush()
		b.publisher.runs.Wait()
		b.index = sound
		b.wantLayer("a", "l")
		if err := b.PutManifest(t.Context(), "a", manifestOver(d), []string{"v1"}); err != nil {
			t.Errorf("renamed %v: %v", done, err)
		}
		b.wantFile(layout.LayerKey("a", d), true)
		b.wantFile(layout.BlobKey(d), true)
		b.wantPending()
	}
}

// TestADeleteOfALayerThatHasToWaitIsRefused: it is neither gone, nor comes back after the answer.
func TestADeleteOfALayerThatHasToWaitIsRefused(t *testing.T) {
	for what, not := range map[string]func(index.Store) index.Store{
		"unclaimed":             func(sound index.Store) index.Store { return locked{sound, index.ErrBusy} },
		"unplaced":              func(sound index.Store) index.Store { return unplaced{sound, false} },
		"unplaced, but renamed": func(sound index.Store) index.Store { return unplaced{sound, true} },
	} {
		b := newBenchThat(t, late)
		d := b.layer("l", "a")
		sound := b.index
		b.index = not(sound)
		if err := b.DeleteLayer(t.Context(), "a", d); !errors.Is(err, index.ErrBusy) {
			t.Errorf("%s: %v, want %v", what, err, index.ErrBusy)
		}
		b.publisher.runs.Wait()
		b.index = sound
		b.wantLayer("a", "l")
		if err := b.DeleteLayer(t.Context(), "a", d); err != nil {
			t.Errorf("%s: once more: %v", what, err)
		}
		b.wantNoLayer("a", "l")
		b.wantPending()
	}
}

// TestALayerThatWaitsHoldsUpNoOtherDelete, though the index takes no claim for long.
func TestALayerThatWaitsHoldsUpNoOtherDelete(t *testing.T) {
	b := newBenchThat(t, late)
	m := manifestOver(b.layer("l", "a"))
	if err := b.PutManifest(t.Context(), "a", m, []string{"v1", "v2"}); err != nil {
		t.Fatal(err)
	}
	other := b.layer("other", "a")
	b.flush()
	b.publisher.runs.Wait()
	b.layer("waits", "a")
	sound := b.index
	b.index = locked{sound, index.ErrBusy}
	err := b.DeleteTag(t.Context(), "a", "v1")
	_, err2 := b.DeleteManifest(t.Context(), "a", m.Digest)
	if err := errors.Join(err, err2, b.DeleteLayer(t.Context(), "a", other)); err != nil {
		t.Error(err)
	}
	b.publisher.runs.Wait()
	b.index = sound
	b.wantLayer("a", "waits")
}

// TestALayerOfWhichOnlyTheBlobGotItsNameIsLinked: the server was killed between the two renames.
func TestALayerOfWhichOnlyTheBlobGotItsNameIsLinked(t *testing.T) {
	b := newBenchThat(t, late)
	d := b.layer("l", "a")
	h := b.pending.layer(layout.LayerKey("a", d))
	blob := b.tree.File(layout.BlobKey(d).Path())
	err := errors.Join(os.MkdirAll(filepath.Dir(blob), 0o755), os.Rename(filepath.Join(b.tree.Pending(), h.ID), blob))
	if err != nil {
		t.Fatal(err)
	}
	b.start()
	b.wantLayer("a", "l")
	b.wantFile(layout.LayerKey("a", d), true)
	b.wantPending()
}

// TestALineThatWasCutSpoilsNoOther: the disk was full in the middle of a line.
func TestALineThatWasCutSpoilsNoOther(t *testing.T) {
	b := newBenchThat(t, late)
	b.layer("before", "a")
	f, err := os.OpenFile(filepath.Join(b.tree.Pending(), "log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`{"id":"c0ffee`)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	b.layer("after", "a")
	b.start()
	b.wantLayer("a", "before")
	b.wantLayer("a", "after")
}

// picky is an index that takes all claims but one.
type picky struct {
	index.Store
	bad layout.Key
}

func (p picky) Claim(ctx context.Context, cs ...index.Claim) error {
	for _, c := range cs {
		if c.Key == p.bad {
			return errors.New("a claim that no index takes")
		}
	}
	return p.Store.Claim(ctx, cs...)
}

// TestOneClaimThatIsRefusedHoldsUpNoOther of its group.
func TestOneClaimThatIsRefusedHoldsUpNoOther(t *testing.T) {
	b := newBenchThat(t, late)
	bad := b.layer("bad", "a")
	m := manifestOver(b.layer("good", "a"))
	sound := b.index
	b.index = picky{sound, layout.LayerKey("a", bad)}
	err := b.PutManifest(t.Context(), "a", m, []string{"v1"})
	b.publisher.runs.Wait()
	b.index = sound
	if err != nil {
		t.Error(err)
	}
	b.wantLayer("a", "good")
	b.wantFile(layout.TagKey("a", "v1"), true)
	b.wantNoLayer("a", "bad")
	b.wantPending()
}

// TestAPromiseOfALayerThatWaitsHolds, however long after its claim it gets its name.
func TestAPromiseOfALayerThatWaitsHolds(t *testing.T) {
	b := newBenchThat(t, late)
	d := b.layer("l", "a")
	b.after(func() {
		b.pass(2 * time.Hour)
		b.sweepBlob(d, "a")
		b.wantLayer("a", "l")
	}, b.flush)
	b.publisher.runs.Wait()
	b.pass(rules.Grace - time.Millisecond)
	b.sweepBlob(d, "a")
	b.wantFile(layout.LayerKey("a", d), true)
}

// TestAMountWhoseBlobWentIsNoLayer, neither to be asked for nor to be read, while its link waits for a name.
func TestAMountWhoseBlobWentIsNoLayer(t *testing.T) {
	b := newBenchThat(t, late)
	d := b.layer("l", "a")
	b.flush()
	if _, err := b.Mount(t.Context(), "b", "a", d); err != nil {
		t.Fatal(err)
	}
	b.remove(b.tree.File(layout.BlobKey(d).Path()))
	b.wantNoLayer("b", "l")
	if _, err := b.Open(t.Context(), "b", d); !errors.Is(err, content.ErrUnknown) {
		t.Errorf("opened: %v", err)
	}
	b.flush()
	b.wantFile(layout.LayerKey("b", d), false)
	b.wantPending()
}

// placed is an index after whose placing of a kind a test lets something happen, before anything is answered. It may
// take several transactions for one step of a publisher: by the time that it has for each.
type placed struct {
	index.Store
	kind    layout.Kind
	happens func()
}

func (p placed) Place(ctx context.Context, ps ...index.Placing) []error {
	errs := p.Store.Place(ctx, ps...)
	if ps[0].Key.Kind == p.kind {
		p.happens()
	}
	return errs
}

// TestALayerIsLeasedOnceItHasItsName, long before its group is answered.
func TestALayerIsLeasedOnceItHasItsName(t *testing.T) {
	b := newBenchThat(t, late)
	d := b.layer("l", "a")
	sound := b.index
	b.index = placed{sound, layout.Layer, func() {
		b.index = sound
		b.pass(rules.Grace - time.Minute)
		b.wantLayer("a", "l")
	}}
	b.flush()
	b.publisher.runs.Wait()
	b.pass(rules.Grace - time.Millisecond)
	b.sweepBlob(d, "a")
	b.wantFile(layout.LayerKey("a", d), true)
}

// TestPushesBesideEachOther share groups: each image is whole when it is answered, and read at any time.
func TestPushesBesideEachOther(t *testing.T) {
	b := newBenchThat(t, time.Millisecond)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 10 {
				repo, own := string(rune('a'+i%4)), strings.Repeat("o", 1+i*10+n)
				m := manifestOver(b.layer("base", repo), b.layer(own, repo))
				b.wantLayer(repo, own)
				if err := b.PutManifest(t.Context(), repo, m, []string{"latest"}); err != nil {
					t.Error(err)
				}
				b.wantFile(layout.ManifestKey(repo, m.Digest), true)
				b.wantFile(layout.LayerKey(repo, digest.FromString(own)), true)
				b.wantLayer(repo, "base")
			}
		})
	}
	all.Wait()
	b.flush()
	b.wantPending()
}
