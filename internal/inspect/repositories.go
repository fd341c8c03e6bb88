package inspect

import (
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// addToRepositories adds a blob to each repository that it can be pulled from.
func (s *survey) addToRepositories(b *blobUse) {
	var has, claims []int32
	for _, l := range b.links {
		if l.Placed {
			has = append(has, l.repo)
		} else {
			claims = append(claims, l.repo)
		}
		s.usedIn(l.repo, l.AccessedAt.UnixMilli())
	}
	for _, i := range b.files {
		if m := &s.nodes[i]; m.placed {
			has = append(has, m.repo)
		} else {
			claims = append(claims, m.repo)
		}
		s.usedIn(s.nodes[i].repo, s.nodes[i].used)
	}
	slices.Sort(has)
	has = slices.Compact(has)
	for _, repo := range has {
		s.total(repo).Size += b.Blob.Size
	}
	if len(has) == 1 && !slices.ContainsFunc(claims, func(repo int32) bool { return repo != has[0] }) {
		s.total(has[0]).UniqueBytes += b.Blob.Size
	}
}

func (s *survey) total(repo int32) *Repository {
	r := s.totals[repo]
	if r == nil {
		r = &Repository{Repository: s.repos[repo].name}
		s.totals[repo] = r
	}
	return r
}

func (s *survey) usedIn(repo int32, at int64) {
	if r := s.total(repo); at > time.Time(r.LastAccess).UnixMilli() {
		r.LastAccess = stamp.Time(time.UnixMilli(at).UTC())
	}
}

// repositoryRows makes the rows of the repositories that were asked for and have something that can be pulled.
func (s *survey) repositoryRows(f func(Row) error) error {
	for _, i := range s.accounts.images {
		s.total(s.nodes[i.top].repo).Images++
	}
	for repo, r := range s.totals {
		if r.Size == 0 || !s.repos[repo].selected {
			continue
		}
		if err := f(*r); err != nil {
			return err
		}
	}
	return nil
}
