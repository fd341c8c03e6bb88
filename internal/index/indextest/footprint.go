package indextest

import (
	"errors"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// grown is what the directories and files of a tree take. A path that it does not have does not exist.
type grown map[string]int64

func (g grown) taken(path string) (int64, bool) {
	bytes, there := g[path]
	return bytes, there
}

func (s *scene) footprint() (f index.Footprint) {
	s.Helper()
	s.must(s.View(s.Context(), func(r index.Reader) (err error) {
		f, err = r.Footprint()
		return err
	}))
	return f
}

// placeIn places a file in a tree.
func (s *scene) placeIn(g grown, p index.Placing) {
	s.Helper()
	p.Taken = g.taken
	if p.Rename == nil {
		p.Rename = nothing
	}
	s.must(s.Place(s.Context(), p)[0])
}

var footprints = []test{
	{"placing measures a blob and what is above it", func(s *scene) {
		k := blob("b")
		dirs := layout.Above(k)
		g := grown{layout.Below(k.Path().String()): 8000, dirs[0] + "/" + k.Digest.Encoded(): 400, dirs[0]: 30,
			dirs[1]: 2, dirs[2]: 1}
		s.placeIn(g, index.Placing{Claim: blobClaim("b")})
		s.check(s.footprint() == index.Footprint{Bytes: 8433}, "the footprint is %+v", s.footprint())
		g[dirs[0]], g[dirs[1]] = 50, 100_000 // which grows only with a directory that was not there
		s.placeIn(g, index.Placing{Claim: blobClaim("b")})
		s.check(s.footprint().Bytes == 8453, "the footprint is %+v", s.footprint())
		s.must(s.Claim(s.Context(), blobClaim("b")))
		s.check(s.footprint().Bytes == 8453, "after a claim the footprint is %+v", s.footprint())
	}},
	{"a rename that fails measures nothing", func(s *scene) {
		g := grown{layout.Above(blob("b"))[0]: 30}
		p := index.Placing{Claim: blobClaim("b"), Rename: fails, Taken: g.taken}
		s.check(errors.Is(s.Place(s.Context(), p)[0], errFailed), "it did not fail")
		s.check(s.footprint() == index.Footprint{}, "the footprint is %+v", s.footprint())
	}},
	{"links and tags are counted, and what is above them is measured", func(s *scene) {
		g := grown{}
		for i, dir := range layout.RepositoryDirs("a/b") {
			g[dir] = 1 << i
		}
		c := index.Claim{Key: link("a/b", "l"), Size: size("l"), WithBlob: true}
		s.placeIn(g, index.Placing{Claim: c})
		s.placeIn(g, index.Placing{Claim: manClaim("a/b", "m", content("", "l"))})
		s.placeIn(g, index.Placing{Claim: index.Claim{Key: tagged("a/b", "v1")}, To: dg("m")})
		want := index.Footprint{Links: 2, Tags: 1}
		for dir, bytes := range g {
			known := slices.Contains(slices.Concat(layout.Above(link("a/b", "l")), layout.Above(man("a/b", "m")),
				layout.Above(tagged("a/b", "v1"))), dir)
			if known {
				want.Bytes += bytes
			}
			s.must(s.View(s.Context(), func(r index.Reader) error {
				measured, err := r.Measured(dir)
				s.check(measured == known, "%s is measured: %v", dir, measured)
				return err
			}))
		}
		s.check(s.footprint() == want, "the footprint is %+v, want %+v", s.footprint(), want)
	}},
	{"a directory that does not exist any more is forgotten", func(s *scene) {
		g := grown{"a": 1, "b": 20}
		s.must(s.Measure(s.Context(), g.taken, "a", "b", "c"))
		s.check(s.footprint().Bytes == 21, "the footprint is %+v", s.footprint())
		delete(g, "a")
		s.must(s.Measure(s.Context(), g.taken, "a"))
		s.check(s.footprint().Bytes == 20, "the footprint is %+v", s.footprint())
		var all []string
		s.must(s.View(s.Context(), func(r index.Reader) error {
			return r.EachDirectory(func(path string) error {
				all = append(all, path)
				return nil
			})
		}))
		s.check(slices.Equal(all, []string{"b"}), "the directories are %v", all)
	}},
	{"the tags of the last claim that had any can be asked for", func(s *scene) {
		naming := func() (tags []layout.Key) {
			s.must(s.View(s.Context(), func(r index.Reader) (err error) {
				tags, err = r.Naming()
				return err
			}))
			return tags
		}
		s.check(len(naming()) == 0, "of no claim they are %v", naming())
		for _, tags := range [][]layout.Key{{tagged("a", "v1"), tagged("a/b", "v2")}, {tagged("a", "v3")}} {
			c := manClaim("a", "m", content(""))
			c.Naming = tags
			s.must(s.Claim(s.Context(), c))
			s.must(s.Claim(s.Context(), blobClaim("b")))
			s.check(slices.Equal(naming(), tags), "they are %v, want %v", naming(), tags)
		}
	}},
	{"what is adopted takes what was found", func(s *scene) {
		found := index.Adoption{Claim: blobClaim("b")}
		found.Disk = 8192
		there := true
		look := func() (index.Adoption, bool, error) { return found, there, nil }
		for _, disk := range []int64{8192, 12288} {
			found.Disk = disk
			s.must(s.Adopt(s.Context(), look))
			s.check(s.footprint().Bytes == disk && s.row(blob("b")).Disk == disk, "%+v", s.footprint())
		}
		found.Bytes = index.Damaged // its file is there
		s.must(s.Adopt(s.Context(), look))
		s.check(s.footprint().Bytes == 12288, "damaged: %+v", s.footprint())
		found.Disk, there = 0, false
		s.must(s.Adopt(s.Context(), look))
		s.check(s.footprint() == index.Footprint{}, "missing: %+v", s.footprint())
	}},
	{"the history of a tag counts until the tag moves or is removed", func(s *scene) {
		s.image("a", "m")
		for _, k := range []layout.Key{tagged("a", "moves"), tagged("a", "goes")} {
			found := index.Adoption{Claim: index.Claim{Key: k, Disk: 1000}, Digest: dg("m")}
			s.must(s.Adopt(s.Context(), func() (index.Adoption, bool, error) { return found, true, nil }))
		}
		s.check(s.footprint().Bytes == 2000, "%+v", s.footprint())
		s.must(MoveTag(s.Context(), s, "a", "moves", dg("m"), nothing))
		s.check(s.footprint().Bytes == 1000, "%+v", s.footprint())
		s.must(s.DeleteTag(s.Context(), "a", "goes", nothing))
		s.check(s.footprint().Bytes == 0, "%+v", s.footprint())
	}},
}
