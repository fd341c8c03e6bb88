package indextest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// all retires keys until it came to each.
func (s *scene) all(remove index.Remove, ks ...layout.Key) (all []index.Retired) {
	s.Helper()
	vs := s.victims(ks...)
	for len(all) < len(vs) {
		some, err := s.RetireAll(s.Context(), vs[len(all):], remove)
		s.must(err)
		s.check(len(some) > 0 && len(some) <= len(vs)-len(all), "came to %d of %d", len(some), len(vs)-len(all))
		all = append(all, some...)
	}
	return all
}

// victims are keys that must have been idle for a minute.
func (s *scene) victims(ks ...layout.Key) (vs []index.Victim) {
	for _, k := range ks {
		vs = append(vs, index.Victim{Key: k, UnusedSince: s.Back(time.Minute)})
	}
	return vs
}

// batches: several things retired in one transaction are retired as one after another.
var batches = []test{
	{"what goes in one transaction goes as by itself", func(s *scene) {
		s.layer("a", "l1")
		s.layer("a", "l2")
		s.image("a", "m", "l2")
		s.later(time.Hour)
		s.lease(man("a", "m"))
		got := s.all(noFile, link("a", "l1"), link("a", "l2"), link("a", "never"), man("a", "m"), blob("l1"))
		for i, want := range []bool{true, false, false, false, true} {
			s.check((got[i].Row != nil) == want && got[i].Err == nil, "key %d went: %v, %v; want %v", i, got[i].Row,
				got[i].Err, want)
		}
		s.gone(link("a", "l1"), blob("l1"))
		s.lives(link("a", "l2"), man("a", "m"))
	}},
	{"what cannot be removed stays, and takes nothing else back", func(s *scene) {
		bad := errors.New("bad file")
		s.layer("a", "l1")
		s.layer("a", "l2")
		s.layer("a", "l3")
		s.later(time.Hour)
		before := s.row(link("a", "l2"))
		got := s.all(func(r index.Row) (index.Removed, error) {
			if r.Key == link("a", "l2") {
				return index.Removed{}, bad
			}
			return index.Removed{File: true, Bytes: 7}, nil
		}, link("a", "l1"), link("a", "l2"), link("a", "l3"))
		s.check(got[0].Err == nil && errors.Is(got[1].Err, bad) && got[1].Row == nil &&
			got[2].Err == nil, "got %+v", got)
		s.check(got[0].Removed == index.Removed{File: true, Bytes: 7}, "removed %+v", got[0].Removed)
		s.gone(link("a", "l1"), link("a", "l3"))
		s.check(s.row(link("a", "l2")) == before, "the row of what stays is %+v, was %+v", s.row(link("a", "l2")),
			before)
	}},
	{"of hundreds each goes by its own condition", func(s *scene) {
		bad := errors.New("bad file")
		var ks []layout.Key
		for i := range 200 {
			ks = append(ks, s.layer("a", fmt.Sprint("l", i)))
		}
		s.image("a", "m", "l4", "l150")
		s.later(time.Hour)
		for i := 0; i < len(ks); i += 7 {
			s.lease(ks[i])
		}
		stays := func(i int) bool { return i%7 == 0 || i%11 == 0 || i == 4 || i == 150 }
		got := s.all(func(r index.Row) (index.Removed, error) {
			if i := slices.Index(ks, r.Key); i%11 == 0 {
				return index.Removed{}, bad
			}
			return index.Removed{File: true}, nil
		}, ks...)
		for i, k := range ks {
			s.check((got[i].Row == nil) == stays(i) && (got[i].Row == nil || got[i].Row.Key == k), "%v: %+v", k, got[i])
			s.check((got[i].Err != nil) == (i%11 == 0 && i%7 != 0), "%v: %v", k, got[i].Err)
			s.check((find(s.T, s, k) != nil) == stays(i), "%v has the row %+v", k, find(s.T, s, k))
		}
	}},
	{"what links that go together refer to takes the latest of their uses", func(s *scene) {
		first, last := s.layer("a", "l"), s.layer("b", "l")
		s.later(time.Hour)
		s.lease(first)
		at := s.row(first).AccessedAt
		s.later(time.Hour)
		for _, r := range s.all(noFile, first, last) {
			s.check(r.Row != nil, "%+v stays", r)
		}
		s.check(s.row(blob("l")).AccessedAt.Equal(at), "used at %v, want %v", s.row(blob("l")).AccessedAt, at)
	}},
	{"what manifests that go together refer to takes the latest of their uses", func(s *scene) {
		s.layer("a", "l")
		s.later(time.Hour)
		first, last := s.image("a", "m1", "l"), s.image("a", "m2", "l")
		s.later(time.Hour)
		s.lease(first)
		at := s.row(first).AccessedAt
		s.later(time.Hour)
		for _, r := range s.all(noFile, first, last) {
			s.check(r.Row != nil, "%+v stays", r)
		}
		l := s.row(link("a", "l"))
		s.check(l.AccessedAt.Equal(at), "used at %v, want %v", l.AccessedAt, at)
		s.check(s.retire(l.Key, cutoffs{content: at.Add(time.Millisecond)}) != nil, "a link that nothing names stays")
	}},
	{"what is skipped stays without an error", func(s *scene) {
		l := s.layer("a", "l")
		s.later(time.Hour)
		got := s.all(skip, l, blob("l"))
		s.check(got[0].Row == nil && got[0].Err == nil, "got %+v", got[0])
		s.row(l)
	}},
	{"while the gate is shut nothing goes in a batch", func(s *scene) {
		l := s.layer("a", "l")
		s.later(time.Hour)
		_, err := s.CloseGate(s.Context())
		s.must(err)
		_, err = s.RetireAll(s.Context(), s.victims(l), noFile)
		s.check(errors.Is(err, index.ErrGateClosed), "%v", err)
		s.row(l)
	}},
	{"a batch goes below no promise", func(s *scene) {
		s.promise(2 * time.Hour)
		l := s.layer("a", "l")
		s.later(time.Hour)
		got := s.all(noFile, l, blob("l"))
		s.check(got[0].Row == nil && got[1].Row == nil, "went: %+v", got)
	}},
	{"a batch ends so that others get their turn", func(s *scene) {
		var ks []layout.Key
		for _, name := range []string{"l1", "l2", "l3", "l4", "l5"} {
			ks = append(ks, s.layer("a", name))
		}
		s.later(time.Hour)
		got, err := s.RetireAll(s.Context(), s.victims(ks...), func(index.Row) (index.Removed, error) {
			time.Sleep(50 * time.Millisecond) // a slow disk
			return index.Removed{}, nil
		})
		s.must(err)
		s.check(len(got) == 1, "one transaction took %d slow steps", len(got))
	}},
}
