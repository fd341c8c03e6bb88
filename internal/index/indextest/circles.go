package indextest

import (
	"fmt"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// member is a manifest of a circle: it keeps what it names, and is kept by its subject.
type member struct {
	name, subject string
	refs          []string
}

// The circles that digests allow: each manifest names only what was there before it.
var circleShapes = []struct {
	name    string
	members []member
}{
	{"an index whose subject it lists", []member{{"r", "", nil}, {"i", "r", []string{"r"}}}},
	{"an index whose subject is the child of its child", []member{{"r", "", nil}, {"mid", "", []string{"r"}}, {"i", "r", []string{"mid"}}}},
	{"an index whose subject is a referrer of its child", []member{{"r", "", nil}, {"sig", "r", nil}, {"i", "sig", []string{"r"}}}},
	{"two indexes, each listing the other's subject", []member{{"x", "", nil}, {"y", "", nil}, {"i", "y", []string{"x"}}, {"j", "x", []string{"y"}}}},
}

func orders(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, o := range orders(n - 1) {
		for at := range n {
			p := append(append(append([]int{}, o[:at]...), n-1), o[at:]...)
			all = append(all, p)
		}
	}
	return all
}

// eachCircle builds every shape in every order, pushed, adopted and claimed in turn, and calls f with its
// members. Names are salted, so that the circles share no digest.
func (s *scene) eachCircle(f func(what string, members []layout.Key)) {
	s.Helper()
	n := 0
	for _, shape := range circleShapes {
		for _, order := range orders(len(shape.members)) {
			if n++; slow && n%8 != 0 {
				continue
			}
			what := fmt.Sprintf("%s, in order %v", shape.name, order)
			f(what, s.circle(shape.members, order, n%3, what))
		}
	}
}

// circle makes the rows of a circle in an order: by pushes, adoption or claims.
func (s *scene) circle(members []member, order []int, how int, salt string) []layout.Key {
	s.Helper()
	ks := make([]layout.Key, len(members))
	for _, i := range order {
		m := members[i]
		var refs []string
		for _, r := range m.refs {
			refs = append(refs, salt+r)
		}
		subject := m.subject
		if subject != "" {
			subject = salt + subject
		}
		c := manClaim("a", salt+m.name, content(subject, refs...))
		switch ks[i] = c.Key; how {
		case 0:
			s.put(c)
		case 1:
			s.adopt(found(c))
		default:
			s.must(s.Claim(s.Context(), c))
		}
	}
	return ks
}

// loose are the manifests that a sweeper would try.
func (s *scene) loose() map[layout.Key]bool {
	s.Helper()
	all := map[layout.Key]bool{}
	s.view(func(r index.Reader) error {
		return r.Loose(layout.Manifest, index.Cutoffs{Names: s.Now(), Content: s.Now()}, func(row index.Row) error {
			all[row.Key] = true
			return nil
		})
	})
	return all
}

var circles = []test{
	{"a circle that nobody used is found and dies as one", func(s *scene) {
		var all [][]layout.Key
		s.eachCircle(func(what string, members []layout.Key) { all = append(all, members) })
		s.later(time.Hour)
		loose := s.loose()
		for _, members := range all {
			var candidate layout.Key
			for _, k := range members {
				if loose[k] {
					candidate = k
				}
			}
			s.check(candidate.Kind == layout.Manifest, "nothing of the circle %v is listed as loose", members)
			got := keys(s.retire(candidate, s.idle(time.Minute)))
			s.check(same(got, members), "retiring %v took %v, want %v", candidate, got, members)
			s.gone(members...)
		}
	}},
	{"each member of a dead circle takes it all", func(s *scene) {
		n := 0
		s.eachCircle(func(what string, members []layout.Key) {
			s.later(time.Hour)
			n++
			got := keys(s.retire(members[n%len(members)], s.idle(time.Minute)))
			s.check(same(got, members), "%s: took %v, want %v", what, got, members)
		})
	}},
	{"a circle lives as one with any member that was used", func(s *scene) {
		n := 0
		s.eachCircle(func(what string, members []layout.Key) {
			s.later(time.Hour)
			n++
			s.lease(members[n%len(members)])
			s.lives(members...)
		})
	}},
	{"a circle lives as one with any member that is tagged", func(s *scene) {
		n := 0
		s.eachCircle(func(what string, members []layout.Key) {
			n++
			k := members[n%len(members)]
			s.must(s.MoveTag(s.Context(), "a", "t", k.Digest, nothing))
			s.later(time.Hour)
			s.lives(members...)
			s.must(s.DeleteTag(s.Context(), "a", "t", nothing))
			s.later(time.Hour)
			got := keys(s.retire(members[0], s.idle(time.Minute)))
			s.check(same(got, members), "%s: took %v, want %v", what, got, members)
		})
	}},
	{"a circle under a living index lives", func(s *scene) {
		s.image("a", "r")
		s.referrer("a", "i", "r", "r")
		top := s.image("a", "top", "i")
		s.later(time.Hour)
		s.lease(top)
		s.lives(man("a", "r"), man("a", "i"))
		s.later(time.Hour)
		s.dies(man("a", "r"), man("a", "i"), top)
	}},
	{"a circle in one repository is none in another that has only a part", func(s *scene) {
		s.image("a", "r")
		s.referrer("a", "i", "r", "r")
		r := s.image("b", "r")
		s.later(time.Hour)
		s.lease(man("a", "r"))
		s.dies(r)
		s.lives(man("a", "r"), man("a", "i"))
	}},
	{"a circle whose removal is skipped stays whole", func(s *scene) {
		s.image("a", "r")
		s.referrer("a", "i", "r", "r")
		s.later(time.Hour)
		s.unchanged(func() {
			gone, err := s.Retire(s.Context(), man("a", "r"), s.idle(time.Minute), skip)
			s.check(gone == nil && err == nil, "%v, %v", gone, err)
		})
	}},
	{"a circle that was tagged and moved is still found", func(s *scene) {
		s.eachCircle(func(what string, members []layout.Key) {
			for _, k := range members {
				s.must(s.MoveTag(s.Context(), "a", "t", k.Digest, nothing))
			}
			s.must(s.DeleteTag(s.Context(), "a", "t", nothing))
			s.later(time.Hour)
			loose := s.loose()
			for _, k := range members {
				if loose[k] {
					s.retire(k, s.idle(time.Minute))
				}
			}
			s.gone(members...)
		})
	}},
	{"a circle that was broken is a circle no more", func(s *scene) {
		s.referrer("a", "i", "r", "r")
		s.image("a", "r")
		s.must(s.DeleteManifest(s.Context(), "a", dg("i"), noTags))
		s.image("a", "top", "r")
		s.later(time.Hour)
		s.check(!s.loose()[man("a", "r")], "a child of an index is listed as loose, since it once closed a circle")
	}},
}
