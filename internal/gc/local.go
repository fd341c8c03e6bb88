package gc

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// LocalFiles are those of a tree. A file is renamed or unlinked in the transaction that removes its row. t is nil where
// nothing is removed: a plan only reads.
func LocalFiles(dir tree.Dir, t *tree.Tree) Files { return localFiles{dir, t} }

type localFiles struct {
	dir  tree.Dir
	tree *tree.Tree
}

func (f localFiles) Uploads() (Uploads, error) {
	walk, err := f.dir.Walk()
	return localUploads{f.dir, walk}, err
}

// Elsewhere is true of a symbolic link: what it leads to stays.
func (f localFiles) Elsewhere(blob layout.Key) bool { return f.dir.Leads(blob) }

func (f localFiles) Remover() Remover {
	emptier := &tree.Emptier{}
	return localRemover{f.tree, f.tree.Begin().Emptying(emptier), emptier}
}

type localRemover struct {
	tree    *tree.Tree
	change  *tree.Change // of one level
	emptier *tree.Emptier
}

func (r localRemover) Remove(row index.Row) (index.Removed, error) {
	var freed int64
	var err error
	if row.Key.Kind == layout.Tag {
		err = r.change.RemoveTag(row.Key, row.Digest)
	} else {
		freed, err = r.change.Remove(row.Key)
	}
	if tree.Missing(err) {
		return index.Removed{}, nil
	}
	return index.Removed{File: err == nil, Bytes: freed}, err
}

func (r localRemover) EndLevel(progress func(done, all int)) error {
	return r.change.CommitTelling(progress)
}

func (r localRemover) Resume() error { return r.tree.SyncAll() }

func (r localRemover) RemoveUpload(u layout.Upload, since time.Time) (bool, error) {
	return r.tree.RemoveAbandoned(u, since)
}

func (r localRemover) Empty() error {
	r.emptier.Wait()
	return r.tree.EmptyTrash()
}

func (r localRemover) MakeRoom() bool { return r.tree.DropBallast() }

type localUploads struct {
	dir  tree.Dir
	walk *tree.Walk
}

func (l localUploads) Abandoned(ctx context.Context, since time.Time) (abandoned []layout.Upload, err error) {
	err = l.walk.Repositories(ctx, func(repo string) error {
		return l.walk.Uploads(ctx, repo, func(u layout.Upload) error {
			over, err := l.dir.Abandoned(u, since)
			if err != nil {
				return l.walk.Pass(repo, err)
			}
			if over {
				abandoned = append(abandoned, u)
			}
			return nil
		})
	})
	if tree.OfOnePath(err) {
		err = nil // Unread has it
	}
	return abandoned, err
}

func (l localUploads) Oldest(ctx context.Context, repo string, since time.Time) (oldest time.Time, err error) {
	err = l.walk.Uploads(ctx, repo, func(u layout.Upload) error {
		last, err := l.dir.LastWrite(u)
		if err != nil {
			return l.walk.Pass(repo, err)
		}
		if last.Before(since) {
			return nil
		}
		// One that does not say when it began cannot be finished, and is part of no push.
		if began, says, err := l.dir.UploadBegan(u); err == nil && says && (oldest.IsZero() || began.Before(oldest)) {
			oldest = began
		}
		return nil
	})
	return oldest, err
}

func (l localUploads) Hidden(repo string) bool {
	return slices.ContainsFunc(l.walk.Unread(),
		func(u tree.Unread) bool { return index.Unread{u.Repositories}.Has(repo) })
}

func (l localUploads) Unread() error {
	var errs []error
	for _, u := range l.walk.Unread() {
		errs = append(errs, u.Err)
	}
	return errors.Join(errs...)
}
