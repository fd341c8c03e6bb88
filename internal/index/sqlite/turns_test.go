package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// waiting is an index with blobs to retire, opened by two processes as far as it can tell.
func waiting(t *testing.T) (s, other *Store, vs []index.Victim) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index.db")
	now := time.Now()
	s = open(t, path, Serve, func() time.Time { return now })
	other = open(t, path, Beside, func() time.Time { return now })
	t.Cleanup(func() {
		if err := errors.Join(other.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := s.SetPins(t.Context()); err != nil {
		t.Fatal(err)
	}
	token, err := s.CloseGate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenGate(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		k := layout.BlobKey(digest.FromString(fmt.Sprint(i)))
		if err := s.Claim(t.Context(), index.Claim{Key: k}); err != nil {
			t.Fatal(err)
		}
		vs = append(vs, index.Victim{Key: k, UnusedSince: now.Add(time.Hour)})
	}
	now = now.Add(2 * time.Hour)
	return s, other, vs
}

// untilTrue fails a test in which something never becomes true.
func untilTrue(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// TestARunEndsItsTransactionWhenAnotherWriterWaits, in its own process or in another one, and goes on while none does.
func TestARunEndsItsTransactionWhenAnotherWriterWaits(t *testing.T) {
	s, other, vs := waiting(t)
	for _, w := range []struct {
		name  string
		store *Store
		waits func() bool
	}{
		{"another process", other, func() bool { others, err := s.turns.others(); return others && err == nil }},
		{"this process", s, func() bool { return s.turns.here.Load() > 0 }},
	} {
		claimed := make(chan error, 1)
		removed := 0
		all, err := s.RetireAll(t.Context(), vs, func(index.Row) (index.Removed, error) {
			if removed++; removed == 1 {
				go func() {
					claimed <- w.store.Claim(t.Context(), index.Claim{Key: layout.BlobKey(digest.FromString(w.name))})
				}()
				untilTrue(t, w.name+" waits, and a run does not know", w.waits)
				time.Sleep(2 * retireTime) // which is when it may end
			}
			return index.Removed{}, nil
		})
		if err != nil || len(all) != 1 || removed != 1 {
			t.Fatalf("%s waits: a run came to %d victims, and removed %d: %v", w.name, len(all), removed, err)
		}
		vs = vs[len(all):]
		if err := <-claimed; err != nil {
			t.Error(err)
		}
		untilTrue(t, w.name+" waits for ever", func() bool { return !s.turns.taken() })
	}
	for came := 1; came == 1; { // on a machine with a moment to spare
		removed := 0
		all, err := s.RetireAll(t.Context(), vs, func(index.Row) (index.Removed, error) {
			if removed++; removed == 1 {
				time.Sleep(2 * retireTime)
			}
			return index.Removed{}, nil
		})
		if err != nil || len(vs) < 2 {
			t.Fatalf("a run ends its transactions though no writer waits: %v", err)
		}
		came, vs = len(all), vs[len(all):]
	}
}

// TestARunLetsOtherProcessesGoFirstThatWait until they have their turn.
func TestARunLetsOtherProcessesGoFirstThatWait(t *testing.T) {
	s, other, vs := waiting(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.turns.giveWay(over); err != nil {
		t.Errorf("a run waits though no writer does: %v", err)
	}
	other.turns.await(true)
	if err := s.turns.giveWay(over); !errors.Is(err, context.Canceled) {
		t.Errorf("a run does not wait for a writer that does: %v", err)
	}
	if err := other.turns.giveWay(over); err != nil {
		t.Errorf("a writer waits for itself: %v", err)
	}
	if all, err := s.RetireAll(t.Context(), vs, func(index.Row) (index.Removed, error) {
		return index.Removed{}, nil
	}); err != nil || len(all) == 0 {
		t.Errorf("a run beside a writer that waits for ever came to %d victims: %v", len(all), err)
	}
	other.turns.await(false)
	if err := s.turns.giveWay(over); err != nil {
		t.Errorf("a run waits for a writer that had its turn: %v", err)
	}
}
