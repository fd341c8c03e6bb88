package indextest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// pin replaces all pins by pins of these keys, which never end.
func (s *scene) pin(ks ...layout.Key) {
	s.Helper()
	var ps []index.Pin
	for _, k := range ks {
		ps = append(ps, index.Pin{Key: k, Made: s.Now()})
	}
	s.must(s.SetPins(s.Context(), ps...))
}

// pins returns those that the index has.
func (s *scene) pins() (ps []index.Pin) {
	s.Helper()
	s.must(s.View(s.Context(), func(r index.Reader) (err error) {
		ps, err = r.Pins()
		return err
	}))
	return ps
}

// isPinned wants an error that names a pin.
func (s *scene) isPinned(err error, k layout.Key) {
	s.Helper()
	var e *index.PinnedError
	s.check(errors.As(err, &e) && e.Key == k, "%v, want a refusal for the pin of %v", err, k)
}

var pins = []test{
	{"a pinned tag stays with all that it needs, and goes when it is not pinned any more", func(s *scene) {
		l, m := s.layer("a", "l"), s.image("a", "m", "l")
		t := s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.pin(t)
		s.lives(t, m, l, blob("l"))
		s.pin()
		s.dies(t)
		s.dies(m)
	}},
	{"a pinned manifest stays without a tag, and its tags do not", func(s *scene) {
		m := s.image("a", "m")
		t := s.tag("a", "v1", "m")
		s.image("b", "m")
		s.later(time.Hour)
		s.pin(m)
		s.dies(t)
		s.lives(m)
		s.dies(man("b", "m"))
		s.pin()
		s.dies(m)
	}},
	{"a pin of one tag, manifest or repository keeps no other", func(s *scene) {
		s.image("a", "m")
		s.image("b", "m")
		t, u, v := s.tag("a", "v1", "m"), s.tag("a", "v2", "m"), s.tag("b", "v1", "m")
		s.later(time.Hour)
		s.pin(t, tagged("a", "v"), tagged("c", "v2"), man("b", "other"))
		s.dies(u)
		s.dies(v)
		s.lives(t)
	}},
	{"a pinned tag may move, and keeps what it points to then", func(s *scene) {
		old, m := s.image("a", "old"), s.image("a", "m")
		t := s.tag("a", "v1", "old")
		s.pin(t)
		s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.dies(old)
		s.lives(t, m)
	}},
	{"a pin keeps no claim whose file never came", func(s *scene) {
		m := man("a", "m")
		s.must(s.Claim(s.Context(), manClaim("a", "m", content(""))))
		s.pin(m)
		s.later(time.Hour)
		s.dies(m)
	}},
	{"a tag that is about what a pin keeps stays with it", func(s *scene) {
		s.image("a", "child")
		s.image("a", "top", "child")
		s.image("b", "sig")
		s.image("b", "sigsig")
		s.referrer("a", "ref", "top")
		s.image("b", "refsig")
		s.image("a", "other")
		t := s.tag("a", "v1", "top")
		sigs := []layout.Key{s.tag("b", about(dg("child"), ".sig"), "sig"),
			s.tag("b", about(dg("sig"), ".sig"), "sigsig"), s.tag("b", about(dg("ref"), ".sig"), "refsig")}
		free := s.tag("b", about(dg("other"), ".sig"), "sig")
		s.later(time.Hour)
		s.pin(t)
		s.lives(sigs...)
		s.dies(free)
		s.pin(man("a", "top"))
		s.lives(sigs...)
		s.pin(man("a", "other"))
		for _, k := range sigs {
			s.dies(k)
		}
	}},
	{"a pin outlives what it keeps, and its repository", func(s *scene) {
		t := tagged("a", "v1")
		s.pin(t, man("b", "m"))
		s.layer("a", "l")
		s.must(s.DeleteLayer(s.Context(), "a", dg("l"), nothing))
		s.image("c", "m")
		s.tag("c", "v1", "m")
		s.image("a", "m")
		s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.lives(t)
		s.dies(tagged("c", "v1"))
	}},
	{"what is pinned cannot be deleted, nor a manifest with a pinned tag", func(s *scene) {
		m := s.image("a", "m")
		t, u := s.tag("a", "v1", "m"), s.tag("a", "v2", "m")
		s.pin(t)
		s.unchanged(func() {
			s.isPinned(s.DeleteTag(s.Context(), "a", "v1", fails), t)
			s.isPinned(s.DeleteManifest(s.Context(), "a", dg("m"), noTags), t)
		})
		s.must(s.DeleteTag(s.Context(), "a", "v2", nothing))
		s.gone(u)
		s.pin(m)
		s.isPinned(s.DeleteManifest(s.Context(), "a", dg("m"), noTags), m)
		s.must(s.DeleteTag(s.Context(), "a", "v1", nothing))
		s.pin()
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), noTags))
		s.gone(t, m)
	}},
	{"a pin of another process counts at once", func(s *scene) {
		s.image("a", "m")
		t := s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.must(s.second().SetPins(s.Context(), index.Pin{Key: t, Made: s.Now()}))
		s.lives(t)
		s.isPinned(s.DeleteTag(s.Context(), "a", "v1", fails), t)
	}},
	{"a pin ends by itself", func(s *scene) {
		s.image("a", "m")
		t := s.tag("a", "v1", "m")
		s.later(time.Hour)
		until := s.Now().Add(time.Hour)
		s.must(s.SetPins(s.Context(), index.Pin{Key: t, Made: s.Now(), Until: until, Note: "for now"}))
		s.lives(t)
		err := s.DeleteTag(s.Context(), "a", "v1", fails)
		s.isPinned(err, t)
		says := err.Error()
		s.check(strings.Contains(says, until.Format(time.RFC3339)) && strings.Contains(says, "for now"), "%v", err)
		s.later(time.Hour)
		s.must(s.DeleteTag(s.Context(), "a", "v2", nothing))
		s.check(len(s.pins()) == 0, "the index has %v", s.pins())
		s.dies(t)
	}},
	{"time in which nothing watched ends no pin", func(s *scene) {
		s.image("a", "m")
		t := s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.must(s.SetPins(s.Context(), index.Pin{Key: t, Made: s.Now(), Until: s.Now().Add(time.Hour)}))
		s.must(s.Beat(s.Context()))
		s.must(s.Close())
		s.later(1000 * time.Hour)
		s.Store = s.open(Serve, s.wall)
		s.must(s.Beat(s.Context()))
		s.later(time.Minute)
		s.lives(t)
		s.later(time.Hour)
		s.dies(t)
	}},
	{"pins are listed as they were set, and those that are left out are gone", func(s *scene) {
		now := s.Now()
		want := []index.Pin{{Key: man("a", "m"), Made: now}, {Key: tagged("a", "v1"), Made: now, Note: "it's \"x\""},
			{Key: tagged("b/c", "v1"), Made: now, Until: now.Add(time.Hour)}}
		s.must(s.SetPins(s.Context(), want[2], want[0], index.Pin{Key: tagged("z", "z"), Made: now}, want[1]))
		s.must(s.SetPins(s.Context(), want[1], want[2], want[0]))
		s.check(slices.Equal(s.pins(), want), "got %v, want %v", s.pins(), want)
		want[1].Note, want[2].Until = "", time.Time{}
		s.must(s.SetPins(s.Context(), want...))
		s.check(slices.Equal(s.pins(), want), "got %v, want %v", s.pins(), want)
	}},
	{"the gate is shut and no name is deleted while the pins are not known", func(s *scene) {
		fresh := newUnopened(s)
		token, err := fresh.CloseGate(s.Context())
		s.must(err)
		_, err = fresh.OpenGate(s.Context(), token)
		s.must(err)
		lost := func(st index.Store) {
			s.Helper()
			open, err := st.GateOpen(s.Context())
			s.must(err)
			s.check(!open, "the gate is open")
			_, err = st.RetireAll(s.Context(), []index.Victim{{Key: tagged("a", "v1"), UnusedSince: s.Now()}}, nil)
			s.check(errors.Is(err, index.ErrGateClosed), "retired: %v", err)
			for _, err := range []error{st.DeleteTag(s.Context(), "a", "v1", fails),
				st.DeleteManifest(s.Context(), "a", dg("m"), noTags)} {
				s.check(errors.Is(err, index.ErrGateClosed), "deleted: %v", err)
			}
		}
		lost(fresh)
		s.image("a", "m")
		t := s.tag("a", "v1", "m")
		s.pin(t)
		bar := index.Bar{Why: "why", Hint: "hint"}
		s.must(s.second().LosePins(s.Context(), bar))
		lost(s)
		said, err := s.Barred(s.Context())
		s.must(err)
		s.check(said != nil && *said == bar, "barred: %v", said)
		s.check(len(s.pins()) == 1, "the index has %v", s.pins())
		s.pin(t)
		said, err = s.Barred(s.Context())
		s.must(err)
		s.check(said == nil, "barred: %v", said)
		open, err := s.GateOpen(s.Context())
		s.must(err)
		s.check(open, "the gate stays shut")
	}},
}
