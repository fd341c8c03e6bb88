package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Staged is a file that is written, and has no name in the tree yet. It is synced before it gets one: by Sync, or by a
// sync of all that is on its file system.
type Staged struct {
	path   string
	placed bool
}

// Sync makes the bytes of staged files durable, several at a time. Those of placed ones are.
func Sync(staged ...*Staged) error {
	var paths []string
	for _, s := range staged {
		if !s.placed {
			paths = append(paths, s.path)
		}
	}
	return disk.SyncFiles(paths)
}

// Open opens a file that has no name yet. fs.ErrNotExist: it has one now.
func (s *Staged) Open() (*disk.File, error) { return disk.Open(s.path) }

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

// Placed says whether a Change gave it a name.
func (s *Staged) Placed() bool { return s.placed }

// Discard removes the file, unless it was placed. Nil is no file.
func (s *Staged) Discard() {
	if s != nil && !s.placed {
		_ = os.Remove(s.path) // a start empties the directory
	}
}

// Change gathers which files are placed and removed, so that all of it becomes durable at once. Place and Remove rename
// and unlink only: they may be called inside a transaction, which must not wait for a disk. Commit is called after the
// transaction; what a Change did is not promised to survive a power loss before that.
//
// A Change that is committed or abandoned may go on. It must not be used concurrently.
type Change struct {
	tree     *Tree
	prepared []string        // directories that were made for files which were not placed yet
	placed   []string        // files whose names are not durable
	fresh    map[string]bool // those of them whose names no such file had before
	failures int64           // syncs of this process that had failed when it began, or its last Sync ended
	stuck    bool            // the last TakeBack failed
	removed  map[string]bool // directories from which names were removed; false: a power loss may bring them back
	uploads  map[string]bool // lists of uploads of repositories from which names were removed
	emptier  *Emptier        // nil: what is removed stays in the trash
}

// Begin begins a change.
func (t *Tree) Begin() *Change {
	return &Change{tree: t, failures: disk.Failures(), fresh: map[string]bool{}, removed: map[string]bool{},
		uploads: map[string]bool{}}
}

// Emptying has an emptier remove for good what the change removes from now on.
func (c *Change) Emptying(e *Emptier) *Change {
	c.emptier = e
	return c
}

// Prepare makes the directories of files that are going to be placed, so that Place has less to do inside a
// transaction. They are durable with the files in them.
func (c *Change) Prepare(paths ...layout.Path) error {
	for _, p := range paths {
		dir := filepath.Dir(c.tree.File(p))
		c.prepared = append(c.prepared, dir) // on an error too: some that are above it may have been made
		if err := c.tree.remake(dir); err != nil {
			return err
		}
	}
	return nil
}

// Place gives a staged file the name of a key. What has that name is replaced.
func (c *Change) Place(s *Staged, k layout.Key) error {
	path := c.tree.File(k.Path())
	if k.Kind == layout.Tag {
		return c.place(s, path, isMissing(path))
	}
	return c.place(s, path, !sameSize(s.path, path)) // a damaged file stands for nothing
}

func isMissing(path string) bool {
	_, err := os.Lstat(path)
	return Missing(err)
}

func sameSize(a, b string) bool {
	to, err := os.Stat(b)
	if err != nil {
		return false
	}
	from, err := os.Stat(a)
	return err == nil && from.Size() == to.Size()
}

// place gives a staged file a name. fresh says that no file had it that stands for the same.
func (c *Change) place(s *Staged, path string, fresh bool) error {
	if err := c.tree.rename(s.path, path); err != nil {
		return err
	}
	s.placed = true
	c.placed = append(c.placed, path)
	c.fresh[path] = c.fresh[path] || fresh
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
	path := c.tree.File(TagEntry(k, to))
	if err := c.place(entry, path, isMissing(path)); err != nil {
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

// Remove moves what a key names to the trash: the directory of its file, with whatever lies in it, and of a tag its
// history, too. An Emptier or EmptyTrash frees the bytes. Without a file it returns fs.ErrNotExist. freed is the size
// of a blob's file in bytes; 0 for a symbolic link, since what it leads to stays.
func (c *Change) Remove(k layout.Key) (freed int64, err error) {
	if k.Kind == layout.Tag {
		return 0, c.RemoveTag(k, "")
	}
	file := c.tree.File(k.Path())
	fi, err := os.Lstat(file)
	if err != nil && !Missing(err) {
		return 0, err
	}
	plain := err == nil && fi.Mode()&(fs.ModeType&^fs.ModeSymlink) == 0
	switch {
	case plain && c.removeWhole(k):
	case k.Kind != layout.Blob:
		err = c.removeFile(k, unlink)
	case plain || err != nil:
		err = c.removeFile(k, func(path string) (bool, error) {
			moved, err := c.tree.throw(path)
			return moved != "", err
		})
	default:
		err = &fs.PathError{Op: "remove", Path: file, Err: disk.ErrNotRegular}
	}
	if plain && k.Kind == layout.Blob && fi.Mode().IsRegular() {
		freed = fi.Size()
	}
	return freed, err
}

// RemoveTag is Remove of a tag that points to a manifest: an Emptier frees it faster if its history has this entry and
// no other one. to may be empty.
func (c *Change) RemoveTag(k layout.Key, to digest.Digest) error {
	dir := c.tree.Native(layout.TagDir(k.Repository, k.Tag))
	moved, err := c.tree.throw(dir)
	if err != nil {
		return err
	}
	c.owe(filepath.Dir(dir), k)
	if moved == "" {
		return notThere(dir)
	}
	var files []string
	if to != "" {
		for _, p := range []layout.Path{k.Path(), TagEntry(k, to)} {
			files = append(files, c.tree.File(p)[len(dir)+1:])
		}
	}
	c.empty(thrown{moved, files})
	return nil
}

// empty has a path in the trash removed for good.
func (c *Change) empty(t thrown) {
	if c.emptier != nil {
		c.emptier.take(t)
	}
}

// removeWhole moves a link or a blob with its directory, in one step: it rarely holds anything else. So the sync of the
// directory above makes many removals durable. False: it was not moved, as where the directory is a symbolic link, or
// in a lower layer of an overlay file system.
func (c *Change) removeWhole(k layout.Key) bool {
	file := c.tree.File(k.Path())
	dir := filepath.Dir(file)
	if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() {
		return false
	}
	moved := c.tree.discarded()
	if err := c.tree.counted(dir, func() error { return c.tree.rename(dir, moved) }); err != nil {
		return false
	}
	c.tree.forget(dir)
	c.empty(thrown{moved, []string{filepath.Base(file)}})
	c.owe(filepath.Dir(dir), k)
	return true
}

// removeFile removes a link or a blob, and then its directory.
func (c *Change) removeFile(k layout.Key, how func(path string) (bool, error)) error {
	file := c.tree.File(k.Path())
	dir := filepath.Dir(file)
	there, err := how(file)
	if err != nil && !Missing(err) {
		return err
	}
	gone := c.tree.removeEmpty(dir)
	if !gone && there { // stock registries kept the signatures of schema 1 manifests there, for one
		moved, _ := c.tree.throw(dir) // the name is gone in any case
		gone = moved != ""
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

// unlink removes a link at once: it is so small that moving it takes as long.
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

// Settle makes the name of a key's file part of the change, which another one may have placed just now.
func (c *Change) Settle(k layout.Key) { c.placed = append(c.placed, c.tree.File(k.Path())) }

// SyncAll makes durable what any process changed.
func (t *Tree) SyncAll() error { return disk.SyncAll(string(t.Dir)) }

// Sync makes durable what was placed until now, for a name that may refer to it. It fails if any sync of this process
// failed since the last one: the kernel may have told another change of what the disk refused of this one. After an
// error none of that is sure, and the next Sync tries it again, which is worth something where
// disk.FileSystem.Journaled says so. Elsewhere the names are to be taken back.
func (c *Change) Sync() error {
	if c.stuck {
		return errStuck
	}
	if !c.Owes() {
		return nil
	}
	err := c.syncDirs()
	failures := disk.Failures()
	if err == nil && failures != c.failures {
		err = errToldToAnother
	}
	if c.failures = failures; err == nil {
		c.settle()
	}
	return err
}

// errStuck says that nothing is durable before TakeBack succeeds.
var errStuck = errors.New("names that the disk refused to store are still there")

// errToldToAnother says that a sync of the same directories may have failed, of which the kernel told another one.
var errToldToAnother = errors.New("the disk refused to store data during another change")

// syncDirs syncs the directories of the files that were placed, and those above them.
func (c *Change) syncDirs() error {
	dirs := map[string]bool{}
	for _, path := range c.placed {
		dirs[filepath.Dir(path)] = true
	}
	if err := disk.SyncDirs(slices.Collect(maps.Keys(dirs))); err != nil {
		return err
	}
	var errs []error
	for dir := range dirs {
		errs = append(errs, c.tree.reached(dir))
	}
	return errors.Join(errs...)
}

// Synced says that all that is on the file system was synced since the last file was placed.
func (c *Change) Synced() {
	c.failures = disk.Failures()
	c.settle()
}

func (c *Change) settle() {
	c.placed = nil
	clear(c.fresh)
}

// Owes says whether something was placed that is not durable.
func (c *Change) Owes() bool { return len(c.placed) > 0 }

// TakeBack removes the names that are not durable, the last one first, after a sync of them that failed: the kernel may
// take for written what the disk refused, and then no later sync says so. A name that is given again is written again.
// One that such a file had before stays, since the disk has that file or the new one.
//
// A directory that is left keeps its name, which may be one that the disk refused. So all uploads go first, and none
// begins before the end: then a directory that is not empty has something that was durable before. After an error no
// Sync succeeds before a TakeBack does.
func (c *Change) TakeBack() error {
	c.tree.beginning.Lock()
	defer c.tree.beginning.Unlock()
	failures := disk.Failures()
	errs := []error{c.tree.removeUploads()}
	var left []string
	for _, path := range slices.Backward(c.placed) {
		for dir := filepath.Dir(path); len(dir) > len(c.tree.Dir); dir = filepath.Dir(dir) {
			c.tree.forget(dir) // its sync may not have been told of the error
		}
		if !c.fresh[path] {
			continue
		}
		failpoint.Step()
		if err := os.Remove(path); err != nil && !Missing(err) {
			errs, left = append(errs, err), append(left, path)
			continue
		}
		delete(c.fresh, path)
		c.tree.prune(filepath.Dir(path))
	}
	slices.Reverse(left)
	err := errors.Join(errs...)
	c.placed, c.failures, c.stuck = left, failures, err != nil
	return err
}

// Commit makes durable what was placed and removed since the last Commit, and removes the directories that are empty
// now. On an error what was removed is synced all the same.
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
	}
	c.reset()
	c.settle() // or in the error
	return errors.Join(errs...)
}

// Abandon ends a change whose transaction failed: its directories are removed where they are empty. What it removed
// nevertheless stays so, and is not synced; what it placed is owed.
func (c *Change) Abandon() { c.reset() }

// reset removes the directories that may be empty, and forgets them.
func (c *Change) reset() {
	c.tree.prune(slices.Concat(slices.Collect(maps.Keys(c.removed)), c.prepared,
		slices.Collect(maps.Keys(c.uploads)))...)
	c.prepared = nil
	clear(c.removed)
	clear(c.uploads)
}

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
