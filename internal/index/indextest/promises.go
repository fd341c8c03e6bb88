package indextest

import (
	"fmt"
	"reflect"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

const day = 24 * time.Hour

func policy(grace time.Duration) index.Policy {
	return index.Policy{TTL: 30 * day, Grace: grace, Resolution: time.Minute}
}

func (s *scene) promise(grace time.Duration) {
	s.Helper()
	s.must(s.Promise(s.Context(), policy(grace)))
}

func (s *scene) beat() {
	s.Helper()
	s.must(s.Beat(s.Context()))
}

func (s *scene) owes(grace time.Duration) {
	s.Helper()
	_, owed, _, err := s.Promised(s.Context())
	s.must(err)
	s.check(owed.Grace == grace, "a grace of %v is owed, want %v", owed.Grace, grace)
}

// reopen ends the server and starts another one after downtime by the wall clock.
func (s *scene) reopen(downtime time.Duration) {
	s.Helper()
	s.must(s.Close())
	s.later(downtime)
	s.Store = s.open(Serve, s.wall)
}

var promises = []test{
	{"without a server nothing is promised", func(s *scene) {
		last, owed, ok, err := s.Promised(s.Context())
		s.must(err)
		none := index.Policy{}
		s.check(!ok && reflect.DeepEqual(last, none) && reflect.DeepEqual(owed, none), "promised %v, owed %v, %v", last,
			owed, ok)
	}},
	{"every process knows what was promised last, and what is owed", func(s *scene) {
		s.promise(time.Hour)
		for _, st := range []index.Store{s, s.second()} {
			last, owed, ok, err := st.Promised(s.Context())
			s.must(err)
			s.check(ok && reflect.DeepEqual(last, policy(time.Hour)), "promised %v, %v", last, ok)
			s.check(owed.Grace == time.Hour && owed.Resolution == time.Minute, "owed %v", owed)
		}
	}},
	{"every process knows the rules and the budget of the server that joined last", func(s *scene) {
		keep, week := true, 7*day
		p := policy(time.Hour)
		p.Rules = rule.Rules{{Repository: "base/**", Tag: "v*", Keep: &keep}, {TTL: &week}}
		budget := policy(time.Hour)
		budget.Budget = rule.Budget{MaxSize: rule.Size{Bytes: 1 << 40}, MinFree: rule.Size{Percent: 2.5}}
		for _, p := range []index.Policy{p, budget} {
			s.must(s.Promise(s.Context(), p))
			s.beat()
			for _, st := range []index.Store{s, s.second()} {
				last, _, _, err := st.Promised(s.Context())
				s.must(err)
				s.check(reflect.DeepEqual(last, p), "promised %+v, want %+v", last, p)
			}
		}
		s.must(s.Promise(s.Context(), policy(time.Hour)))
		last, _, _, err := s.Promised(s.Context())
		s.must(err)
		s.check(reflect.DeepEqual(last, policy(time.Hour)), "a server without rules promised %+v", last)
	}},
	{"cutoffs younger than what is owed are lowered", func(s *scene) {
		s.promise(time.Hour)
		s.layer("a", "l")
		s.image("a", "m")
		s.image("a", "m2")
		s.tag("a", "v1", "m2")
		all := []layout.Key{link("a", "l"), blob("l"), man("a", "m"), tagged("a", "v1")}
		s.later(time.Hour + time.Minute)
		s.beat()
		now := cutoffs{names: s.Now(), content: s.Now()}
		future := cutoffs{names: s.Now().Add(time.Hour), content: s.Now().Add(time.Hour)}
		for _, st := range []index.Store{s, s.second()} {
			for _, k := range all {
				for _, cut := range []cutoffs{now, future} {
					gone, err := s.tryRetire(st, k, cut, noFile)
					s.must(err)
					s.check(gone == nil, "%v went within grace and resolution", k)
				}
			}
		}
		s.later(time.Millisecond)
		for _, k := range all {
			s.check(s.retire(k, cutoffs{names: s.Now(), content: s.Now()}) != nil, "%v stayed longer than owed", k)
		}
	}},
	{"older cutoffs are not raised to what is owed", func(s *scene) {
		s.promise(time.Hour)
		s.layer("a", "l")
		m := s.image("a", "m")
		s.later(10 * time.Hour)
		s.beat()
		for _, cut := range []cutoffs{{}, s.idle(20 * time.Hour)} {
			s.check(s.retire(m, cut) == nil, "the manifest went")
			s.check(s.retire(link("a", "l"), cut) == nil, "the layer went")
		}
	}},
	{"a promise holds while its server lives", func(s *scene) {
		s.promise(day)
		for range 30 {
			s.later(6 * time.Hour)
			s.beat()
			s.owes(day)
		}
	}},
	{"a promise outlives its server for its grace, and ends then", func(s *scene) {
		s.promise(day)
		s.later(10 * time.Hour)
		s.beat()
		l := s.layer("a", "l")
		s.later(day)
		s.owes(day)
		s.check(s.retire(l, s.idle(time.Hour)) == nil, "the layer went, which was promised for a day")
		s.later(time.Minute + index.BeatInterval)
		s.owes(0)
		s.check(s.retire(l, s.idle(time.Hour)) != nil, "the layer stays, which nobody owes any more")
	}},
	{"what an earlier server promised for longer is owed beside the promise of a later one", func(s *scene) {
		s.promise(day)
		l := s.layer("a", "l")
		s.later(time.Hour)
		s.beat()
		s.promise(time.Hour)
		for range 23 {
			s.later(time.Hour)
			s.beat()
			s.owes(day)
			s.check(s.retire(l, s.idle(2*time.Hour)) == nil, "the layer went, which was promised for a day")
		}
		s.later(time.Hour)
		s.layer("a", "young")
		s.later(time.Hour)
		s.beat()
		s.owes(time.Hour)
		s.check(s.retire(l, s.idle(2*time.Hour)) != nil, "the layer stays after the day is over")
		s.check(s.retire(link("a", "young"), s.idle(0)) == nil, "the layer of the last hour went")
	}},
	{"a debt outlives several servers and a restart", func(s *scene) {
		s.promise(day)
		s.layer("a", "l")
		for _, grace := range []time.Duration{time.Hour, 2 * time.Hour, time.Minute} {
			s.reopen(30 * time.Minute)
			s.promise(grace)
			s.owes(day)
		}
	}},
	{"servers that are killed and started again owe no more than the last of them, and what is larger", func(s *scene) {
		for range 3 {
			for _, grace := range []time.Duration{day, time.Hour} {
				s.reopen(time.Second)
				s.promise(grace)
			}
		}
		s.owes(day)
		s.later(day + time.Minute + index.BeatInterval)
		s.beat()
		s.owes(time.Hour)
	}},
	{"a larger promise replaces a smaller one", func(s *scene) {
		s.promise(time.Hour)
		s.promise(day)
		s.owes(day)
	}},
	{"a larger grace is owed though the later server has a larger resolution", func(s *scene) {
		s.must(s.Promise(s.Context(), index.Policy{Grace: time.Hour, Resolution: time.Second}))
		s.must(s.Promise(s.Context(), index.Policy{Grace: 59 * time.Minute, Resolution: 2 * time.Minute}))
		s.owes(time.Hour)
	}},
	{"time that nobody watched pays no debt", func(s *scene) {
		s.promise(day)
		s.promise(time.Hour)
		l := s.layer("a", "l")
		s.later(2 * time.Hour)
		s.beat()
		s.reopen(30 * day) // or a clock that was wrong for a moment
		s.promise(time.Hour)
		s.check(s.retire(l, s.idle(2*time.Hour-time.Millisecond)) == nil,
			"the layer went two hours after it was promised for a day")
	}},
	{"an upload renews the links of its push", func(s *scene) {
		s.promise(time.Hour)
		first := s.layer("a", "first")
		s.later(30 * time.Minute)
		started := s.Now()
		s.later(5 * time.Hour) // a slow upload
		s.beat()
		s.upload("second", started)
		s.used(first, s.Now())
		s.lives(first)
	}},
	{"an upload renews what was in lease when it began, and no older garbage", func(s *scene) {
		s.promise(time.Hour)
		old := s.layer("a", "old")
		wasUsed := s.Now()
		s.later(time.Millisecond)
		edge := s.layer("a", "edge")
		s.later(time.Hour + time.Minute) // grace and resolution
		started := s.Now()
		s.later(time.Hour)
		s.beat()
		s.upload("new", started)
		s.used(edge, s.Now())
		s.used(old, wasUsed)
	}},
	{"an upload renews a link that a manifest holds and may lose before the push is done", func(s *scene) {
		s.promise(time.Hour)
		s.layer("b", "l")
		s.layer("a", "held")
		s.image("a", "m", "held")
		at := s.Now()
		s.later(time.Hour)
		s.upload("new", at)
		s.used(link("b", "l"), at)
		s.used(link("a", "held"), s.Now())
	}},
	{"the uploads of a busy repository renew what a manifest holds once for each use", func(s *scene) {
		s.promise(time.Hour)
		s.layer("a", "held")
		s.image("a", "m", "held")
		busy := func() (first time.Time) {
			for i := range 10 {
				s.later(30 * time.Minute)
				s.beat()
				s.upload(fmt.Sprint("new", i), s.Now())
				if i == 0 {
					first = s.Now()
				}
			}
			return first
		}
		s.used(link("a", "held"), busy())
		s.lease(link("a", "held"))
		s.used(link("a", "held"), busy())
	}},
	{"a push of many uploads keeps its links to the end, unless it has none", func(s *scene) {
		s.promise(time.Hour)
		first, used := s.layer("a", "first"), s.Now()
		for i := range 30 {
			started := s.Now()
			s.later(55 * time.Minute)
			s.beat()
			s.upload(fmt.Sprint("next", i), started)
			if s.Now().Before(used.Add(12 * time.Hour)) {
				s.used(first, s.Now())
			}
		}
		s.check(s.row(first).AccessedAt.Before(used.Add(14*time.Hour)),
			"a layer that no manifest named was kept until %v, from %v on", s.row(first).AccessedAt, used)
	}},
	{"uploads that end within a resolution leave each link of their push its grace", func(s *scene) {
		s.promise(time.Hour)
		var links []layout.Key
		began := s.Now()
		for i := range 200 {
			s.later(2 * time.Second)
			l := link("a", fmt.Sprint("l", i))
			s.must(s.Claim(s.Context(), index.Claim{Key: l,
				UploadStarted: s.Now().Add(-time.Duration(i%7) * 30 * time.Second)}))
			links = append(links, l)
			for _, l := range links {
				s.check(s.row(l).AccessedAt.After(s.Now().Add(-time.Minute)), "%s is of %v, at %v", l,
					s.row(l).AccessedAt, s.Now())
			}
		}
		s.check(s.Now().After(began.Add(6*time.Minute)), "it took a moment")
	}},
	{"an upload that began before the others of its resolution renews what they did not", func(s *scene) {
		s.promise(time.Hour)
		first := s.layer("a", "first")
		s.later(30 * time.Minute)
		started := s.Now()
		s.later(2 * time.Hour)
		s.beat()
		late := s.Now()
		s.upload("short", late)
		s.check(s.row(first).AccessedAt.Before(started), "what was out of lease was renewed")
		s.later(time.Second)
		s.upload("long", started)
		s.used(first, s.Now())
	}},
	{"a link that loses its manifest is renewed by the next upload", func(s *scene) {
		s.promise(time.Hour)
		l := s.layer("a", "held")
		m := s.image("a", "m", "held")
		s.later(30 * time.Minute)
		s.upload("new", s.Now()) // renews it, once
		s.later(30 * time.Minute)
		s.upload("newer", s.Now())
		s.later(time.Second)
		s.must(s.DeleteManifest(s.Context(), "a", m.Digest, func([]string) error { return nil }))
		s.upload("newest", s.Now())
		s.used(l, s.Now())
	}},
	{"a link that was renewed and then read with its image is renewed when it loses that", func(s *scene) {
		s.promise(time.Hour)
		l := s.layer("a", "held")
		m := s.image("a", "m", "held")
		s.later(30 * time.Minute)
		s.upload("new", s.Now()) // renews it, once
		s.readEveryHour("held", 30)
		s.must(s.DeleteManifest(s.Context(), "a", m.Digest, noTags))
		s.later(30 * time.Minute)
		s.upload("newer", s.Now())
		s.used(l, s.Now())
	}},
	{"so is one that was read before an upload renewed it", func(s *scene) {
		s.promise(time.Hour)
		l := s.layer("a", "held")
		m := s.image("a", "m", "held")
		slow := s.Now()
		s.readEveryHour("held", 30)
		s.later(time.Minute)
		s.upload("new", slow)
		s.must(s.DeleteManifest(s.Context(), "a", m.Digest, noTags))
		s.later(30 * time.Minute)
		s.upload("newer", s.Now())
		s.used(l, s.Now())
	}},
	{"a claim without an upload renews nothing else", func(s *scene) {
		s.promise(time.Hour)
		l := s.layer("a", "l")
		at := s.Now()
		s.later(time.Minute)
		s.must(s.Claim(s.Context(), index.Claim{Key: link("a", "new")}))
		s.must(s.Claim(s.Context(), blobClaim("new")))
		s.used(l, at)
	}},
	{"an upload in a process whose clock is behind takes no use back", func(s *scene) {
		s.promise(time.Hour)
		l := s.layer("a", "l")
		at := s.Now()
		slow := newWall()
		slow.move(-time.Minute)
		other := s.open(Serve, slow)
		s.must(s.Claim(s.Context(), index.Claim{Key: l}))
		s.later(10 * time.Minute)
		s.lease(l)
		s.must(other.Claim(s.Context(), index.Claim{Key: link("a", "new"), UploadStarted: at}))
		s.used(l, s.Now())
	}},
	{"now is never behind the last heartbeat, in any process", func(s *scene) {
		s.beat()
		last := s.Now()
		slow := newWall()
		slow.move(-time.Hour)
		for _, mode := range []Mode{Beside, Serve} {
			now := s.open(mode, slow).Now()
			s.check(!now.Before(last), "now is %v, behind the heartbeat at %v", now, last)
		}
	}},
	{"now is in whole milliseconds", func(s *scene) {
		s.later(1234567 * time.Nanosecond)
		s.check(s.Now().Equal(s.Now().Truncate(time.Millisecond)), "now is %v", s.Now())
	}},
	{"a store that nobody watched for a year expires nothing at once", func(s *scene) {
		m := s.image("a", "m")
		s.later(time.Hour)
		s.beat()
		s.reopen(365 * day)
		s.check(s.retire(m, s.idle(30*day)) == nil, "the manifest went")
		s.check(s.Back(2*time.Hour).Before(s.row(m).AccessedAt),
			"an hour of watched time before the downtime is more than two hours")
		s.beat()
		s.reopen(time.Second)
		s.check(s.retire(m, s.idle(30*day)) == nil, "the manifest went after another restart")
		s.later(30 * day)
		s.check(s.retire(m, s.idle(30*day)) != nil, "the manifest stays after a month of watching")
	}},
	{"a process beside the server knows the time that nobody watched", func(s *scene) {
		s.beat()
		s.reopen(365 * day)
		s.beat()
		s.later(time.Second)
		s.check(s.second().Back(day).Equal(s.Back(day)), "a day ago was %v for one process and %v for another",
			s.second().Back(day), s.Back(day))
	}},
}

// upload claims the link of a layer of repository a, whose upload began at a time.
func (s *scene) upload(name string, started time.Time) {
	s.Helper()
	s.must(s.Claim(s.Context(), index.Claim{Key: link("a", name), UploadStarted: started}))
}

// readEveryHour reads the bytes of a layer of repository a, beside a server that lives.
func (s *scene) readEveryHour(name string, times int) {
	s.Helper()
	for range times {
		s.later(time.Hour)
		s.beat()
		s.read("a", name, s.Now())
	}
}
