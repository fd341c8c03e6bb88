package gc

import (
	"context"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Files are the files of a store, as a Collector needs them, wherever their bytes are.
type Files interface {
	// Uploads looks at the unfinished uploads, for one plan.
	Uploads() (Uploads, error)
	// Elsewhere says whether removing a blob frees no bytes, since they are not the store's own.
	Elsewhere(blob layout.Key) bool
	// Remover removes files, for one run.
	Remover() Remover
}

// Remover removes what one run retires: level by level, and what refers to something before what it refers to.
type Remover interface {
	// Remove removes the file of a row, inside the transaction that removes the row: it must not wait. A claim whose
	// file never came has none, which is no error.
	Remove(row index.Row) (index.Removed, error)
	// EndLevel makes durable what was removed since the last EndLevel, before what that referred to is removed.
	// progress is called with how many of all steps are done.
	EndLevel(progress func(done, all int)) error
	// Resume makes durable what an earlier run removed that did not come to its end.
	Resume() error
	// RemoveUpload removes an upload, unless a client went on with it since. False: it was not removed.
	RemoveUpload(u layout.Upload, since time.Time) (bool, error)
	// Empty gives the bytes of all removed files back to the disk. A later run tries again to remove what is left.
	Empty() error
	// MakeRoom gives back what was reserved for an index that cannot write. False: nothing was.
	MakeRoom() bool
}

// Uploads are the unfinished uploads of a store. Those that cannot be read are left out, and
// Hidden and Unread name them.
type Uploads interface {
	// Abandoned lists those to which nothing was written since a time, by the wall clock.
	Abandoned(ctx context.Context, since time.Time) ([]layout.Upload, error)
	// Oldest is when the first of the uploads began that are under way into a repository: those to which something was
	// written since. Zero: there is none.
	Oldest(ctx context.Context, repo string, since time.Time) (time.Time, error)
	// Hidden says whether some uploads of a repository could not be read until now, and Unread why.
	Hidden(repo string) bool
	Unread() error
}
