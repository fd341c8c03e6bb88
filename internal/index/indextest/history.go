package indextest

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// remembers is a server that keeps history for so long.
func (s *scene) remembers(d time.Duration) {
	s.Helper()
	p := policy(time.Minute)
	p.GoneFor = d
	s.must(s.Promise(s.Context(), p))
}

// removals are the names of what is remembered, newest first, with why each went.
func (s *scene) removals(since time.Time) (names []string) {
	s.Helper()
	s.view(func(r index.Reader) error {
		return r.Removals(since, func(m index.Removal) error {
			names = append(names, fmt.Sprintf("%s:%s %s", m.Repository, m.Tag, m.Reason))
			return nil
		})
	})
	return names
}

func (s *scene) remembered(want ...string) {
	s.Helper()
	got := s.removals(time.Time{})
	s.check(len(got)+len(want) == 0 || reflect.DeepEqual(got, want), "remembered %q, want %q", got, want)
}

// remembering removes a file that there is not, and has the image remembered.
func remembering(row index.Row) (index.Removed, error) {
	return index.Removed{Image: &index.Removal{Repository: row.Key.Repository, Tag: row.Key.Tag, Digest: row.Digest,
		LastAccess: row.AccessedAt, Reason: index.ReasonRule, Rule: 3, RuleName: "3 (a/**)", UniqueBytes: 7,
		PushedBy: "ci"}}, nil
}

func (s *scene) runs(since time.Time) (all []index.Run) {
	s.Helper()
	s.view(func(r index.Reader) error {
		return r.RunHistory(since, func(n index.Run) error {
			all = append(all, n)
			return nil
		})
	})
	return all
}

func (s *scene) pulls(since time.Time) (all []index.Pulls) {
	s.Helper()
	s.view(func(r index.Reader) error {
		return r.PullHistory(since, func(n index.Pulls) error {
			all = append(all, n)
			return nil
		})
	})
	return all
}

var history = []test{
	{"what is retired is remembered as it was told, by every process", func(s *scene) {
		s.image("a", "m")
		used := s.Now()
		k := s.tag("a", "v1", "m")
		s.later(time.Hour)
		_, err := s.tryRetire(s, k, s.idle(time.Minute), remembering)
		s.must(err)
		want := index.Removal{At: s.Now(), Repository: "a", Tag: "v1", Digest: dg("m"), LastAccess: used,
			Reason: index.ReasonRule, Rule: 3, RuleName: "3 (a/**)", UniqueBytes: 7, PushedBy: "ci"}
		for _, st := range []index.Store{s, s.second()} {
			var got []index.Removal
			s.must(st.View(s.Context(), func(r index.Reader) error {
				return r.Removals(time.Time{}, func(m index.Removal) error {
					got = append(got, m)
					return nil
				})
			}))
			s.check(reflect.DeepEqual(got, []index.Removal{want}), "remembered %+v, want %+v", got, want)
		}
		s.check(s.removals(s.Now().Add(time.Millisecond)) == nil, "it is newer than it is")
	}},
	{"what is not retired is not remembered", func(s *scene) {
		s.image("a", "m")
		k := s.tag("a", "v1", "m")
		s.later(time.Hour)
		_, err := s.tryRetire(s, k, s.idle(2*time.Hour), remembering)
		s.must(err)
		for _, failure := range []error{index.ErrSkip, errors.New("no such disk")} {
			_, _ = s.tryRetire(s, k, s.idle(time.Minute), func(row index.Row) (index.Removed, error) {
				r, _ := remembering(row)
				return r, failure
			})
		}
		s.remembered()
	}},
	{"what is retired without a word is not remembered", func(s *scene) {
		s.remembers(time.Hour)
		s.image("a", "m")
		k := s.tag("a", "v1", "m")
		s.later(time.Hour)
		s.beat()
		s.check(s.retire(k, s.idle(time.Minute)) != nil, "it stays")
		s.remembered()
	}},
	{"what a client deletes is remembered: tags, or a manifest that has none", func(s *scene) {
		s.remembers(time.Hour)
		s.image("a", "m")
		s.image("a", "alone")
		s.layer("a", "l")
		for _, tag := range []string{"v1", "v2", "v3"} {
			s.tag("a", tag, "m")
		}
		s.must(s.DeleteTag(s.Context(), "a", "v3", nothing))
		s.later(time.Second)
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), noTags))
		s.must(s.DeleteManifest(s.Context(), "a", dg("alone"), noTags))
		s.must(s.DeleteLayer(s.Context(), "a", dg("l"), nothing))
		s.remembered("a: deleted", "a:v2 deleted", "a:v1 deleted", "a:v3 deleted")
		failure := errors.New("no such disk")
		s.tag("a", "v4", "other")
		s.check(errors.Is(s.DeleteTag(s.Context(), "a", "v4", func() error { return failure }), failure), "deleted")
		s.check(len(s.removals(time.Time{})) == 4, "a failed deletion is remembered")
	}},
	{"a tag whose file is missing is remembered, and a manifest that was an image by itself", func(s *scene) {
		s.remembers(time.Hour)
		for _, m := range []string{"m", "alone", "child", "claim"} {
			if m == "claim" {
				s.must(s.Claim(s.Context(), manClaim("a", m, content(""))))
				continue
			}
			s.image("a", m)
		}
		s.image("a", "top", "child")
		s.tag("a", "v1", "m")
		for _, k := range []layout.Key{man("a", "m"), man("a", "alone"), man("a", "child"), man("a", "claim"),
			tagged("a", "v1"), man("a", "alone"), tagged("a", "v1")} {
			s.missing(k)
		}
		s.remembered("a:v1 missing", "a: missing")
	}},
	{"what is missing is remembered where no server joined: a gc may have been killed", func(s *scene) {
		s.image("a", "m")
		s.tag("a", "v1", "m")
		s.missing(tagged("a", "v1"))
		s.remembered("a:v1 missing")
	}},
	{"where nothing is remembered nothing is written", func(s *scene) {
		s.remembers(0)
		s.image("a", "m")
		s.tag("a", "v1", "m")
		s.tag("a", "v2", "m")
		s.must(s.DeleteTag(s.Context(), "a", "v1", nothing))
		s.missing(tagged("a", "v2"))
		s.must(s.DeleteManifest(s.Context(), "a", dg("m"), noTags))
		s.remembered()
	}},
	{"every process knows how long the server remembers", func(s *scene) {
		for _, d := range []time.Duration{day, 0} {
			s.remembers(d)
			for _, st := range []index.Store{s, s.second()} {
				last, _, _, err := st.Promised(s.Context())
				s.must(err)
				s.check(last.GoneFor == d, "it remembers for %s, want %s", last.GoneFor, d)
			}
		}
	}},
	{"a run is remembered, and what became of it", func(s *scene) {
		first := index.Run{StartedAt: s.Now(), By: index.ByGC}
		s.must(s.NoteRun(s.Context(), &first))
		s.check(first.ID != 0, "it has no number")
		s.later(time.Second)
		second := index.Run{StartedAt: s.Now(), By: index.ByServer, Ended: true, HeldBy: "scan"}
		s.must(s.second().NoteRun(s.Context(), &second))
		first.Ended, first.Took, first.Images, first.Tags, first.Manifests = true, 5*time.Millisecond, 1, 2, 3
		first.Blobs, first.Uploads, first.FreedBytes, first.Error = 4, 5, 6, "the disk is broken"
		s.must(s.NoteRun(s.Context(), &first))
		got := s.runs(time.Time{})
		s.check(reflect.DeepEqual(got, []index.Run{second, first}), "remembered %+v", got)
		s.check(len(s.runs(second.StartedAt)) == 1, "a run before that time")
	}},
	{"pulls add up, by the hour", func(s *scene) {
		s.must(s.NotePulls(s.Context(), index.Pulls{Hits: 1, Misses: 2, Bytes: 3}))
		s.later(59 * time.Minute)
		s.must(s.second().NotePulls(s.Context(), index.Pulls{Hits: 10, Misses: 20, Bytes: 30}))
		hour := s.Now().Truncate(time.Hour)
		s.later(2 * time.Hour)
		s.must(s.NotePulls(s.Context(), index.Pulls{Hits: 1}))
		want := []index.Pulls{{Hour: hour.Add(2 * time.Hour), Hits: 1}, {Hour: hour, Hits: 11, Misses: 22, Bytes: 33}}
		got := s.pulls(time.Time{})
		s.check(reflect.DeepEqual(got, want), "remembered %+v", got)
		s.check(len(s.pulls(hour.Add(90*time.Minute))) == 1, "an hour that had ended before")
	}},
	{"what is older is forgotten, and nothing else", func(s *scene) {
		note := func(tag string) {
			s.image("a", tag)
			k := s.tag("a", tag, tag)
			s.later(time.Hour)
			_, err := s.tryRetire(s, k, s.idle(time.Minute), remembering)
			s.must(err)
			s.must(s.NoteRun(s.Context(), &index.Run{StartedAt: s.Now(), By: index.ByGC}))
			s.must(s.NotePulls(s.Context(), index.Pulls{Hits: 1}))
		}
		s.later(30 * time.Minute)
		for _, tag := range []string{"v1", "v2", "v3"} { // at half past
			note(tag)
		}
		count := func(want int) {
			s.Helper()
			n := []int{len(s.removals(time.Time{})), len(s.runs(time.Time{})), len(s.pulls(time.Time{}))}
			s.check(reflect.DeepEqual(n, []int{want, want, want}), "%d are remembered, want %d of each", n, want)
		}
		s.later(59 * time.Minute)
		s.must(s.Forget(s.Context(), 3*time.Hour))
		count(3)
		s.later(32 * time.Minute) // past the end of the first hour of pulls, too
		s.must(s.second().Forget(s.Context(), 3*time.Hour))
		count(2)
		note("v4")
		s.must(s.Forget(s.Context(), 0))
		s.check(len(s.removals(time.Time{}))+len(s.runs(time.Time{})) == 0, "not all was forgotten")
		note("v5")
		s.remembered("a:v5 rule")
	}},
}
