package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/pin"
)

var (
	v1       = layout.TagKey("app", "v1")
	manifest = layout.ManifestKey("app", digest.FromString(image))
)

// pinned adds pins of keys that never end.
func (o Opener) pinned(t *testing.T, ks ...layout.Key) error {
	t.Helper()
	return o.EditPins(t.Context(), func(ps []index.Pin, now time.Time) ([]index.Pin, error) {
		for _, k := range ks {
			ps = append(ps, index.Pin{Key: k, Made: now})
		}
		return ps, nil
	}, ks...)
}

// rows wants an index to have the pins of these keys, and the file too.
func (o Opener) rows(t *testing.T, ix index.Store, ks ...layout.Key) {
	t.Helper()
	var found, written []layout.Key
	must(t, ix.View(t.Context(), func(r index.Reader) error {
		ps, err := r.Pins()
		for _, p := range ps {
			found = append(found, p.Key)
		}
		return err
	}))
	ps, _, err := pin.Read(o.Dir.Pins())
	must(t, err)
	for _, p := range ps {
		written = append(written, p.Key)
	}
	if !slices.Equal(found, ks) || !slices.Equal(written, ks) {
		t.Errorf("rows of %v, in the file %v; want %v", found, written, ks)
	}
}

// serve opens the store for a server whose gate is open as far as the tree goes.
func (o Opener) serve(t *testing.T) *Served {
	t.Helper()
	s, err := o.Serve(t.Context(), promised)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	s.openGate(t)
	return s
}

func (s *Served) openGate(t *testing.T) {
	t.Helper()
	token, err := s.Index.CloseGate(t.Context())
	must(t, err)
	_, err = s.Index.OpenGate(t.Context(), token)
	must(t, err)
}

func (s *Served) isOpen(t *testing.T, want bool) {
	t.Helper()
	if open, err := s.Index.GateOpen(t.Context()); open != want || err != nil {
		t.Errorf("the gate is open: %v, %v; want %v", open, err, want)
	}
}

func TestAPinIsInTheFileAndInTheIndexOfTheServer(t *testing.T) {
	o := opener(t)
	s := o.serve(t)
	must(t, o.pinned(t, v1, manifest))
	o.rows(t, s.Index, manifest, v1)
	s.isOpen(t, true)
	if err := s.Index.DeleteTag(t.Context(), "app", "v1", nil); !errors.As(err, new(*index.PinnedError)) {
		t.Errorf("deleted: %v", err)
	}
	must(t, o.EditPins(t.Context(), func(ps []index.Pin, _ time.Time) ([]index.Pin, error) { return ps[:1], nil }))
	o.rows(t, s.Index, manifest)
}

func TestPinsOutliveTheIndex(t *testing.T) {
	o := opener(t)
	s := o.serve(t)
	must(t, o.pinned(t, v1))
	must(t, os.Remove(o.Dir.Index()))
	if err := o.pinned(t, manifest); !errors.As(err, new(*WrongIndexError)) {
		t.Errorf("while the server uses a lost index: %v", err)
	}
	must(t, s.Reopen(t.Context(), promised))
	o.rows(t, s.Index, v1)
	must(t, s.Close())
	must(t, os.RemoveAll(o.Dir.Index()))
	for _, how := range []string{"Collect", "Rehearse", "Look", "Serve"} {
		var ix index.Store
		switch how {
		case "Collect":
			st, err := o.Collect(t.Context())
			must(t, err)
			defer func() { must(t, st.Close()) }()
			ix = st.Index
		case "Serve":
			ix = o.serve(t).Index
		case "Rehearse":
			ix = open(t, o.Rehearse).Index
		case "Look":
			ix = open(t, o.Look).Index
		}
		o.rows(t, ix, v1)
	}
}

// TestAPinWithoutAnIndex is in the file, and makes no index: who makes one reads the file.
func TestAPinWithoutAnIndex(t *testing.T) {
	o := opener(t)
	must(t, o.pinned(t, v1))
	if _, err := os.Stat(o.Dir.Index()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the index: %v", err)
	}
	o.rows(t, o.serve(t).Index, v1)
}

// TestAKillBetweenFileAndRow leaves a pin that the next start honours.
func TestAKillBetweenFileAndRow(t *testing.T) {
	o := opener(t)
	s := o.serve(t)
	must(t, s.Close())
	must(t, pin.Write(o.Dir.Pins(), []index.Pin{{Key: v1, Made: time.Now()}}))
	s = o.serve(t)
	o.rows(t, s.Index, v1)
	must(t, pin.Write(o.Dir.Pins(), nil))
	must(t, s.KeepPins(t.Context()))
	o.rows(t, s.Index)
}

// TestAFileThatCannotBeReadShutsTheGate for all who retire or delete, until it can be read.
func TestAFileThatCannotBeReadShutsTheGate(t *testing.T) {
	o := opener(t)
	s := o.serve(t)
	must(t, o.pinned(t, v1))
	good, err := os.ReadFile(o.Dir.Pins())
	must(t, err)
	refuses := func(s *Served) {
		t.Helper()
		s.isOpen(t, false)
		for _, tag := range []string{"v1", "other"} {
			if err := s.Index.DeleteTag(t.Context(), "app", tag, nil); !errors.Is(err, index.ErrGateClosed) {
				t.Errorf("deleted: %v", err)
			}
		}
		for _, how := range []func() error{
			func() error { _, err := o.Collect(t.Context()); return err },
			func() error { _, err := o.Rehearse(t.Context()); return err },
			func() error { return o.pinned(t, manifest) },
		} {
			if err := how(); !errors.As(err, new(*pin.FileError)) {
				t.Errorf("got %v", err)
			}
		}
		if err := s.KeepPins(t.Context()); !errors.As(err, new(*pin.FileError)) {
			t.Errorf("the server keeps pins: %v", err)
		}
		s.isOpen(t, false)
	}
	must(t, os.WriteFile(o.Dir.Pins(), good[:len(good)/2], 0o600))
	if err := s.KeepPins(t.Context()); !errors.As(err, new(*pin.FileError)) {
		t.Errorf("the server keeps pins: %v", err)
	}
	refuses(s)
	must(t, s.Close())
	if _, err := o.Collect(t.Context()); !errors.As(err, new(*pin.FileError)) {
		t.Errorf("without a server: %v", err)
	}
	must(t, os.Remove(o.Dir.Index()))
	must(t, os.Remove(o.Dir.Pins()))
	must(t, os.Symlink(o.Dir.Pins(), o.Dir.Pins()))
	s = o.serve(t) // with a new index
	refuses(s)
	must(t, os.Remove(o.Dir.Pins()))
	must(t, os.WriteFile(o.Dir.Pins(), good, 0o600))
	must(t, s.KeepPins(t.Context()))
	s.isOpen(t, true)
	o.rows(t, s.Index, v1)
}

// TestAMissingFileIsWrittenAgain from the index.
func TestAMissingFileIsWrittenAgain(t *testing.T) {
	o := opener(t)
	s := o.serve(t)
	must(t, o.pinned(t, v1))
	must(t, s.KeepPins(t.Context()))
	must(t, os.Remove(o.Dir.Pins()))
	must(t, s.KeepPins(t.Context()))
	o.rows(t, s.Index, v1)
	must(t, os.Remove(o.Dir.Pins()))
	must(t, o.pinned(t, manifest))
	o.rows(t, s.Index, manifest, v1)
	must(t, o.EditPins(t.Context(), func([]index.Pin, time.Time) ([]index.Pin, error) { return nil, nil }))
	o.rows(t, s.Index)
}

// TestWhatIsGoneIsNotPinned: it may have gone just before the row was written.
func TestWhatIsGoneIsNotPinned(t *testing.T) {
	o := opener(t)
	s := o.serve(t)
	must(t, o.pinned(t, v1))
	if err := o.pinned(t, layout.TagKey("app", "v2")); !errors.Is(err, ErrUnpinnable) {
		t.Errorf("got %v", err)
	}
	o.rows(t, s.Index, v1)
}

// TestAnEditThatFailsChangesNothing, also when the file was written before the row failed.
func TestAnEditThatFailsChangesNothing(t *testing.T) {
	o := opener(t)
	s := o.serve(t)
	must(t, o.pinned(t, v1))
	rename := func(from, to string) {
		c, err := sqlite.OpenConn(o.Dir.Index(), sqlite.OpenReadWrite)
		must(t, err)
		must(t, errors.Join(sqlitex.Execute(c, "ALTER TABLE "+from+" RENAME TO "+to, nil), c.Close()))
	}
	for _, edit := range []func([]index.Pin, time.Time) ([]index.Pin, error){
		func(ps []index.Pin, now time.Time) ([]index.Pin, error) {
			rename("pins", "others")
			return append(ps, index.Pin{Key: manifest, Made: now}), nil
		},
		func([]index.Pin, time.Time) ([]index.Pin, error) {
			rename("pins", "others")
			return nil, nil
		},
	} {
		if err := o.EditPins(t.Context(), edit); err == nil {
			t.Error("edited")
		}
		rename("others", "pins")
		o.rows(t, s.Index, v1)
	}
}

// TestAPinThatHasEndedLeavesFileAndIndex, and not while no server watched.
func TestAPinThatHasEndedLeavesFileAndIndex(t *testing.T) {
	o := opener(t)
	now := time.Now()
	o.Now = func() time.Time { return now }
	s := o.serve(t)
	must(t, o.EditPins(t.Context(), func(_ []index.Pin, now time.Time) ([]index.Pin, error) {
		return []index.Pin{{Key: manifest, Made: now}, {Key: v1, Made: now, Until: now.Add(time.Hour)}}, nil
	}))
	must(t, s.KeepPins(t.Context()))
	must(t, s.Close())
	now = now.Add(1000 * time.Hour)
	s = o.serve(t)
	must(t, s.Index.Beat(t.Context()))
	o.rows(t, s.Index, manifest, v1)
	now = now.Add(2 * time.Hour)
	must(t, s.KeepPins(t.Context()))
	o.rows(t, s.Index, manifest)
}

// TestNoEditIsLost of several processes, beside a server that brings the rows in line all the time: each counts as soon
// as it has ended.
func TestNoEditIsLost(t *testing.T) {
	o := opener(t)
	s := o.serve(t)
	var edits, aligning sync.WaitGroup
	done := make(chan struct{})
	aligning.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := s.alignPins(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var want []layout.Key
	for i := range 30 {
		want = append(want, layout.TagKey("app", fmt.Sprintf("t%02d", i)))
	}
	for i := range 3 {
		edits.Go(func() {
			for _, k := range want[10*i : 10*i+10] {
				err := o.EditPins(t.Context(), func(ps []index.Pin, now time.Time) ([]index.Pin, error) {
					return append(ps, index.Pin{Key: k, Made: now}), nil
				})
				if err != nil {
					t.Error(err)
				}
				if err := s.Index.DeleteTag(t.Context(), "app", k.Tag, func() error { return nil }); !errors.As(err, new(*index.PinnedError)) {
					t.Errorf("%s was pinned, and is deleted: %v", k, err)
				}
			}
		})
	}
	edits.Wait()
	close(done)
	aligning.Wait()
	o.rows(t, s.Index, want...)
}
