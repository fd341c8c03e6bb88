package registry

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/expiry"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// bench is a driver between whose calls a sweeper may come, at any time that a test chooses.
type bench struct {
	*testing.T
	*driver
	now *time.Time
}

var policy = index.Policy{TTL: 10 * time.Hour, Grace: time.Hour, Resolution: time.Minute}

func newBench(t *testing.T) *bench {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := &bench{T: t, now: &now}
	b.driver = testDriverAt(t, func() time.Time { return *b.now })
	if err := b.index.Promise(t.Context(), policy); err != nil {
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

func (b *bench) pass(d time.Duration) { *b.now = b.now.Add(d) }

// as is the context of a request.
func (b *bench) as(method, kind string) context.Context {
	return context.WithValue(b.Context(), requestKey{}, &request{route: route{kind: kind}, method: method})
}

// sweep takes all that may be taken now, in every order that a sweeper may choose.
func (b *bench) sweep(keys ...index.Key) {
	b.Helper()
	cut := expiry.Cutoffs(policy, b.index.Back)
	for range keys {
		for _, k := range keys {
			_, err := b.index.Retire(b.Context(), k, cut, func(rows []index.Row) error {
				for _, r := range rows {
					if err := os.RemoveAll(b.dir.File(adopt.Path(r.Key))); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func (b *bench) path(k index.Key) string { return adopt.Path(k).String() }

func (b *bench) put(ctx context.Context, k index.Key, content string) {
	b.Helper()
	if err := b.PutContent(ctx, b.path(k), []byte(content)); err != nil {
		b.Fatalf("put %s: %v", k, err)
	}
}

func (b *bench) wantFile(k index.Key, there bool) {
	b.Helper()
	got, err := adopt.Exists(b.dir, adopt.Path(k))
	if err != nil || got != there {
		b.Errorf("%s on disk: %v %v; want %v", k, got, err, there)
	}
}

// layer stores a blob with a link in each repository.
func (b *bench) layer(content string, repos ...string) digest.Digest {
	b.Helper()
	d := digest.FromString(content)
	ctx := b.as(http.MethodPut, routeUpload)
	b.put(ctx, index.BlobKey(d), content)
	for _, r := range repos {
		b.put(ctx, index.LayerKey(r, d), d.String())
	}
	return d
}

// manifest stores the content of a manifest of one layer, which is part of no repository yet.
func (b *bench) manifest(ctx context.Context, layer digest.Digest) (m digest.Digest, body string) {
	b.Helper()
	body = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{"digest":"` + layer.String() + `"}]}`
	m = digest.FromString(body)
	b.put(ctx, index.BlobKey(m), body)
	return m, body
}

func TestAHeadInOneRepositoryPromisesThatLink(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a", "b")
	b.pass(2 * time.Hour)
	head := b.as(http.MethodHead, routeBlob)
	if _, err := b.GetContent(head, b.path(index.LayerKey("a", d))); err != nil {
		t.Fatal(err)
	}
	b.sweep(index.LayerKey("a", d), index.LayerKey("b", d), index.BlobKey(d))
	b.wantFile(index.LayerKey("a", d), true)
	b.wantFile(index.LayerKey("b", d), false)
	b.wantFile(index.BlobKey(d), true)
}

func TestABlobThatAnUploadSawIsThereForItsLink(t *testing.T) {
	b := newBench(t)
	d := b.layer("l")
	b.pass(2 * time.Hour)
	ctx := b.as(http.MethodPut, routeUpload)
	if _, err := b.Stat(ctx, b.path(index.BlobKey(d))); err != nil { // so it will not be moved into place
		t.Fatal(err)
	}
	b.sweep(index.BlobKey(d))
	b.put(ctx, index.LayerKey("a", d), d.String())
	b.wantFile(index.BlobKey(d), true)
}

func TestASweeperBeforeTheLookLeavesNoPromise(t *testing.T) {
	b := newBench(t)
	d := b.layer("l")
	b.pass(2 * time.Hour)
	b.sweep(index.BlobKey(d))
	if _, err := b.Stat(b.as(http.MethodPut, routeUpload), b.path(index.BlobKey(d))); err == nil {
		t.Error("a blob that is gone was promised")
	}
	err := b.index.View(t.Context(), func(r index.Reader) error {
		row, err := r.Row(index.BlobKey(d))
		if row != nil {
			t.Errorf("asking for what is not there left a row: %+v", row)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestALinkToABlobThatWentMeanwhileIsRefused(t *testing.T) {
	b := newBench(t)
	d := digest.FromString("never stored")
	ctx := b.as(http.MethodPut, routeUpload)
	err := b.PutContent(ctx, b.path(index.LayerKey("a", d)), []byte(d))
	var told errcode.Error
	if !errors.As(err, &told) || told.Code != errcode.ErrorCodeBlobUnknown {
		t.Errorf("link to nowhere: %v", err)
	}
	b.wantFile(index.LayerKey("a", d), false)
}

func TestAManifestWhoseLayerWentMeanwhileIsRefusedAndPinsNothing(t *testing.T) {
	b := newBench(t)
	l := b.layer("l", "a")
	ctx := b.as(http.MethodPut, routeManifest)
	m, body := b.manifest(ctx, l)
	b.pass(2 * time.Hour) // validated, and stalled for longer than the grace
	b.sweep(index.LayerKey("a", l), index.BlobKey(l))
	b.put(ctx, index.BlobKey(m), body)
	err := b.PutContent(ctx, b.path(index.ManifestKey("a", m)), []byte(m))
	var told errcode.Error
	if !errors.As(err, &told) || told.Code != errcode.ErrorCodeManifestBlobUnknown {
		t.Errorf("manifest without its layer: %v", err)
	}
	b.wantFile(index.ManifestKey("a", m), false)
	b.pass(2 * time.Hour)
	b.sweep(index.ManifestKey("a", m), index.BlobKey(m))
	b.wantFile(index.BlobKey(m), false)
}

// stalling is an index whose claims are followed by whatever a test wants to happen before the placing.
type stalling struct {
	index.Store
	claimed func()
}

func (s stalling) Claim(ctx context.Context, c index.Claim) error {
	err := s.Store.Claim(ctx, c)
	s.claimed()
	return err
}

// TestAManifestThatStallsBetweenClaimAndPlaceIsLookedAtAgain: its claim ran out, or somebody took a file
// away by hand. The first look was good.
func TestAManifestThatStallsBetweenClaimAndPlaceIsLookedAtAgain(t *testing.T) {
	for what, happens := range map[string]func(b *bench, l, m digest.Digest){
		"for longer than the grace": func(b *bench, l, m digest.Digest) {
			b.pass(2 * time.Hour)
			b.sweep(index.ManifestKey("a", m), index.LayerKey("a", l), index.BlobKey(l))
		},
		"while its layer is removed by hand": func(b *bench, l, _ digest.Digest) {
			if err := os.Remove(b.dir.File(adopt.Path(index.LayerKey("a", l)))); err != nil {
				b.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			l := b.layer("l", "a")
			ctx := b.as(http.MethodPut, routeManifest)
			m, _ := b.manifest(ctx, l)
			sound := b.index
			b.index = stalling{sound, func() { happens(b, l, m) }}
			err := b.PutContent(ctx, b.path(index.ManifestKey("a", m)), []byte(m))
			b.index = sound
			var told errcode.Error
			if !errors.As(err, &told) || told.Code != errcode.ErrorCodeManifestBlobUnknown {
				t.Errorf("manifest without its layer: %v", err)
			}
			b.wantFile(index.ManifestKey("a", m), false)
			if known, err := b.index.Lease(t.Context(), index.ManifestKey("a", m)); known || err != nil {
				t.Errorf("the claim of a refused manifest stays (%v), and holds what it names", err)
			}
		})
	}
}

func TestATagToAManifestThatWentMeanwhileIsRefused(t *testing.T) {
	b := newBench(t)
	m := digest.FromString("never stored")
	err := b.PutContent(b.as(http.MethodPut, routeManifest), b.path(index.TagKey("a", "v1")), []byte(m))
	var told errcode.Error
	if !errors.As(err, &told) || told.Code != errcode.ErrorCodeManifestUnknown {
		t.Errorf("tag to nowhere: %v", err)
	}
	b.wantFile(index.TagKey("a", "v1"), false)
}

func TestAPromiseFromMemoryHoldsForItsWholeGrace(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	head := b.as(http.MethodHead, routeBlob)
	see := func() {
		t.Helper()
		if _, err := b.GetContent(head, b.path(index.LayerKey("a", d))); err != nil {
			t.Fatal(err)
		}
	}
	see()
	b.pass(policy.Resolution - time.Second)
	see() // answered from memory: the row is as old as the first one
	b.pass(policy.Grace - time.Millisecond)
	b.sweep(index.LayerKey("a", d), index.BlobKey(d))
	b.wantFile(index.LayerKey("a", d), true)
	b.pass(policy.Resolution)
	b.sweep(index.LayerKey("a", d), index.BlobKey(d))
	b.wantFile(index.LayerKey("a", d), false)
}

func TestAUseLaterThanTheResolutionIsWritten(t *testing.T) {
	for uses := 1; uses <= 4; uses++ {
		b := newBench(t)
		d := b.layer("l", "a")
		head := b.as(http.MethodHead, routeBlob)
		for range uses {
			b.pass(policy.Resolution + time.Second)
			if _, err := b.GetContent(head, b.path(index.LayerKey("a", d))); err != nil {
				t.Fatal(err)
			}
		}
		b.pass(policy.Grace - time.Millisecond)
		b.sweep(index.LayerKey("a", d), index.BlobKey(d))
		b.wantFile(index.LayerKey("a", d), true)
	}
}

// full is an index on a disk that takes no more.
type full struct{ index.Store }

func (full) Lease(context.Context, index.Key) (bool, error) { return false, index.ErrFull }

// TestAPromiseThatCannotBeRecordedIsNotMade: bytes that are in hand are served all the same.
func TestAPromiseThatCannotBeRecordedIsNotMade(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	b.pass(2 * policy.Resolution) // the next use has to be written
	b.leases.store = full{b.index}
	link := b.path(index.LayerKey("a", d))
	if data, err := b.GetContent(b.as(http.MethodGet, routeBlob), link); err != nil || string(data) != d.String() {
		t.Errorf("a GET got %q, %v", data, err)
	}
	for kind, ctx := range map[string]context.Context{"HEAD": b.as(http.MethodHead, routeBlob), "mount": b.as(http.MethodPost, routeUpload)} {
		if _, err := b.GetContent(ctx, link); err == nil {
			t.Errorf("a %s was promised what nobody wrote down", kind)
		}
	}
	if _, err := b.Stat(b.as(http.MethodPut, routeUpload), b.path(index.BlobKey(d))); err == nil {
		t.Error("an upload was promised what nobody wrote down")
	}
}

func TestReadingForADeleteIsNoUse(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	b.pass(2 * time.Hour)
	if _, err := b.GetContent(b.as(http.MethodDelete, routeBlob), b.path(index.LayerKey("a", d))); err != nil {
		t.Fatal(err)
	}
	b.sweep(index.LayerKey("a", d), index.BlobKey(d))
	b.wantFile(index.LayerKey("a", d), false)
}

func TestWhatTheIndexDoesNotKnowIsAdoptedWhenItIsRead(t *testing.T) {
	b := newBench(t)
	d := b.layer("l")
	link := b.dir.File(adopt.Path(index.LayerKey("a", d)))
	if err := b.tree.MkdirAll(link[:len(link)-len("/link")]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(link, []byte(d), 0o644); err != nil { // a stock registry did
		t.Fatal(err)
	}
	if _, err := b.GetContent(b.as(http.MethodGet, routeBlob), b.path(index.LayerKey("a", d))); err != nil {
		t.Fatal(err)
	}
	found, err := b.index.Lease(t.Context(), index.LayerKey("a", d))
	if !found || err != nil {
		t.Errorf("a link that was read is unknown: %v", err)
	}
}

func TestATagIsListedOnlyWithACurrentLink(t *testing.T) {
	b := newBench(t)
	dir := b.dir.File(layout.Path{Kind: layout.TagDir, Repository: "a", Tag: "half"})
	if err := os.MkdirAll(dir+"/index/sha256", 0o755); err != nil {
		t.Fatal(err)
	}
	var seen []string
	err := b.Walk(t.Context(), layout.Path{Kind: layout.TagsDir, Repository: "a"}.String(), func(fi fileInfo) error {
		seen = append(seen, fi.Path())
		return nil
	})
	if err != nil || len(seen) > 0 {
		t.Errorf("listed %v, %v", seen, err)
	}
}
