package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Staged is a file that is written and synced, and has no name in the tree yet.
type Staged struct {
	path   string
	placed bool
}

// Stage writes data to a file that a Change can place. The caller discards it.
func (t *Tree) Stage(data []byte) (*Staged, error) {
	path, err := disk.Stage(t.Temp(), data, fileMode, t.own)
	if errors.Is(err, fs.ErrNotExist) { // the directory was removed beside its server
		if err := t.MkdirAll(t.Temp()); err != nil {
			return nil, err
		}
		path, err = disk.Stage(t.Temp(), data, fileMode, t.own)
	}
	if err != nil {
		return nil, err
	}
	return &Staged{path: path}, nil
}

// Discard removes the file, unless it was placed.
func (s *Staged) Discard() {
	if !s.placed {
		_ = os.Remove(s.path) // a start empties the directory
	}
}

// Change gathers which files are placed and removed, so that all of it becomes durable at once. Place and Remove rename
// and unlink only: they may be called inside a transaction, which must not wait for a disk. Commit is called after the
// transaction; what a Change did is not promised to survive a power loss before that.
//
// A Change that is committed may go on. It must not be used concurrently.
type Change struct {
	tree     *Tree
	prepared []string        // directories that were made for files which were not placed yet
	placed   []string        // files whose names are not durable
	removed  map[string]bool // directories from which names were removed; false: a power loss may bring them back
	uploads  map[string]bool // lists of uploads of repositories from which names were removed
}

// Begin begins a change.
func (t *Tree) Begin() *Change {
	return &Change{tree: t, removed: map[string]bool{}, uploads: map[string]bool{}}
}

// Prepare makes the directory of a file that is going to be placed, durable. It must not be called inside a
// transaction. Place does without it, and then takes longer.
func (c *Change) Prepare(paths ...layout.Path) error {
	for _, p := range paths {
		dir := filepath.Dir(c.tree.File(p))
		if err := c.tree.MkdirAll(dir); err != nil {
			return err
		}
		c.prepared = append(c.prepared, dir)
	}
	return nil
}

// Place gives a staged file the name of a key. What has that name is replaced.
func (c *Change) Place(s *Staged, k layout.Key) error { return c.place(s, c.tree.File(k.Path())) }

func (c *Change) place(s *Staged, path string) error {
	if err := c.tree.rename(s.path, path); err != nil {
		return err
	}
	s.placed = true
	c.placed = append(c.placed, path)
	dir := filepath.Dir(path)
	c.prepared = slices.DeleteFunc(c.prepared, func(made string) bool { return made == dir })
	return nil
}

// PlaceTag gives a tag its link, and its history the one entry that says the same: two staged files. Other entries are
// removed. Stock registries keep one for each push.
func (c *Change) PlaceTag(link, entry *Staged, k layout.Key, to digest.Digest) error {
	// A kill between the two leaves a tag, and not a history of none that no run would remove.
	if err := c.Place(link, k); err != nil {
		return err
	}
	if err := c.place(entry, c.tree.File(TagEntry(k, to))); err != nil {
		return err
	}
	history := c.tree.Native(layout.TagIndexDir(k.Repository, k.Tag))
	keep := c.tree.Native(layout.TagIndexEntryDir(k.Repository, k.Tag, to))
	for _, dir := range entries(history) {
		if dir != keep {
			failpoint.Step()
			_ = os.RemoveAll(dir) // nothing depends on it; the next move of the tag tries again
		}
	}
	return nil
}

// TagEntry is the file in the history of a tag that says that it pointed to a manifest.
func TagEntry(k layout.Key, to digest.Digest) layout.Path {
	return layout.Path{Kind: layout.TagIndexLink, Repository: k.Repository, Tag: k.Tag, Digest: to}
}

// entries are the directories of a tag's history, one for each digest.
func entries(history string) (dirs []string) {
	algorithms, _ := os.ReadDir(history)
	for _, alg := range algorithms {
		sums, _ := os.ReadDir(filepath.Join(history, alg.Name()))
		for _, sum := range sums {
			dirs = append(dirs, filepath.Join(history, alg.Name(), sum.Name()))
		}
	}
	return dirs
}

// Remove removes the file of a key with its directory, and of a tag its history, too. Blobs and tags are moved to the
// trash; EmptyTrash frees their bytes. Without a file it returns fs.ErrNotExist. freed is the size of a blob's file in
// bytes; 0 for a symbolic link, since what it leads to stays.
func (c *Change) Remove(k layout.Key) (freed int64, err error) {
	switch k.Kind {
	case layout.Tag:
		return 0, c.removeTag(k)
	case layout.Blob:
		return c.removeBlob(k)
	}
	return 0, c.removeFile(k, unlink)
}

func (c *Change) removeTag(k layout.Key) error {
	dir := c.tree.Native(layout.TagDir(k.Repository, k.Tag))
	moved, err := c.tree.throw(dir)
	if err != nil {
		return err
	}
	c.owe(filepath.Dir(dir), k)
	if !moved {
		return notThere(dir)
	}
	return nil
}

func (c *Change) removeBlob(k layout.Key) (freed int64, err error) {
	file := c.tree.File(k.Path())
	fi, err := os.Lstat(file)
	switch {
	case err != nil && !Missing(err):
		return 0, err
	case err == nil && fi.Mode().IsRegular():
		freed = fi.Size()
	case err == nil && fi.Mode()&fs.ModeSymlink == 0:
		return 0, &fs.PathError{Op: "remove", Path: file, Err: disk.ErrNotRegular}
	}
	return freed, c.removeFile(k, c.tree.throw)
}

// removeFile removes a link or a blob with its directory, which rarely holds anything else. So one sync of the
// directory above it makes many removals durable.
func (c *Change) removeFile(k layout.Key, how func(path string) (bool, error)) error {
	file := c.tree.File(k.Path())
	dir := filepath.Dir(file)
	there, err := how(file)
	if err != nil && !Missing(err) {
		return err
	}
	gone := c.tree.removeEmpty(dir)
	if !gone && there { // stock registries kept the signatures of schema 1 manifests there, for one
		gone, _ = c.tree.throw(dir) // the name is gone in any case
	}
	if gone {
		dir = filepath.Dir(dir)
	} else {
		c.tree.left()
	}
	c.owe(dir, k)
	if !there {
		return notThere(file)
	}
	return nil
}

// unlink removes a file at once: a link is so small that moving it takes as long.
func unlink(path string) (bool, error) {
	failpoint.Step()
	err := os.Remove(path)
	return err == nil, err
}

func notThere(path string) error {
	return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
}

// owe records that a name was removed from dir. A blob that a power loss brings back is adopted and removed again, so
// only names of a repository are synced. The empty list of uploads of that repository is removed with the last of them.
func (c *Change) owe(dir string, k layout.Key) {
	c.removed[dir] = c.removed[dir] || k.Kind != layout.Blob
	if k.Repository != "" {
		c.uploads[c.tree.Native(layout.UploadsDir(k.Repository))] = true
	}
}

// Quarantine moves a blob out of the tree. Its bytes stay.
func (c *Change) Quarantine(k layout.Key) error {
	file := c.tree.File(k.Path())
	to := filepath.Join(c.tree.Dir.Quarantine(), strings.ReplaceAll(k.Digest.String(), ":", "-"))
	if err := c.tree.rename(file, to); err != nil {
		return err
	}
	c.placed = append(c.placed, to)
	c.removed[filepath.Dir(file)] = true
	return nil
}

// Sync makes durable what was placed until now, for a name that may refer to it.
func (c *Change) Sync() error {
	var errs []error
	for _, path := range c.placed {
		errs = append(errs, c.tree.sync(path))
	}
	c.placed = nil
	return errors.Join(errs...)
}

// Commit makes durable what was placed and removed since the last Commit, and removes the directories that are empty
// now. On an error the rest is synced all the same.
func (c *Change) Commit() error { return c.CommitTelling(func(int, int) {}) }

// CommitTelling is Commit for a change of many directories: synced is called with how many of all are synced.
func (c *Change) CommitTelling(synced func(done, all int)) error {
	errs := []error{c.Sync()}
	done := 0
	for dir, sync := range c.removed {
		if sync {
			done++
			errs = append(errs, disk.SyncDir(dir))
			synced(done, len(c.removed))
		}
		c.tree.prune(dir)
	}
	c.reset()
	return errors.Join(errs...)
}

// Abandon ends a change whose transaction failed: its directories are removed where they are empty. What it placed or
// removed nevertheless stays so, and is not synced.
func (c *Change) Abandon() {
	for dir := range c.removed {
		c.tree.prune(dir)
	}
	c.reset()
}

// reset removes the directories that may be empty, and forgets all debts.
func (c *Change) reset() {
	for _, dir := range c.prepared {
		c.tree.prune(dir)
	}
	for dir := range c.uploads {
		c.tree.prune(dir)
	}
	*c = *c.tree.Begin()
}

// Settle makes the name of a key's file durable that another request may have placed just now.
func (t *Tree) Settle(k layout.Key) error { return t.sync(t.File(k.Path())) }

// scratch writes a file that promises nothing: neither its bytes nor its directories are synced.
func (t *Tree) scratch(path string, data []byte) error {
	for range 10 { // each failure is due to one removal of an empty directory
		if err := t.remake(filepath.Dir(path)); err != nil {
			return err
		}
		failpoint.Step()
		err := os.WriteFile(path, data, fileMode)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		return t.Own(path)
	}
	return fmt.Errorf("write %s: its directory keeps vanishing", path)
}
