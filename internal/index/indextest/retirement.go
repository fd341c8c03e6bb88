package indextest

import (
	"errors"
	"fmt"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

var gate = []test{
	{"the gate is closed when the index is created, whoever opens it", func(s *scene) {
		fresh := newUnopened(s)
		for _, token := range []string{"", "x"} {
			ok, err := fresh.OpenGate(s.Context(), token)
			s.must(err)
			s.check(!ok, "a gate that was never closed for a rebuild opened with the token %q", token)
		}
		open, err := fresh.GateOpen(s.Context())
		s.must(err)
		s.check(!open, "the gate of a new index is open")
	}},
	{"behind a closed gate nothing is retired and no content deleted", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m", "l")
		free, idle := s.layer("a", "free"), s.image("a", "idle")
		s.tag("a", "v1", "idle")
		s.later(time.Hour)
		_, err := s.CloseGate(s.Context())
		s.must(err)
		s.unchanged(func() {
			for _, k := range []layout.Key{free, blob("free"), l, m, idle, tagged("a", "v1")} {
				gone, err := s.tryRetire(s, k, s.idle(time.Minute), noFile)
				s.check(errors.Is(err, index.ErrGateClosed) && gone == nil, "retiring %v: %v, %v", k, gone, err)
			}
			err := s.DeleteLayer(s.Context(), "a", dg("free"), nothing)
			s.check(errors.Is(err, index.ErrGateClosed), "deleting a layer: %v", err)
			err = s.DeleteManifest(s.Context(), "a", dg("m"), noTags)
			s.check(errors.Is(err, index.ErrGateClosed), "deleting a manifest: %v", err)
		})
		s.openGate()
		s.dies(free)
	}},
	{"behind a closed gate pushes, pulls and the deletion of tags go on", func(s *scene) {
		_, err := s.CloseGate(s.Context())
		s.must(err)
		s.every()
		s.check(s.lease(man("a", "m")), "the manifest was not found")
		s.must(s.DeleteTag(s.Context(), "a", "v1", nothing))
		s.must(s.Unclaim(s.Context(), blob("l")))
	}},
	{"a gate that is closed again does not open with the earlier token", func(s *scene) {
		first, err := s.CloseGate(s.Context())
		s.must(err)
		other := s.second()
		last, err := other.CloseGate(s.Context())
		s.must(err)
		s.check(first != last, "two rebuilds have one token")
		for _, st := range []index.Store{s, other} {
			ok, err := st.OpenGate(s.Context(), first)
			s.must(err)
			s.check(!ok, "the gate opened with a void token")
		}
		ok, err := s.OpenGate(s.Context(), last)
		s.must(err)
		s.check(ok, "the gate did not open with its last token")
	}},
	{"a gate that is open can be closed by another process", func(s *scene) {
		k := s.layer("a", "l")
		s.later(time.Hour)
		_, err := s.second().CloseGate(s.Context())
		s.must(err)
		open, err := s.GateOpen(s.Context())
		s.must(err)
		s.check(!open, "the gate is open")
		_, err = s.tryRetire(s, k, s.idle(time.Minute), noFile)
		s.check(errors.Is(err, index.ErrGateClosed), "retiring: %v", err)
	}},
	{"of repositories that could not be read nothing goes, nor any blob, and all else does", func(s *scene) {
		for _, repo := range []string{"a", "b/c", "b/cd", "d"} {
			s.layer(repo, "l")
			s.image(repo, "m", "x")
			s.tag(repo, "v1", "m")
			s.layer(repo, "y")
			s.image(repo, "n", "y")
		}
		s.layer("d", "free")
		s.later(time.Hour)
		token, err := s.CloseGate(s.Context())
		s.must(err)
		ok, err := s.OpenGate(s.Context(), token, "a", "b/c/")
		s.must(err)
		open, err := s.GateOpen(s.Context())
		s.must(err)
		s.check(ok && open, "the gate is shut")
		for _, repo := range []string{"a", "b/c"} {
			s.unchanged(func() {
				for _, k := range []layout.Key{tagged(repo, "v1"), link(repo, "l"), man(repo, "m"), man(repo, "n")} {
					s.check(s.retire(k, s.idle(time.Minute)) == nil, "%v went", k)
				}
				err := s.DeleteLayer(s.Context(), repo, dg("l"), nothing)
				s.check(errors.Is(err, index.ErrGateClosed), "deleting a layer of %s: %v", repo, err)
				err = s.DeleteManifest(s.Context(), repo, dg("n"), noTags)
				s.check(errors.Is(err, index.ErrGateClosed), "deleting a manifest of %s: %v", repo, err)
			})
		}
		for _, repo := range []string{"b/cd", "d"} {
			s.must(s.DeleteManifest(s.Context(), repo, dg("n"), noTags))
			s.dies(tagged(repo, "v1"))
			s.dies(man(repo, "m"))
			s.dies(link(repo, "l"))
		}
		s.dies(link("d", "free"))
		s.check(s.retire(blob("free"), s.idle(time.Minute)) == nil, "a blob went that an unknown link may need")
		s.must(s.DeleteTag(s.Context(), "a", "v1", nothing))
		s.openGate()
		s.dies(blob("free"))
		s.dies(link("a", "l"))
	}},
	{"who bars the gate says why until it is closed again", func(s *scene) {
		bar := index.Bar{Why: "a link", Hint: "remove it"}
		barred := func(want *index.Bar) {
			got, err := s.second().Barred(s.Context())
			s.must(err)
			s.check(got == want || got != nil && want != nil && *got == *want, "barred: %v, want %v", got, want)
		}
		s.must(s.BarGate(s.Context(), "open", bar))
		barred(nil)
		void, err := s.CloseGate(s.Context())
		s.must(err)
		token, err := s.CloseGate(s.Context())
		s.must(err)
		s.must(s.BarGate(s.Context(), void, bar))
		barred(nil)
		s.must(s.BarGate(s.Context(), token, bar))
		barred(&bar)
		open, err := s.GateOpen(s.Context())
		s.must(err)
		s.check(!open, "a barred gate is open")
		_, err = s.CloseGate(s.Context())
		s.must(err)
		barred(nil)
	}},
	{"who opened the gate marks the index clean, as long as none closed it since, and all was read", func(s *scene) {
		mark := func(token string, want bool) {
			s.Helper()
			ok, err := s.MarkClean(s.Context(), token, "tree")
			s.must(err)
			s.check(ok == want, "marked: %v, want %v", ok, want)
		}
		clean := func(want string) {
			s.Helper()
			got, err := s.second().Clean(s.Context())
			s.must(err)
			s.check(got == want, "clean: %q, want %q", got, want)
		}
		opened := func(unread ...string) string {
			s.Helper()
			token, err := s.CloseGate(s.Context())
			s.must(err)
			ok, err := s.OpenGate(s.Context(), token, unread...)
			s.must(err)
			s.check(ok, "the gate did not open")
			return token
		}
		clean("")
		mark("", false)
		token := opened()
		mark("another", false)
		clean("")
		mark(token, true)
		clean("tree")
		other, err := s.second().CloseGate(s.Context()) // of who changes the store
		s.must(err)
		clean("")
		mark(token, false)
		ok, err := s.second().OpenGate(s.Context(), other)
		s.must(err)
		s.check(ok, "the gate did not open")
		mark(token, false)
		clean("")
		mark(opened("a"), false)
		token = opened()
		s.must(s.LeaveGate(s.Context()))
		mark(token, false)
		clean("")
	}},
	{"a tag that points to nothing is in no list and expires", func(s *scene) {
		s.image("a", "m")
		s.tag("a", "v1", "m")
		look := func() (index.Adoption, bool, error) {
			return index.Adoption{Claim: index.Claim{Key: tagged("a", "bad")}}, true, nil
		}
		s.must(s.Adopt(s.Context(), look, look))
		s.must(s.View(s.Context(), func(r index.Reader) error {
			names, err := r.Names("a", "", 0)
			s.check(len(names) == 1 && names[0] == "v1", "names: %q", names)
			return err
		}))
		s.later(time.Hour)
		s.dies(tagged("a", "bad"))
	}},
	{"what cannot be looked at stays as it is", func(s *scene) {
		k := s.layer("a", "l")
		s.unchanged(func() {
			s.must(s.Adopt(s.Context(), func() (index.Adoption, bool, error) {
				return index.Adoption{Claim: index.Claim{Key: k}}, false, fmt.Errorf("cannot be read: %w",
					index.ErrSkip)
			}))
		})
	}},
	{"an index is whole but from a closed gate until it opens, and a server that leaves changes nothing about that",
		func(s *scene) {
			whole := func(want bool) {
				s.Helper()
				got, err := s.second().Whole(s.Context())
				s.must(err)
				s.check(got == want, "whole: %v", got)
			}
			whole(true)
			s.must(s.LeaveGate(s.Context()))
			open, err := s.GateOpen(s.Context())
			s.must(err)
			s.check(!open, "the gate is open though nobody watches")
			whole(true)
			s.must(s.LeaveGate(s.Context()))
			whole(true)
			_, err = s.CloseGate(s.Context())
			s.must(err)
			whole(false)
			s.must(s.LeaveGate(s.Context())) // in the middle of a rebuild
			whole(false)
			s.openGate()
			whole(true)
		}},
	{"while everything is held nothing is retired, by nobody and not after a restart, until the time was watched",
		func(s *scene) {
			k := s.layer("a", "l")
			s.later(24 * time.Hour)
			s.beat()
			began := s.Now()
			s.must(s.second().Hold(s.Context(), time.Hour))
			s.must(s.Hold(s.Context(), time.Minute)) // which shortens nothing
			held := func(until time.Duration) {
				s.Helper()
				for _, st := range []index.Store{s, s.second()} {
					got, err := st.Held(s.Context())
					s.must(err)
					s.check(got.Equal(began.Add(until)), "held until %v; want %v", got, began.Add(until))
					gone, err := s.tryRetire(st, k, s.idle(time.Minute), noFile)
					var why *index.HeldError
					s.check(errors.As(err, &why) && why.Until.Equal(got) && gone == nil, "retiring: %v, %v", gone, err)
				}
			}
			held(time.Hour)
			s.must(s.DeleteTag(s.Context(), "a", "v1", nothing)) // names are the clients'
			s.later(59 * time.Minute)
			held(time.Hour)
			s.beat()
			s.reopen(48 * time.Hour)
			s.beat()
			held(time.Hour + 48*time.Hour)
			s.later(2 * time.Minute)
			until, err := s.Held(s.Context())
			s.must(err)
			s.check(until.IsZero(), "held until %v", until)
			s.openGate()
			s.dies(k)
		}},
	{"what is known of runs outlives a restart", func(s *scene) {
		none, err := s.LastRun(s.Context())
		s.must(err)
		unfinished, err := s.UnfinishedRun(s.Context())
		s.must(err)
		s.check(none.IsZero() && unfinished.IsZero(), "a run of a new index: %v, %v", none, unfinished)
		began := s.Now()
		s.must(s.BeginRun(s.Context()))
		s.later(time.Minute)
		s.must(s.second().BeginRun(s.Context())) // the first was killed
		s.must(s.SetLastRun(s.Context()))
		last := s.Now()
		next, err := s.NextRun(s.Context())
		s.must(err)
		s.check(next.IsZero(), "a run of a new index is planned at %v", next)
		planned := last.Add(time.Hour)
		s.must(s.SetNextRun(s.Context(), planned))
		s.must(s.Close())
		s.Store = s.open(Serve, s.wall)
		unfinished, err = s.UnfinishedRun(s.Context())
		s.must(err)
		got, err := s.LastRun(s.Context())
		s.must(err)
		s.check(unfinished.Equal(began) && got.Equal(last), "an unfinished run of %v, the last of %v; want %v and %v",
			unfinished, got, began, last)
		next, err = s.NextRun(s.Context())
		s.must(err)
		s.check(next.Equal(planned), "the next run is planned at %v; want %v", next, planned)
		s.must(s.SetNextRun(s.Context(), time.Time{}))
		next, err = s.NextRun(s.Context())
		s.must(err)
		s.check(next.IsZero(), "a run that is planned no more, at %v", next)
		s.must(s.EndRun(s.Context()))
		unfinished, err = s.UnfinishedRun(s.Context())
		s.must(err)
		s.check(unfinished.IsZero(), "unfinished: %v", unfinished)
	}},
	{"an open gate is open after a restart", func(s *scene) {
		s.must(s.Close())
		s.Store = s.open(Serve, s.wall)
		open, err := s.GateOpen(s.Context())
		s.must(err)
		s.check(open, "the gate is closed")
	}},
	{"the index keeps its identity, and another one has another", func(s *scene) {
		s.check(s.ID() != "" && s.second().ID() == s.ID(), "two stores on one place have the identities %q and %q",
			s.ID(), s.second().ID())
		s.check(newUnopened(s).ID() != s.ID(), "two places have one identity")
	}},
}

var retirement = []test{
	{"what was used before the cutoff goes, and what was used at it stays", func(s *scene) {
		s.layer("a", "l")
		s.image("a", "m")
		s.image("a", "m2")
		s.tag("a", "v1", "m2")
		at := s.Now()
		s.later(time.Hour)
		for _, k := range []layout.Key{link("a", "l"), blob("l"), man("a", "m"), tagged("a", "v1")} {
			s.check(s.retire(k, cutoffs{names: at, content: at}) == nil, "%v went at the cutoff", k)
			cut := at.Add(time.Millisecond)
			s.check(s.retire(k, cutoffs{names: cut, content: cut}) != nil, "%v stayed after the cutoff", k)
		}
	}},
	{"names and content have their own cutoffs", func(s *scene) {
		s.image("a", "m")
		s.tag("a", "v1", "m")
		s.layer("a", "l")
		old := s.idle(0)
		s.later(time.Hour)
		contentOnly := cutoffs{names: old.names, content: s.Back(time.Minute)}
		for _, k := range []layout.Key{tagged("a", "v1"), man("a", "m"), blob("m")} {
			s.check(s.retire(k, contentOnly) == nil, "%v went by the cutoff of content", k)
		}
		namesOnly := cutoffs{names: s.Back(time.Minute), content: old.content}
		for _, k := range []layout.Key{link("a", "l"), blob("l")} {
			s.check(s.retire(k, namesOnly) == nil, "%v went by the cutoff of names", k)
		}
		for _, k := range []layout.Key{tagged("a", "v1"), man("a", "m")} {
			s.check(s.retire(k, namesOnly) != nil, "%v stayed beyond the cutoff of names", k)
		}
		for _, k := range []layout.Key{link("a", "l"), blob("l")} {
			s.check(s.retire(k, contentOnly) != nil, "%v stayed beyond the cutoff of content", k)
		}
	}},
	{"a zero cutoff is never", func(s *scene) {
		for _, k := range s.every() {
			s.later(100 * 365 * 24 * time.Hour)
			s.check(s.retire(k, cutoffs{}) == nil, "%v went", k)
		}
		m := s.image("a", "m2")
		s.later(time.Hour)
		s.check(s.retire(m, cutoffs{content: s.Now()}) == nil, "the manifest went")
	}},
	{"claims whose file never came go by the cutoff of content", func(s *scene) {
		s.layer("a", "l")
		s.must(s.Claim(s.Context(), manClaim("a", "m", content("", "l"))))
		s.must(s.Claim(s.Context(), blobClaim("b")))
		s.must(s.Claim(s.Context(), index.Claim{Key: link("a", "b")}))
		s.later(time.Hour)
		never := cutoffs{content: s.Back(time.Minute)}
		for _, k := range []layout.Key{man("a", "m"), link("a", "b"), blob("b"), link("a", "l")} {
			s.check(s.retire(k, never) != nil, "%v stays", k)
		}
		s.must(s.Claim(s.Context(), manClaim("a", "m", content(""))))
		s.later(time.Hour)
		s.check(s.retire(man("a", "m"), cutoffs{names: s.Now()}) == nil, "a claim went by the cutoff of names")
	}},
	{"a claim whose file came since it was to be retired is not retired as a claim", func(s *scene) {
		c := manClaim("a", "m", content(""))
		s.must(s.Claim(s.Context(), c))
		s.later(time.Hour)
		v := s.idle(time.Minute).victim(s.row(c.Key))
		s.adopt(found(c))
		all, err := s.RetireAll(s.Context(), []index.Victim{v}, noFile)
		s.must(err)
		s.check(all[0].Row == nil, "an image went that was just found: %+v", all[0])
		s.row(c.Key)
	}},
	{"what has no row is not retired, and nothing with it", func(s *scene) {
		s.image("a", "i", "k")
		s.later(time.Hour)
		s.unchanged(func() {
			for _, k := range []layout.Key{blob("k"), link("a", "k"), man("a", "k"), tagged("a", "k"), man("b", "i")} {
				s.check(s.retire(k, s.idle(time.Minute)) == nil, "%v was retired", k)
			}
		})
	}},
	{"a tag goes when neither it nor its manifest was used", func(s *scene) {
		m, k := s.image("a", "m"), s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.lease(m)
		s.lives(k)
		s.later(time.Hour)
		s.lease(k)
		s.lives(k, m)
		s.later(time.Hour)
		s.lives(m) // its tag first
		s.dies(k)
		s.dies(m)
	}},
	{"a tag of nothing goes when it was not used", func(s *scene) {
		k := s.tag("a", "v1", "m")
		s.lives(k)
		s.later(time.Hour)
		s.dies(k)
	}},
	{"a tag is kept by its manifest in its own repository", func(s *scene) {
		s.image("a", "m")
		k, other := s.tag("a", "v1", "m"), s.image("b", "m")
		s.later(time.Hour)
		s.lease(other)
		s.dies(k)
	}},
	{"a chain goes from its beginning, parents first", func(s *scene) {
		leaf, low := s.image("a", "leaf"), s.image("a", "low", "leaf")
		mid, top := s.image("a", "mid", "low"), s.image("a", "top", "mid")
		s.later(time.Hour)
		s.lives(leaf, low, mid)
		s.dies(top)
		s.lives(leaf, low)
		s.dies(mid, low, leaf)
	}},
	{"remove gets the row as it was", func(s *scene) {
		s.layer("a", "l")
		m := s.image("a", "m", "l")
		was := s.row(m)
		s.later(time.Hour)
		var got index.Row
		gone, err := s.tryRetire(s, m, s.idle(time.Minute), func(r index.Row) (index.Removed, error) {
			got = r
			return index.Removed{}, nil
		})
		s.must(err)
		s.check(got == was, "remove got %+v, want %+v", got, was)
		s.check(gone != nil && *gone == was, "RetireAll returned %+v, want %+v", gone, was)
	}},
	{"remove is not called for what is wanted", func(s *scene) {
		k := s.layer("a", "l")
		_, err := s.tryRetire(s, k, s.idle(time.Minute), func(index.Row) (index.Removed,
			error) {
			return index.Removed{}, errFailed
		})
		s.must(err)
	}},
	{"a removal that is skipped leaves everything", func(s *scene) {
		s.image("a", "m", "l")
		free := s.layer("a", "free")
		s.later(time.Hour)
		s.unchanged(func() {
			for _, k := range []layout.Key{man("a", "m"), free} {
				gone, err := s.tryRetire(s, k, s.idle(time.Minute), func(index.Row) (index.Removed, error) {
					return index.Removed{}, fmt.Errorf("in use: %w", index.ErrSkip)
				})
				s.check(gone == nil && err == nil, "retiring %v: %v, %v", k, gone, err)
			}
		})
	}},
	{"a removal that fails leaves the index unchanged", func(s *scene) {
		s.layer("a", "l")
		m := s.image("a", "m", "l")
		s.later(time.Hour)
		s.unchanged(func() {
			gone, err := s.tryRetire(s, m, s.idle(time.Minute), func(index.Row) (index.Removed,
				error) {
				return index.Removed{}, errFailed
			})
			s.check(gone == nil && errors.Is(err, errFailed), "retiring: %v, %v", gone, err)
		})
		s.lives(link("a", "l"))
		s.dies(m)
		s.dies(link("a", "l"))
	}},
	{"what is retired leaves the totals", func(s *scene) {
		for _, k := range []layout.Key{s.layer("a", "l"), blob("l"), s.image("a", "m"), blob("m")} {
			s.later(time.Hour)
			s.dies(k)
		}
		s.check(s.totals() == index.Totals{}, "totals %+v, want none", s.totals())
	}},
}

// newUnopened is a store on a new place, as it is created.
func newUnopened(s *scene) index.Store {
	s.Helper()
	st := s.engine(s.T, s.TempDir(), Serve, s.wall.now)
	s.Cleanup(func() { _ = st.Close() })
	return st
}
