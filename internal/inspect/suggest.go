package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/nearest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

const (
	// suggestions is how many names a hint has at most: it is one line.
	suggestions = 3
	// tagsTold is how many tags a hint has when the repository was named without one.
	tagsTold = 10
	// searched is how many names are looked at for a hint. It must not take longer than an answer.
	searched = 5000
)

// errEnough ends a walk.
var errEnough = errors.New("enough")

// list joins names for a sentence.
func list(names []string, more bool) string {
	joined := strings.Join(names, ", ")
	if more {
		joined += " and more"
	}
	return joined
}

// unknownTag explains a tag that a repository does not have, by the tags that it has: those with a similar name, else
// those that were used last.
func (f finder) unknownTag(ref Reference) error {
	tags, err := f.walked(func(w *tree.Walk, add func(string) error) error {
		return w.Tags(f.ctx, ref.Repository, add)
	})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("repository %s has no tag %s", ref.Repository, ref.Tag)
	var shown []string
	most := tagsTold
	if ref.Tag != defaultTag {
		shown, most = nearestOf(ref.Tag, tags), suggestions
	}
	if len(shown) == 0 {
		if shown, err = f.latestTags(ref.Repository, tags, most); err != nil {
			return err
		}
	}
	if len(shown) == 0 {
		return &NotFoundError{what,
			"it has none: dcs inspect --images --repository " + ref.Repository +
				" lists images without a tag, if there are any"}
	}
	return &NotFoundError{what, fmt.Sprintf("it has %s: dcs inspect %s:%s", list(shown, len(tags) > len(shown)),
		ref.Repository, shown[0])}
}

// latestTags are those of the tags that were used or pushed last, at most so many.
func (f finder) latestTags(repo string, tags []string, most int) ([]string, error) {
	used := map[string]time.Time{}
	for _, t := range tags {
		row, err := f.Row(layout.TagKey(repo, t))
		if err != nil {
			return nil, err
		}
		if row != nil {
			used[t] = row.AccessedAt
		}
	}
	tags = slices.DeleteFunc(tags, func(t string) bool { return used[t].IsZero() })
	slices.SortFunc(tags, func(a, b string) int { return cmp.Or(used[b].Compare(used[a]), strings.Compare(a, b)) })
	return tags[:min(len(tags), most)], nil
}

// unknownRepository explains a repository that does not exist. The operator may have typed a host before the name, a
// folder of repositories, or a mistake.
func (f finder) unknownRepository(ref Reference) error {
	what := fmt.Sprintf("repository %s is unknown", ref.Repository)
	rest := withoutHost(ref.Repository)
	if layout.ValidName(rest) {
		known, err := f.known(rest)
		if err != nil {
			return err
		}
		if known {
			return &NotFoundError{what, "repository names carry no host: dcs inspect " + ref.in(rest).String()}
		}
	}
	names, err := f.walked(func(w *tree.Walk, add func(string) error) error { return w.Repositories(f.ctx, add) })
	if err != nil {
		return err
	}
	if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, ref.Repository+"/") }) {
		return &NotFoundError{what,
			"there are repositories below it: dcs inspect --images --repository '" + ref.Repository + "/**'"}
	}
	near := nearestOf(ref.Repository, names)
	if len(near) == 0 && rest != "" {
		near = nearestOf(rest, names)
	}
	if len(near) > 0 {
		return &NotFoundError{what, "did you mean " + strings.Join(near, " or ") + "?"}
	}
	if len(names) == 0 {
		return &NotFoundError{what, "there is none in this directory"}
	}
	return &NotFoundError{what, "dcs inspect --images lists what there is"}
}

// walked collects names, as far as that takes no time.
func (f finder) walked(walk func(w *tree.Walk, add func(string) error) error) (names []string, err error) {
	w, err := f.dir.Walk()
	if err != nil {
		return nil, err
	}
	err = walk(w, func(name string) error {
		names = append(names, name)
		if len(names) == searched {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return names, err
}

// nearestOf returns the names that the operator may have meant, the nearest first: those a few edits away, and of paths
// those with the same end.
func nearestOf(name string, names []string) (near []string) {
	last := func(path string) string { return path[strings.LastIndex(path, "/")+1:] }
	far := map[string]int{}
	for _, n := range names {
		d := nearest.Distance(name, n)
		if last(n) == last(name) {
			d = min(d, 1)
		}
		if d <= min(2, len(name)/2) {
			far[n] = d
			near = append(near, n)
		}
	}
	slices.SortFunc(near, func(a, b string) int { return cmp.Or(far[a]-far[b], strings.Compare(a, b)) })
	return near[:min(len(near), suggestions)]
}
