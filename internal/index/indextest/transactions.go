package indextest

import (
	"context"
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// soon fails a test in which something waits that must not.
const soon = 5 * time.Second

// during checks that f, which runs inside a change by s, sees the index as before, and that a claim by
// another process waits for the end of the change.
func (s *scene) during(k layout.Key, change func(inside func())) {
	s.Helper()
	other := s.second()
	was := find(s.T, other, k)
	claimed := make(chan error, 1)
	ended := false
	change(func() {
		now := find(s.T, other, k)
		if (was == nil) != (now == nil) || was != nil && *was != *now {
			s.Errorf("inside the transaction another process sees %v as %+v, want %+v", k, now, was)
		}
		go func() { claimed <- other.Claim(s.Context(), blobClaim("other")) }()
		select {
		case err := <-claimed:
			s.Errorf("another process wrote inside the transaction: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		ended = true
	})
	s.check(ended, "the change called nothing")
	select {
	case err := <-claimed:
		s.must(err)
	case <-time.After(soon):
		s.Fatal("another process waits after the end of the transaction")
	}
}

var transactions = []test{
	{"files are removed inside the transaction that removes their row", func(s *scene) {
		k := s.layer("a", "l")
		s.later(time.Hour)
		s.during(k, func(inside func()) {
			_, err := s.tryRetire(s, k, s.idle(time.Minute), func(index.Row) (index.Removed,
				error) {
				inside()
				return index.Removed{}, nil
			})
			s.must(err)
		})
		s.gone(k)
	}},
	{"a file is placed inside the transaction that places its row", func(s *scene) {
		s.during(blob("b"), func(inside func()) {
			s.must(Place(s.Context(), s, blobClaim("b"), func() error { inside(); return nil }))
		})
	}},
	{"the link of a tag moves inside the transaction that moves its row", func(s *scene) {
		s.image("a", "m1")
		s.image("a", "m2")
		s.during(s.tag("a", "v1", "m1"), func(inside func()) {
			s.must(MoveTag(s.Context(), s, "a", "v1", dg("m2"), func() error { inside(); return nil }))
		})
	}},
	{"a manifest is deleted with its tags inside one transaction", func(s *scene) {
		s.image("a", "m")
		k := s.tag("a", "v1", "m")
		s.during(k, func(inside func()) {
			s.must(s.DeleteManifest(s.Context(), "a", dg("m"), func([]string) error { inside(); return nil }))
		})
		s.gone(k)
	}},
	{"a tag and a layer are deleted inside a transaction", func(s *scene) {
		s.image("a", "m")
		s.during(s.tag("a", "v1", "m"), func(inside func()) {
			s.must(s.DeleteTag(s.Context(), "a", "v1", func() error { inside(); return nil }))
		})
		s.during(s.layer("a", "l"), func(inside func()) {
			s.must(s.DeleteLayer(s.Context(), "a", dg("l"), func() error { inside(); return nil }))
		})
	}},
	{"what is found is looked at inside the transaction that adopts it", func(s *scene) {
		s.during(blob("b"), func(inside func()) {
			s.must(s.Adopt(s.Context(), func() (index.Adoption, bool, error) {
				inside()
				return found(blobClaim("b")),
					true, nil
			}))
		})
	}},
	{"time is read while the write lock is held", func(s *scene) {
		k := s.put(blobClaim("b"))
		leased := make(chan error, 1)
		s.must(Place(s.Context(), s, blobClaim("slow"), func() error {
			go func() {
				_, err := s.Lease(s.Context(), k)
				leased <- err
			}()
			time.Sleep(20 * time.Millisecond)
			s.later(time.Hour)
			return nil
		}))
		s.must(<-leased)
		s.used(k, s.Now())
	}},
	{"who waits for the writer stops waiting with its context", func(s *scene) {
		s.must(Place(s.Context(), s, blobClaim("slow"), func() error {
			ctx, cancel := context.WithCancel(s.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Claim(ctx, blobClaim("b")) }()
			time.Sleep(10 * time.Millisecond)
			cancel()
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					s.Errorf("claiming: %v, want %v", err, context.Canceled)
				}
			case <-time.After(soon):
				s.Error("the claim waits for the writer after its context was cancelled")
			}
			return nil
		}))
		s.gone(blob("b"))
		s.put(blobClaim("b"))
	}},
	{"a transaction that renamed a file ends well though its request was cancelled", func(s *scene) {
		ctx, cancel := context.WithCancel(s.Context())
		s.must(Place(ctx, s, blobClaim("b"), func() error { cancel(); return nil }))
		s.check(s.row(blob("b")).Placed, "the blob is not placed")
		s.later(time.Hour)
		ctx, cancel = context.WithCancel(s.Context())
		_, err := s.RetireAll(ctx, s.victims(blob("b")), func(index.Row) (index.Removed,
			error) {
			cancel()
			return index.Removed{}, nil
		})
		s.must(err)
		s.gone(blob("b"))
	}},
	{"a panic in a callback changes nothing and holds up nobody", func(s *scene) {
		// net/http recovers the panics of handlers and serves on.
		s.unchanged(func() {
			defer func() { s.check(recover() != nil, "the panic was swallowed") }()
			_ = Place(s.Context(), s, blobClaim("b"), func() error { panic("a bug") })
		})
		s.put(blobClaim("b"))
		s.must(s.second().Claim(s.Context(), blobClaim("c")))
	}},
	{"closing with nothing pending is quick, and what comes later is refused", func(s *scene) {
		ended := make(chan error, 1)
		go func() { ended <- s.Close() }()
		select {
		case err := <-ended:
			s.must(err)
		case <-time.After(soon):
			s.Fatal("Close hangs")
		}
		go func() { ended <- s.Claim(s.Context(), blobClaim("b")) }()
		select {
		case err := <-ended:
			s.check(err != nil, "a closed store took a claim")
		case <-time.After(soon / 5):
			s.Error("a claim to a closed store hangs")
		}
	}},
	{"what was written is there after a restart", func(s *scene) {
		s.every()
		was, totals := dump(s.T, s.Store), s.totals()
		s.reopen(time.Second)
		now := dump(s.T, s.Store)
		for k, r := range was {
			s.check(now[k] == r, "%v is %+v, want %+v", k, now[k], r)
		}
		s.check(s.totals() == totals, "totals %+v, want %+v", s.totals(), totals)
	}},
	{"many writers in two processes count each thing once", func(s *scene) {
		stores := []index.Store{s, s.second()}
		ended := make(chan error)
		for i := range 6 {
			go func() {
				var errs []error
				for _, name := range []string{"x", "y", "z"} {
					st := stores[i%2]
					errs = append(errs, st.Claim(s.Context(), blobClaim(name)),
						Place(s.Context(), st, blobClaim(name), nothing),
						Place(s.Context(), st, manClaim("a", name, content("")), nothing))
				}
				ended <- errors.Join(errs...)
			}()
		}
		for range 6 {
			s.must(<-ended)
		}
		want := index.Totals{Manifests: 3, Blobs: 3, Bytes: 3 * size("x")}
		s.check(s.totals() == want, "totals %+v, want %+v", s.totals(), want)
	}},
}
