package content

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
)

// Lists come from the index, and are held against the disk. While the index is not whole they say so:
// who wants all then has to walk. Listing is no use. What is gone or damaged is left out; what cannot be
// looked at is an error, since a list that is short looks like one that is whole.

// Tags lists the tags of a repository after one, in the order of bytes: at most so many, all for -1.
// More is the tag after which the next page begins; empty: there is none. ErrUnknown.
func (s *Store) Tags(ctx context.Context, repo, after string, most int) (tags []string, more string, whole bool, err error) {
	known := false
	names, more, whole, err := s.names(ctx, most, func(r index.Reader, n int) (names []string, err error) {
		if known, err = r.HasRepository(repo); err != nil || !known {
			return nil, err
		}
		return r.Names(repo, after, n)
	})
	if err == nil && whole && !known {
		err = ErrUnknown
	}
	tags = []string{}
	for _, name := range names {
		there, err := adopt.Exists(s.dir, adopt.Path(index.TagKey(repo, name)))
		if err != nil {
			return nil, "", whole, err
		}
		if there {
			tags = append(tags, name)
		}
	}
	return tags, more, whole, err
}

// Repositories lists those that have a manifest, as Tags does.
func (s *Store) Repositories(ctx context.Context, after string, most int) (names []string, more string, whole bool, err error) {
	names, more, whole, err = s.names(ctx, most, func(r index.Reader, n int) ([]string, error) { return r.Repositories(after, n) })
	return append([]string{}, names...), more, whole, err
}

// names reads one more than is wanted, to know whether there is more.
func (s *Store) names(ctx context.Context, most int, read func(r index.Reader, n int) ([]string, error)) (names []string, more string, whole bool, err error) {
	if whole, err = s.index.GateOpen(ctx); err != nil || !whole {
		return nil, "", whole, err
	}
	err = s.index.View(ctx, func(r index.Reader) error {
		names, err = read(r, max(most+1, 0)) // 0 is all
		return err
	})
	if most >= 0 && len(names) > most {
		if names = names[:most]; most > 0 {
			more = names[most-1]
		}
	}
	return names, more, true, err
}

// Referrers calls f with each manifest of a repository whose subject is d, in the order of digests after
// one, until f returns false. Those that are damaged are left out.
func (s *Store) Referrers(ctx context.Context, repo string, d, after digest.Digest, f func(*Manifest) bool) (whole bool, err error) {
	if whole, err = s.index.GateOpen(ctx); err != nil {
		return false, err
	}
	var rows []index.Row
	err = s.index.View(ctx, func(r index.Reader) error {
		rows, err = r.Referrers(repo, d)
		return err
	})
	if err != nil {
		return whole, err
	}
	slices.SortFunc(rows, func(a, b index.Row) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	l := &look{Store: s, ctx: ctx, use: Maintenance}
	for _, r := range rows {
		if r.Digest <= after || !r.Placed {
			continue
		}
		m, err := l.manifest(repo, r.Digest)
		if errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnreadable) {
			continue // it is going, or damaged
		}
		if err != nil {
			return whole, err
		}
		if !f(m) {
			break
		}
	}
	return whole, ctx.Err()
}
