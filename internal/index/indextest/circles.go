package indextest

import (
	"errors"
	"fmt"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// member is a manifest of a would-be circle: it keeps what it names, and its subject would keep it.
type member struct {
	name, subject string
	refs          []string
}

// The would-be circles that digests allow: each manifest names only what was there before it.
var circleShapes = []struct {
	name    string
	members []member
}{
	{"an index whose subject it lists", []member{{"r", "", nil}, {"i", "r", []string{"r"}}}},
	{"an index whose subject is the child of its child", []member{{"r", "", nil}, {"mid", "", []string{"r"}},
		{"i", "r", []string{"mid"}}}},
	{"an index whose subject is a referrer of its child", []member{{"r", "", nil}, {"sig", "r", nil},
		{"i", "sig", []string{"r"}}}},
	{"two indexes, each listing the other's subject", []member{{"x", "", nil}, {"y", "", nil},
		{"i", "y", []string{"x"}}, {"j", "x", []string{"y"}}}},
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

// circle makes the rows of a would-be circle in an order: by pushes, adoption or claims.
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

// sweepAll retires manifests as gc does: what nothing refers to, until nothing goes any more.
func (s *scene) sweepAll() {
	s.Helper()
	for {
		var rows []index.Row
		s.view(func(r index.Reader) error {
			add := func(row index.Row) error {
				rows = append(rows, row)
				return nil
			}
			return errors.Join(r.Unreferenced(layout.Manifest, s.Back(time.Minute), add),
				r.Claims(s.Back(time.Minute), add))
		})
		if len(rows) == 0 {
			return
		}
		for _, r := range rows {
			s.dies(r.Key)
		}
	}
}

// circles: a subject edge that would close a circle is none, so that an unused manifest is always found.
var circles = []test{
	{"what would keep itself goes when nobody uses it, and something of it is unreferenced", func(s *scene) {
		s.eachCircle(func(what string, members []layout.Key) {
			s.later(time.Hour)
			s.sweepAll()
			s.gone(members...)
		})
	}},
	{"what names a member keeps it, and a use of any is one of what it keeps", func(s *scene) {
		s.eachCircle(func(what string, members []layout.Key) {
			top := members[len(members)-1]
			var parts []layout.Key // of the last, by the shapes
			for _, k := range members[:len(members)-1] {
				s.view(func(r index.Reader) error {
					parents, err := r.Parents("a", k.Digest, 0)
					if len(parents) > 0 && parents[0].Key == top {
						parts = append(parts, k)
					}
					return err
				})
			}
			s.later(time.Hour)
			s.lease(top)
			s.lives(append(parts, top)...)
			for _, k := range parts {
				s.used(k, s.Now())
			}
		})
	}},
	{"a tagged member lives, with what it keeps", func(s *scene) {
		s.eachCircle(func(what string, members []layout.Key) {
			for _, k := range members {
				s.must(MoveTag(s.Context(), s, "a", "t", k.Digest, nothing))
				s.later(time.Hour)
				s.lives(k)
			}
			s.must(s.DeleteTag(s.Context(), "a", "t", nothing))
			s.later(time.Hour)
			s.sweepAll()
			s.gone(members...)
		})
	}},
	{"only what would close a circle is detached from its subject", func(s *scene) {
		s.image("a", "r")
		i := s.referrer("a", "i", "r", "r")
		sig := s.referrer("a", "sig", "r")
		ofI := s.referrer("a", "of i", "i")
		top := s.image("a", "top", "i")
		s.check(s.row(i).Detached, "an index is kept by the subject that it lists")
		for _, k := range []layout.Key{man("a", "r"), sig, ofI, top} {
			s.check(!s.row(k).Detached, "%v is detached", k)
		}
		s.later(time.Hour)
		s.lease(top)
		s.lives(i, man("a", "r"), sig, ofI)
	}},
	{"a circle in one repository is none in another that has only a part", func(s *scene) {
		s.image("a", "r")
		s.referrer("a", "i", "r", "r")
		r := s.image("b", "r")
		alone := s.referrer("b", "sig", "r")
		s.later(time.Hour)
		s.lease(man("a", "i"))
		s.lives(man("a", "r"), man("a", "i"))
		s.lives(alone)
		s.dies(r)
		s.check(!s.row(alone).Detached, "a referrer is detached in a repository that has no circle")
	}},
	{"an edge that was dropped with one circle is there for a manifest that is pushed again", func(s *scene) {
		s.referrer("a", "i", "r", "r")
		s.image("a", "r")
		s.must(s.DeleteManifest(s.Context(), "a", dg("i"), noTags))
		s.image("a", "top", "r")
		s.later(time.Hour)
		s.lives(man("a", "r"))
	}},
}
