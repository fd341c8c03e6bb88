package files

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// TestAnUploadIsWhatWasSent sends bytes in every manner in which a network delivers them.
func TestAnUploadIsWhatWasSent(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 3*piece+piece/3)
	_, _ = random.Read(data) // never fails
	for manner, through := range map[string]func(io.Reader) io.Reader{
		"as it comes":          func(r io.Reader) io.Reader { return r },
		"by halves":            iotest.HalfReader,
		"with its end at once": iotest.DataErrReader,
		"in small pieces":      func(r io.Reader) io.Reader { return &dribble{r, 4093} },
	} {
		for _, announced := range []int64{-1, int64(len(data))} {
			b := newBench(t)
			u, err := b.Begin(t.Context(), "a", "")
			if err != nil {
				t.Fatal(err)
			}
			err = u.Receive(t.Context(), through(bytes.NewReader(data)), announced)
			if err != nil || u.Size() != int64(len(data)) {
				t.Errorf("%s: %d bytes, %v", manner, u.Size(), err)
			}
			d := digest.FromBytes(data)
			if err := u.Finish(t.Context(), d); err != nil {
				t.Errorf("%s: %v", manner, err)
			}
			u.Close()
			if got, err := os.ReadFile(b.tree.File(layout.BlobKey(d).Path())); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d other bytes on disk, %v", manner, len(got), err)
			}
		}
	}
}

// TestAnUploadGoesOnWhereItWas, also in the middle of a piece.
func TestAnUploadGoesOnWhereItWas(t *testing.T) {
	data := make([]byte, syncAhead+2*piece)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data) // never fails
	b := newBench(t)
	u := b.upload("a", "")
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 1+len(rest)/2)
		if err := u.Receive(t.Context(), &dribble{bytes.NewReader(rest[:n]), 5000}, -1); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
		u.Close()
		var err error
		if u, err = b.Resume("a", u.ID()); err != nil || u.Size() != int64(len(data)-len(rest)) {
			t.Fatalf("%+v, %v", u, err)
		}
	}
	d := digest.FromBytes(data)
	if err := u.Finish(t.Context(), d); err != nil {
		t.Error(err)
	}
	u.Close()
	if got, err := os.ReadFile(b.tree.File(layout.BlobKey(d).Path())); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d other bytes on disk, %v", len(got), err)
	}
}

// TestBytesOfASlowClientDoNotWaitForAPiece lets them come one by one.
func TestBytesOfASlowClientDoNotWaitForAPiece(t *testing.T) {
	b := newBench(t)
	u := b.upload("a", "")
	r, w := io.Pipe()
	received := make(chan error)
	go func() { received <- u.Receive(t.Context(), r, -1) }()
	for n := 1; ; n++ {
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if size, err := b.UploadSize("a", u.ID()); err != nil {
			t.Fatal(err)
		} else if size > 0 {
			break
		}
		if n > 1000 {
			t.Fatalf("none of %d bytes is in the file", n)
		}
		time.Sleep(flushAfter / 10)
	}
	w.Close()
	if err := <-received; err != nil {
		t.Error(err)
	}
	u.Close()
}

type dribble struct {
	io.Reader
	most int
}

func (d *dribble) Read(p []byte) (int, error) { return d.Reader.Read(p[:min(len(p), d.most)]) }

// TestWhatCameBeforeAFailureStays holds it for a client that hangs up, whatever it announced.
func TestWhatCameBeforeAFailureStays(t *testing.T) {
	broken := errors.New("the client hung up")
	for _, announced := range []int64{-1, 10} {
		b := newBench(t)
		u, err := b.Begin(t.Context(), "a", "")
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Receive(t.Context(), io.MultiReader(bytes.NewReader([]byte("half")), iotest.ErrReader(broken)),
			announced); !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		u.Close()
		if u, err = b.Resume("a", u.ID()); err != nil || u.Size() != 4 {
			t.Fatalf("%+v, %v", u, err)
		}
		if err := errors.Join(u.Receive(t.Context(), bytes.NewReader([]byte("done")), 4),
			u.Finish(t.Context(), digest.FromString("halfdone"))); err != nil {
			t.Error(err)
		}
		u.Close()
	}
}

// TestAnUploadThatCannotBeWrittenSaysSo, and does not read on.
func TestAnUploadThatCannotBeWrittenSaysSo(t *testing.T) {
	b := newBench(t)
	u, err := b.Begin(t.Context(), "a", "")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_ = u.(*upload).file.Close()
	for _, announced := range []int64{-1, 3} {
		err := u.Receive(t.Context(), bytes.NewReader(make([]byte, 3)), announced)
		if !errors.As(err, new(*content.WriteError)) {
			t.Errorf("%v", err)
		}
	}
	endless := iotest.HalfReader(zeros{})
	if err := u.Receive(t.Context(), endless, -1); !errors.As(err, new(*content.WriteError)) {
		t.Errorf("%v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestAnUploadHasOneWriter: its bytes would mix.
func TestAnUploadHasOneWriter(t *testing.T) {
	b := newBench(t)
	u := b.upload("a", "mine")
	if _, err := b.Resume("a", u.ID()); !errors.Is(err, content.ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}
	u.Close()
	u, err := b.Resume("a", u.ID())
	if err != nil {
		t.Fatal(err)
	}
	u.Cancel()
	u.Close()
	if _, err := b.Resume("a", u.ID()); !errors.Is(err, content.ErrUnknown) {
		t.Errorf("after it was cancelled: %v", err)
	}
}

// refusing is an index that takes no names.
type refusing struct{ index.Store }

func (refusing) Place(context.Context, ...index.Placing) []error { return []error{index.ErrFull} }

// TestAnEndThatFailedHalfWayLeavesNothing: no upload that other bytes could be sent to, no blob, no file that waits.
func TestAnEndThatFailedHalfWayLeavesNothing(t *testing.T) {
	b := newBench(t)
	d := digest.FromString("good")
	u := b.upload("a", "good")
	sound := b.index
	b.index = refusing{sound}
	if err := u.Finish(t.Context(), d); !errors.Is(err, index.ErrFull) {
		t.Errorf("an end that failed: %v", err)
	}
	b.index = sound
	if !u.Over() {
		t.Error("the upload goes on")
	}
	u.Close()
	if _, err := b.Resume("a", u.ID()); !errors.Is(err, content.ErrUnknown) {
		t.Errorf("it goes on: %v", err)
	}
	if _, err := b.Blob(t.Context(), "a", d, content.Promise); !errors.Is(err, content.ErrUnknown) {
		t.Errorf("it is promised: %v", err)
	}
	b.wantFile(layout.BlobKey(d), false)
	b.wantPending()
	if _, err := os.Stat(b.tree.Native(layout.UploadsDir("a"))); !os.IsNotExist(err) {
		t.Errorf("the directory of the upload stays: %v", err)
	}
}

// wantPending wants so many files to wait for their names, and a log that says nothing else.
func (b *bench) wantPending(ids ...string) {
	b.Helper()
	entries, err := os.ReadDir(b.tree.Pending())
	if err != nil {
		b.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		if e.Name() != "log" {
			found = append(found, e.Name())
		}
	}
	slices.Sort(ids)
	if !slices.Equal(found, ids) {
		b.Errorf("%q wait for their names, want %q", found, ids)
	}
	if log, err := os.ReadFile(filepath.Join(b.tree.Pending(), "log")); err != nil ||
		bytes.Count(log, []byte("\n")) < len(ids) || len(ids) == 0 && len(log) > 0 {
		b.Errorf("the log is %q, %v", log, err)
	}
}

// hung is an index that knows nothing, and whose clients hang up while it learns.
type hung struct {
	index.Store
	cancel func()
}

func (hung) Lease(_ context.Context, ks ...layout.Key) ([]index.Leased, error) {
	return make([]index.Leased, len(ks)), nil
}
func (hung) LeaseBytes(context.Context, string, digest.Digest, time.Time) ([]index.Leased, error) {
	return make([]index.Leased, 1), nil
}

func (h hung) Adopt(ctx context.Context, _ ...index.Look) error {
	h.cancel()
	return ctx.Err()
}

func TestAReaderWhoHangsUpLeavesNoFileOpen(t *testing.T) {
	b := newBench(t)
	d := b.layer("l", "a")
	b.leases.forget(layout.LayerKey("a", d))
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before, sound := open(), b.index
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		b.index = hung{sound, cancel}
		b.leases.store = b.index
		if _, err := b.Open(ctx, "a", d); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if after := open(); after > before+10 {
		t.Errorf("%d files are open, %d were", after, before)
	}
}

func TestAStatusThatCannotBeReadIsNoMiss(t *testing.T) {
	b := newBench(t)
	u := b.upload("a", "data")
	u.Close()
	b.remove(b.tree.File(u.(*upload).name.Data()))
	// which leads nowhere, for ever
	if err := os.Symlink(b.tree.File(u.(*upload).name.Data()), b.tree.File(u.(*upload).name.Data())); err != nil {
		t.Fatal(err)
	}
	if _, err := b.UploadSize("a", u.ID()); err == nil || errors.Is(err, content.ErrUnknown) ||
		!b.HasUpload("a", u.ID()) {
		t.Errorf("%v, %v", err, b.HasUpload("a", u.ID()))
	}
}

// TestAnUploadBesideManyOthersIsWhole: it goes through shorter buffers, on from where another request left it.
func TestAnUploadBesideManyOthersIsWhole(t *testing.T) {
	b := newBench(t)
	for range cap(receiving) {
		receiving <- struct{}{}
		defer func() { <-receiving }()
	}
	data := make([]byte, 1<<20+7)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	u, err := b.Begin(t.Context(), "a", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	const first = 70_001
	if err := u.Receive(t.Context(), bytes.NewReader(data[:first]), first); err != nil {
		t.Fatal(err)
	}
	if err := u.Receive(t.Context(), bytes.NewReader(data[first:]), -1); err != nil {
		t.Fatal(err)
	}
	if err := u.Finish(t.Context(), digest.FromBytes(data)); err != nil {
		t.Error(err)
	}
}
