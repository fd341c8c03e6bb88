package tree

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// NamesAfter calls f with each name of a directory that a repository could have, after one, in the order of bytes. It
// does not look whether the repository has anything. Of the names before, it reads only the directories on the way.
func (w *Walk) NamesAfter(ctx context.Context, after string, f func(name string) error) error {
	return w.namesAfter(ctx, "", after, f)
}

func (w *Walk) namesAfter(ctx context.Context, prefix, after string, f func(string) error) error {
	valid := func(name string) bool { return layout.ValidName(prefix + name) }
	names, err := w.names(w.dir.Native(layout.Repositories+"/"+prefix), cmp.Or(prefix, all), valid)
	if err != nil {
		return err
	}
	var steps []string
	for _, name := range names {
		steps = append(steps, prefix+name, prefix+name+"/")
	}
	slices.Sort(steps) // a-b is before a/b, and so before what is in the directory a
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch below := strings.HasSuffix(step, "/"); {
		case below && (step > after || strings.HasPrefix(after, step)):
			err = w.namesAfter(ctx, step, after, f)
		case !below && step > after:
			err = f(step)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
