package content

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
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
			u, err := b.Begin("a", "")
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Receive(through(bytes.NewReader(data)), announced); err != nil || u.Size != int64(len(data)) {
				t.Errorf("%s: %d bytes, %v", manner, u.Size, err)
			}
			d := digest.FromBytes(data)
			if err := u.Finish(t.Context(), d); err != nil {
				t.Errorf("%s: %v", manner, err)
			}
			u.Close()
			if got, err := os.ReadFile(b.dir.File(adopt.Path(index.BlobKey(d)))); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d other bytes on disk, %v", manner, len(got), err)
			}
		}
	}
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
		u, err := b.Begin("a", "")
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Receive(io.MultiReader(bytes.NewReader([]byte("half")), iotest.ErrReader(broken)), announced); !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		u.Close()
		if u, err = b.Resume("a", u.ID); err != nil || u.Size != 4 {
			t.Fatalf("%+v, %v", u, err)
		}
		if err := errors.Join(u.Receive(bytes.NewReader([]byte("done")), 4), u.Finish(t.Context(), digest.FromString("halfdone"))); err != nil {
			t.Error(err)
		}
		u.Close()
	}
}

// TestAnUploadThatCannotBeWrittenSaysSo, and does not read on.
func TestAnUploadThatCannotBeWrittenSaysSo(t *testing.T) {
	b := newBench(t)
	u, err := b.Begin("a", "")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_ = u.file.Close()
	for _, announced := range []int64{-1, 3} {
		if err := u.Receive(bytes.NewReader(make([]byte, 3)), announced); !errors.As(err, new(*WriteError)) {
			t.Errorf("%v", err)
		}
	}
	endless := iotest.HalfReader(zeros{})
	if err := u.Receive(endless, -1); !errors.As(err, new(*WriteError)) {
		t.Errorf("%v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestAnUploadHasOneWriter: its bytes would mix.
func TestAnUploadHasOneWriter(t *testing.T) {
	b := newBench(t)
	u := b.upload("a", "mine")
	if _, err := b.Resume("a", u.ID); !errors.Is(err, ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}
	u.Close()
	u, err := b.Resume("a", u.ID)
	if err != nil {
		t.Fatal(err)
	}
	u.Cancel()
	u.Close()
	if _, err := b.Resume("a", u.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("after it was cancelled: %v", err)
	}
}
