package content

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
)

// Lists come from the index, and are held against the disk. While the index is not whole they say so:
// who wants all then has to walk. Listing is no use.

// Tags lists the tags of a repository after one, in the order of bytes: at most so many, all for -1.
// More is the tag after which the next page begins; empty: there is none. ErrUnknown.
func (s *Store) Tags(ctx context.Context, repo, after string, most int) (tags []string, more string, whole bool, err error) {
	known := false
	names, more, whole, err := s.names(ctx, repo, most, func(r index.Reader, n int) (names []string, err error) {
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
		if there, err := adopt.Exists(s.dir, adopt.Path(index.TagKey(repo, name))); err == nil && there {
			tags = append(tags, name)
		}
	}
	return tags, more, whole, err
}

// Repositories lists those that have a manifest, as Tags does.
func (s *Store) Repositories(ctx context.Context, after string, most int) (names []string, more string, whole bool, err error) {
	names, more, whole, err = s.names(ctx, "", most, func(r index.Reader, n int) ([]string, error) { return r.Repositories(after, n) })
	return append([]string{}, names...), more, whole, err
}

// names reads one more than is wanted, to know whether there is more. Of a repository that could not be read nobody
// knows all.
func (s *Store) names(ctx context.Context, repo string, most int, read func(r index.Reader, n int) ([]string, error)) (names []string, more string, whole bool, err error) {
	if whole, err = s.index.GateOpen(ctx); err != nil || !whole {
		return nil, "", whole, err
	}
	err = s.index.View(ctx, func(r index.Reader) error {
		unseen, err := r.Unread()
		if whole = !unseen.Has(repo); err != nil || !whole {
			return err
		}
		names, err = read(r, max(most+1, 0)) // 0 is all
		return err
	})
	if most >= 0 && len(names) > most {
		if names = names[:most]; most > 0 {
			more = names[most-1]
		}
	}
	return names, more, whole, err
}

// Referrers calls f with each manifest of a repository whose subject is d, in the order of digests after
// one, until f returns false. Those that are damaged are left out.
func (s *Store) Referrers(ctx context.Context, repo string, d, after digest.Digest, f func(*Manifest) bool) (whole bool, err error) {
	if whole, err = s.index.GateOpen(ctx); err != nil {
		return false, err
	}
	var rows []index.Row
	err = s.index.View(ctx, func(r index.Reader) error {
		unseen, err := r.Unread()
		if err == nil {
			whole = whole && !unseen.Has(repo)
			rows, err = r.Referrers(repo, d)
		}
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
		if err != nil {
			continue // it is going, or cannot be read
		}
		if !f(m) {
			break
		}
	}
	return whole, ctx.Err()
}
