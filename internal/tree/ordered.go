package tree

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// NamesAfter calls f with each name after one, in the order of bytes, that a repository has or could have by its
// directory: whether it has anything is not looked at. Of what comes before, only the way is read.
func (w *Walk) NamesAfter(ctx context.Context, after string, f func(name string) error) error {
	return w.namesAfter(ctx, "", after, f)
}

func (w *Walk) namesAfter(ctx context.Context, prefix, after string, f func(string) error) error {
	names, err := w.names(w.dir.Native(layout.Repositories+"/"+prefix), cmp.Or(prefix, all), func(name string) bool { return layout.ValidName(prefix + name) })
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
