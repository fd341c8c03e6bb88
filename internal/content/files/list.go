package files

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Lists come from the index, and are compared with the disk. As long as the index is not whole they come from the disk,
// in the same order and by the same rules. Listing is no use. A list leaves out what is missing or damaged; what cannot
// be looked at is an error, since a short list looks like a complete one.

// Tags lists the tags of a repository after one, in the order of bytes: at most so many, all for -1.
// More is the tag after which the next page begins; empty: there is none. content.ErrUnknown.
func (s *Store) Tags(ctx context.Context, repo, after string, most int) (tags []string, more string, err error) {
	known := false
	exists := func(tag string) (bool, error) { return s.tree.Has(layout.TagKey(repo, tag)) }
	names, more, err := s.names(ctx, repo, most, func(r index.Reader, n int) (names []string, err error) {
		if known, err = r.HasRepository(repo); err != nil || !known {
			return nil, err
		}
		return r.Names(repo, after, n)
	}, func(w *tree.Walk, list func(string) error) error {
		for _, kind := range []layout.Kind{layout.Manifest, layout.Layer} {
			some, err := s.hasLink(ctx, w, kind, repo)
			if err != nil {
				return err
			}
			if known = some; known {
				break
			}
		}
		return w.Tags(ctx, repo, func(tag string) error {
			if there, err := exists(tag); err != nil || !there || tag <= after {
				return err
			}
			return list(tag)
		})
	})
	if err == nil && !known && !s.pending.has(repo) {
		err = content.ErrUnknown
	}
	if err != nil {
		return nil, "", err
	}
	tags = []string{}
	for _, name := range names {
		there, err := exists(name)
		if err != nil {
			return nil, "", err
		}
		if there {
			tags = append(tags, name)
		}
	}
	return tags, more, nil
}

// Repositories lists those that have a manifest, as Tags does.
func (s *Store) Repositories(ctx context.Context, after string, most int) (names []string, more string, err error) {
	names, more, err = s.names(ctx, "", most, func(r index.Reader, n int) ([]string, error) {
		return r.Repositories(after, n)
	}, func(w *tree.Walk, list func(string) error) error {
		return w.NamesAfter(ctx, after, func(repo string) error {
			if some, err := s.hasLink(ctx, w, layout.Manifest, repo); err != nil || !some {
				return err
			}
			return list(repo)
		})
	})
	return append([]string{}, names...), more, err
}

// errEnough ends a walk that has found what it looked for.
var errEnough = errors.New("enough were found")

// whole says whether the index knows all of a repository, or for "" of all repositories. It does not while it is
// compared with the disk, and afterwards not what could not be read.
func (s *Store) whole(ctx context.Context, repo string) (whole bool, err error) {
	_, whole, err = s.indexed(ctx, repo, func(index.Reader) ([]string, error) { return nil, nil })
	return whole, err
}

// indexed lists names from the index, if that knows all of the repository.
func (s *Store) indexed(ctx context.Context, repo string,
	list func(index.Reader) ([]string, error)) (names []string, whole bool, err error) {
	open, err := s.index.GateOpen(ctx)
	if err != nil || !open {
		return nil, false, err
	}
	err = s.index.View(ctx, func(r index.Reader) error {
		unread, err := r.Unread()
		if whole = err == nil && !unread.Has(repo); whole {
			names, err = list(r)
		}
		return err
	})
	return names, whole, err
}

// names reads one more than is wanted, to know whether there is more: from the index, or by a walk that lists them.
func (s *Store) names(ctx context.Context, repo string, most int, indexed func(r index.Reader, n int) ([]string, error),
	walked func(w *tree.Walk, list func(string) error) error) (names []string, more string, err error) {
	n := max(most+1, 0) // 0 is all
	names, whole, err := s.indexed(ctx, repo, func(r index.Reader) ([]string, error) { return indexed(r, n) })
	if err == nil && !whole {
		err = s.walk(func(w *tree.Walk) error {
			return walked(w, func(name string) error {
				if names = append(names, name); len(names) == n {
					return errEnough
				}
				return nil
			})
		})
	}
	if most >= 0 && len(names) > most {
		if names = names[:most]; most > 0 {
			more = names[most-1]
		}
	}
	return names, more, err
}

// walk walks through the tree, and fails where something could not be read or may not be followed.
func (s *Store) walk(through func(*tree.Walk) error) error {
	w, err := s.tree.Walk()
	if err != nil {
		return err
	}
	if err := through(w); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	for _, u := range w.Unread() {
		return u.Err
	}
	return w.Refused()
}

// hasLink says whether a repository has any link of a kind.
func (s *Store) hasLink(ctx context.Context, w *tree.Walk, kind layout.Kind, repo string) (bool, error) {
	err := w.Links(ctx, kind, repo, func(d digest.Digest) error {
		there, err := s.tree.Has(layout.Key{Kind: kind, Repository: repo, Digest: d})
		if err == nil && there {
			err = errEnough
		}
		return err
	})
	if errors.Is(err, errEnough) {
		return true, nil
	}
	return false, err
}

// referrersAtOnce are read of the index at a time.
const referrersAtOnce = 100

// Referrers calls f with each manifest of a repository whose subject is d and whose artifact type is the one asked for,
// unless that is empty: in the order of digests after one, until f returns false. It leaves out damaged ones. Before a
// manifest longer than content.MaxCached is read, room is called with its length in bytes. whole is false as long as
// there may be more than the index knows.
func (s *Store) Referrers(ctx context.Context, repo string, d, after digest.Digest, artifactType string,
	room func(int64) error, f func(*content.Manifest) bool) (whole bool, err error) {
	if whole, err = s.whole(ctx, repo); err != nil {
		return false, err
	}
	l := &lookup{Store: s, ctx: ctx, use: content.Maintenance}
	for {
		var rows []index.Row
		err := s.index.View(ctx, func(r index.Reader) (err error) {
			rows, err = r.ReferrersAfter(repo, d, after, artifactType, referrersAtOnce)
			return err
		})
		if err != nil {
			return whole, err
		}
		for _, r := range rows {
			after = r.Digest
			if err := ctx.Err(); err != nil {
				return whole, err
			}
			m, err := l.manifest(layout.ManifestKey(repo, r.Digest), content.MaxCached)
			if large := (*content.LargeError)(nil); errors.As(err, &large) {
				if err = room(large.Size); err == nil {
					m, err = l.manifest(layout.ManifestKey(repo, r.Digest), large.Size)
				}
			}
			if errors.Is(err, content.ErrUnknown) || errors.Is(err, content.ErrUnreadable) {
				continue // it is going, or damaged
			}
			if err != nil {
				return whole, err
			}
			if !f(m) {
				return whole, nil
			}
		}
		if len(rows) < referrersAtOnce {
			return whole, nil
		}
	}
}
