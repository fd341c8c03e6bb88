package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Modes of what a Tree creates, before the umask: those of distribution's filesystem driver.
const (
	dirMode  fs.FileMode = 0o777
	fileMode fs.FileMode = 0o644
)

// Tree is a data directory that may be changed. New files are staged in one directory (temp), finished uploads wait
// in another (pending), and files are removed through a third (trash). All are private, and on the file system of the
// tree, so that a rename moves between them.
// Its methods may be called concurrently, and by several processes on one directory.
type Tree struct {
	Dir // which is read

	own       disk.Owner
	following atomic.Pointer[followed] // nil: nothing

	onPruned func(dirs []string) // see OnPruned

	beginning sync.RWMutex // for reading while an upload gets its directories, and held over that

	mu     sync.Mutex        // guards synced; held over no I/O
	synced map[string]uint64 // directory -> inode under which its name was made durable
}

// maxSynced bounds the memory of durable directories: about 20 MB of paths. A forgotten one costs one sync.
const maxSynced = 100_000

// Open opens a data directory, which must exist, to change it, and creates what dcs keeps there. *FileSystemError.
func Open(dir Dir) (*Tree, error) {
	own, err := disk.OwnerOf(string(dir))
	if err != nil {
		return nil, err
	}
	t := &Tree{Dir: dir, own: own, synced: map[string]uint64{}}
	if err := t.makePrivate(dir.Metadata()); err != nil {
		return nil, err
	}
	for _, made := range []string{dir.Temp(), dir.Pending(), dir.Trash()} {
		if err := t.MkdirAll(made); err != nil {
			return nil, err
		}
	}
	return t, t.sameFileSystem(append([]string{string(dir), dir.Temp(), dir.Pending()}, dir.reached()...))
}

// makePrivate makes a directory that only its owner may enter. An existing one is closed to others if it is ours.
func (t *Tree) makePrivate(dir string) error {
	err := disk.MkdirPrivate(dir)
	if err == nil {
		err = t.Own(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		err = disk.CloseToOthers(dir)
	}
	if err != nil {
		return err
	}
	return t.MkdirAll(dir) // durable
}

// FileSystemError says that a directory cannot be reached by a rename.
type FileSystemError struct{ Directory, Trash string }

func (e *FileSystemError) Error() string {
	return fmt.Sprintf("%s is on another file system than %s, or mounted: files cannot be renamed between the two",
		e.Directory, e.Trash)
}

// sameFileSystem refuses directories that a rename cannot reach from the trash, as far as they exist.
func (t *Tree) sameFileSystem(dirs []string) error {
	trash, err := disk.MountOf(t.Trash())
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		m, err := disk.MountOf(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if m != trash {
			return &FileSystemError{dir, t.Trash()}
		}
	}
	return nil
}

// Own gives path to the owner of the data directory.
func (t *Tree) Own(path string) error { return t.own.Give(path) }

// MkdirAll makes dir and its parents below the data directory, each durable before it returns.
func (t *Tree) MkdirAll(dir string) error {
	if len(dir) <= len(t.Dir) {
		return nil
	}
	fi, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		t.forget(dir)
		if err := t.MkdirAll(filepath.Dir(dir)); err != nil {
			return err
		}
		if err := t.mkdir(dir); err != nil {
			return err
		}
		fi, err = os.Lstat(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return t.MkdirAll(dir) // emptied and removed by a run in between
	}
	if err != nil {
		return err
	}
	if !fi.IsDir() && fi.Mode()&fs.ModeSymlink == 0 {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	return t.durable(dir, fi)
}

func (t *Tree) mkdir(dir string) error {
	err := t.makeOne(dir)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return t.MkdirAll(dir) // the parent was emptied and removed in between
	case err != nil:
		return err
	}
	return t.Own(dir)
}

// makeOne makes a directory whose parent exists. The private one may have been removed beside its server.
func (t *Tree) makeOne(dir string) error {
	if dir == t.Metadata() {
		return disk.MkdirPrivate(dir)
	}
	failpoint.Step()
	return os.Mkdir(dir, dirMode)
}

// durable syncs the parent of dir, and its parents, unless this very directory was synced before.
// Another writer may have created it a moment ago and not synced it yet, so existing is not enough.
func (t *Tree) durable(dir string, fi fs.FileInfo) error {
	inode := fi.Sys().(*syscall.Stat_t).Ino
	t.mu.Lock()
	known := t.synced[dir] == inode
	t.mu.Unlock()
	if known {
		return nil
	}
	if parent := filepath.Dir(dir); len(parent) > len(t.Dir) {
		if err := t.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := disk.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.synced) >= maxSynced {
		clear(t.synced)
	}
	t.synced[dir] = inode
	return nil
}

// forget is for a directory that was removed: a new one of that name may get its inode, and is not durable yet.
func (t *Tree) forget(dir string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.synced, dir)
}

// rename moves a file to its place. A parent directory that a run removed is made again. The name is durable after
// sync of the new path, which a caller that holds a lock calls later.
func (t *Tree) rename(from, to string) error {
	for range 10 { // each failure is due to one removal of an empty directory
		failpoint.Step()
		err := syscall.Rename(from, to) // os.Rename would look first whether there is a directory
		if err == nil {
			return nil
		}
		err = &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, serr := os.Lstat(from); serr != nil {
			return err
		}
		if err := t.remake(filepath.Dir(to)); err != nil {
			return err
		}
	}
	return fmt.Errorf("rename to %s: its directory keeps vanishing", to)
}

// remake makes a directory that was removed, and its parents. They are durable after a sync.
func (t *Tree) remake(dir string) error {
	if len(dir) <= len(t.Dir) {
		return nil
	}
	err := t.makeOne(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := t.remake(filepath.Dir(dir)); err != nil {
			return err
		}
		err = t.makeOne(dir)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil // made, or removed again, by another: rename tries again
	}
	if err != nil {
		return err
	}
	t.forget(dir)
	return t.Own(dir)
}

// reached makes a directory durable, with each parent.
func (t *Tree) reached(dir string) error {
	fi, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // already expired or deleted again
	}
	if err != nil || len(dir) <= len(t.Dir) {
		return err
	}
	return t.durable(dir, fi)
}

// Prune removes the directory of a key's file, and its parents, as long as they are empty: a crash left them.
func (t *Tree) Prune(k layout.Key) {
	dirs := []string{filepath.Dir(t.File(k.Path()))}
	if k.Kind == layout.Tag {
		dirs = append(dirs, entries(t.Native(layout.TagIndexDir(k.Repository, k.Tag)))...)
	}
	t.prune(dirs...)
}

// PruneUploads removes the list of uploads of a repository, and what it is in, as far as that is empty.
func (t *Tree) PruneUploads(repo string) { t.prune(t.Native(layout.UploadsDir(repo))) }

// OnPruned has f called with the directories of the tree that were empty and are removed now, by their paths below
// layout.Root: never inside a transaction of the index. Lists of uploads are not among them: they are removed with
// their last upload. It is set before the Tree is used.
func (t *Tree) OnPruned(f func(dirs []string)) { t.onPruned = f }

// prune removes some directories and then their parents, as long as they are empty.
func (t *Tree) prune(dirs ...string) {
	var removed []string
	for _, dir := range dirs {
		for len(dir) > len(t.Dir) && t.removeEmpty(dir) {
			below, in := strings.CutPrefix(dir, t.Native(layout.Root)+"/")
			if in && !strings.HasSuffix(below, "/_uploads") {
				removed = append(removed, below)
			}
			dir = filepath.Dir(dir)
		}
	}
	if len(removed) > 0 && t.onPruned != nil {
		t.onPruned(removed)
	}
}

// removeEmpty removes a directory. False: it is not empty, or not ours to remove.
func (t *Tree) removeEmpty(dir string) bool {
	failpoint.Step()
	err := t.counted(dir, func() error { return syscall.Rmdir(dir) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	t.forget(dir)
	return true
}
