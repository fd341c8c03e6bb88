// Package usage says how many bytes du shows of a data directory, in milliseconds and without a walk through its tree.
//
// The law: the figure is never below what du shows of a data directory that does not change, and at most 2 % above it.
// Most of it is a sum that the index keeps with its rows: what each blob takes, and each directory that holds several
// others. A link or a tag takes what one takes that is made for a try. The rest has no rows, and is looked at:
// unfinished uploads, and what dcs keeps beside the tree.
//
// While the store changes, what moves is counted once at least: an upload becomes a file that waits, then a blob, then
// trash, and they are looked at in this order. What is being moved in a transaction of the index may be missed until
// that ends.
package usage

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Usage looks at one data directory. Its methods may be called concurrently.
type Usage struct {
	dir     tree.Dir
	index   index.Store
	uploads []Uploads
	costs   func() (dir, link int64)
}

// Uploads names unfinished uploads of a data directory, perhaps with some that do not exist any more. An empty ID
// stands for the list of uploads of a repository, which may be empty.
type Uploads func(ctx context.Context) ([]layout.Upload, error)

// Walked finds the uploads of a data directory by a walk through its tree, the first time that it is asked. It is for
// what was there before: a server knows what begins in it.
func Walked(dir tree.Dir) Uploads {
	var mu sync.Mutex // guards the rest; held over the walk, since the others need what it finds
	var found []layout.Upload
	walked := false
	return func(ctx context.Context) ([]layout.Upload, error) {
		mu.Lock()
		defer mu.Unlock()
		if !walked {
			var err error
			if found, err = walk(ctx, dir); err != nil {
				return nil, err
			}
			walked = true
		}
		found = slices.DeleteFunc(found, func(u layout.Upload) bool {
			_, err := os.Lstat(dir.Native(u.Dir()))
			return tree.Missing(err)
		})
		return slices.Clone(found), nil
	}
}

func walk(ctx context.Context, dir tree.Dir) (found []layout.Upload, err error) {
	walk, err := dir.Walk()
	if err != nil {
		return nil, err
	}
	err = walk.Repositories(ctx, func(repo string) error {
		found = append(found, layout.Upload{Repository: repo})
		return walk.Uploads(ctx, repo, func(u layout.Upload) error {
			found = append(found, u)
			return nil
		})
	})
	if tree.OfOnePath(err) { // what cannot be read cannot be counted
		err = nil
	}
	return found, err
}

// Of looks at a data directory. t is its tree, nil where it is only read: then a link is taken for two blocks, which is
// too much where the file system keeps small directories in less. An upload may be named by several.
func Of(dir tree.Dir, t *tree.Tree, ix index.Store, uploads ...Uploads) *Usage {
	costs := dir.BlockCosts
	if t != nil {
		costs = t.LinkCosts
	}
	return &Usage{dir: dir, index: ix, uploads: uploads, costs: sync.OnceValues(costs)}
}

// A tag has a directory of its own with its link, and a history with one entry, three directories deep.
const (
	tagDirs  = 5
	tagLinks = 2
)

// Used is how many bytes of the disk the data directory takes, as du counts them.
func (u *Usage) Used(ctx context.Context) (int64, error) {
	used, above, err := u.unfinished(ctx)
	if err != nil {
		return 0, err
	}
	used += u.besideTree()
	var rows index.Footprint
	err = u.index.View(ctx, func(r index.Reader) error {
		for dir := range above {
			known, err := r.Measured(dir)
			if err != nil {
				return err
			}
			if !known {
				bytes, _ := u.dir.Taken(dir)
				used += bytes
			}
		}
		var err error
		rows, err = r.Footprint()
		return err
	})
	if err != nil {
		return 0, err
	}
	dir, link := u.costs()
	used += rows.Bytes + rows.Links*(dir+link) + rows.Tags*(tagDirs*dir+tagLinks*link)
	return used + tree.TakenInAll(u.dir.Trash()), nil
}

// Takes is what a row and its file take: Used is less by it when they are gone, and their lists not shorter.
func (u *Usage) Takes(r index.Row) int64 {
	dir, link := u.costs()
	switch {
	case r.Key.Kind == layout.Tag:
		return r.Disk + tagDirs*dir + tagLinks*link
	case r.Key.Kind == layout.Blob:
		return r.Disk
	case r.Placed:
		return dir + link
	}
	return 0
}

// unfinished counts the directories of uploads. It returns those above them, by their paths below layout.Root, of which
// most are known by rows of the repository.
func (u *Usage) unfinished(ctx context.Context) (used int64, above map[string]bool, err error) {
	above = map[string]bool{}
	seen := map[layout.Upload]bool{}
	for _, uploads := range u.uploads {
		all, err := uploads(ctx)
		if err != nil {
			return 0, nil, err
		}
		for _, upload := range all {
			if seen[upload] {
				continue
			}
			seen[upload] = true
			if upload.ID != "" {
				used += tree.TakenInAll(u.dir.Native(upload.Dir()))
			}
			for _, dir := range layout.UploadsAbove(upload.Repository) {
				if above[dir] {
					break
				}
				above[dir] = true
			}
		}
	}
	return used, above, nil
}

// besideTree counts what is no part of the tree: the directories that it is in, and what dcs keeps beside it, but the
// trash. Of what others put into the data directory it counts files, and directories without what is in them.
func (u *Usage) besideTree() (used int64) {
	top := string(u.dir)
	used = takenIn(top, "docker", ".metadata")
	for _, dir := range []string{"docker", "registry", "v2"} {
		top = filepath.Join(top, dir)
		used += takenIn(top, "registry", "v2", "blobs", "repositories")
	}
	own := u.dir.Metadata()
	entries, _ := os.ReadDir(own)
	used += takenIn(own)
	for _, e := range entries {
		if path := filepath.Join(own, e.Name()); e.IsDir() && path != u.dir.Trash() {
			used += tree.TakenInAll(path) - takenBy(path)
		}
	}
	return used - takenBy(u.dir.Trash())
}

// takenIn is what a directory takes, and what is directly in it, but for some names.
func takenIn(dir string, without ...string) (used int64) {
	entries, _ := os.ReadDir(dir)
	used = takenBy(dir)
	for _, e := range entries {
		if !slices.Contains(without, e.Name()) {
			used += takenBy(filepath.Join(dir, e.Name()))
		}
	}
	return used
}

// takenBy is what a path takes itself.
func takenBy(path string) int64 {
	fi, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return disk.Taken(fi)
}
