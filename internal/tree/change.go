package tree

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
)

// Modes of what a Tree creates, before the umask: those of distribution's filesystem driver.
const (
	dirMode  fs.FileMode = 0o777
	fileMode fs.FileMode = 0o644
)

// Tree is a data directory with a place for files on their way in (temp) and on their way out
// (trash), in a private directory. All are on one file system, so that a rename moves between them.
// Its methods may be called concurrently, and by several processes on one directory.
type Tree struct {
	root, temp, trash string
	private           string // holds temp and trash
	own               disk.Owner

	mu     sync.Mutex        // guards synced; held over no I/O
	synced map[string]uint64 // directory -> inode under which its name was made durable
}

// maxSynced bounds the memory of durable directories: about 20 MB of paths. A forgotten one costs one fsync.
const maxSynced = 100_000

// OpenTree opens the data directory root, which must exist, and creates private below it, with temp and trash
// in it. reached are directories below the root that renames must reach from there, as far as they exist.
// *FileSystemError.
func OpenTree(root, private string, reached ...string) (*Tree, error) {
	own, err := disk.OwnerOf(root)
	if err != nil {
		return nil, err
	}
	t := &Tree{root: root, private: private, temp: filepath.Join(private, "tmp"), trash: filepath.Join(private, "trash"), own: own, synced: map[string]uint64{}}
	if err := t.makePrivate(private); err != nil {
		return nil, err
	}
	for _, dir := range []string{t.temp, t.trash} {
		if err := t.MkdirAll(dir); err != nil {
			return nil, err
		}
	}
	return t, t.sameFileSystem(append([]string{root, t.temp}, reached...))
}

// makePrivate makes a directory that nobody else may enter. One that is there is closed to others if that is
// ours to do.
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
	return fmt.Sprintf("%s is on another file system than %s, or mounted: files cannot be renamed between the two", e.Directory, e.Trash)
}

// sameFileSystem refuses directories that a rename cannot reach from the trash, as far as they exist.
func (t *Tree) sameFileSystem(dirs []string) error {
	trash, err := disk.MountOf(t.trash)
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
			return &FileSystemError{dir, t.trash}
		}
	}
	return nil
}

// Own gives path to the owner of the data directory.
func (t *Tree) Own(path string) error { return t.own.Give(path) }

// MkdirAll makes dir and its parents below the data directory, each durable before it returns.
func (t *Tree) MkdirAll(dir string) error {
	if len(dir) <= len(t.root) {
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
		return t.MkdirAll(dir) // emptied and removed by an expiry in between
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
	if dir == t.private {
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
	if parent := filepath.Dir(dir); len(parent) > len(t.root) {
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

// forget is for a directory that is gone: a new one of that name may get the old one's inode, and its
// name is not durable yet.
func (t *Tree) forget(dir string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.synced, dir)
}

// Stage writes data to a synced file in the temp directory, to be put in place by Rename.
func (t *Tree) Stage(data []byte) (string, error) {
	name, err := disk.Stage(t.temp, data, fileMode, t.own)
	if errors.Is(err, fs.ErrNotExist) { // somebody removed the directory
		if err := t.MkdirAll(t.temp); err != nil {
			return "", err
		}
		return disk.Stage(t.temp, data, fileMode, t.own)
	}
	return name, err
}

// Touch makes an empty file at path, if there is none, that belongs to the owner of the data directory.
func (t *Tree) Touch(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), t.Own(path))
}

// Scratch writes a file that promises nothing: neither its bytes nor its directories are synced.
func (t *Tree) Scratch(path string, data []byte) error {
	for range 10 { // each round loses against one removal of an empty directory
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

// Rename moves from to its place. A parent directory that an expiry removed is made again. The name
// is durable after Sync of the new path, which a caller that holds a lock does later.
func (t *Tree) Rename(from, to string) error {
	for range 10 { // each round loses against one removal of an empty directory
		failpoint.Step()
		err := os.Rename(from, to)
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

// remake makes a directory that was removed, and its parents, without making them durable yet.
func (t *Tree) remake(dir string) error {
	if len(dir) <= len(t.root) {
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
		return nil // made, or removed again, by somebody else: Rename tries again
	}
	if err != nil {
		return err
	}
	t.forget(dir)
	return t.Own(dir)
}

// Sync makes the name of a file that Rename put in place durable, with each parent.
func (t *Tree) Sync(path string) error {
	dir := filepath.Dir(path)
	if err := disk.SyncDir(dir); err != nil {
		return err
	}
	fi, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // already expired or deleted again
	}
	if err != nil || len(dir) <= len(t.root) {
		return err
	}
	return t.durable(dir, fi)
}

// Trash moves path out of the tree; EmptyTrash removes it for good. False when it is not there.
func (t *Tree) Trash(path string) (bool, error) {
	moved := filepath.Join(t.trash, unique())
	err := t.Rename(path, moved)
	if errors.Is(err, syscall.EXDEV) {
		err = t.movePieces(path, moved, nil)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Remove removes a file for good. False when it is not there.
func (t *Tree) Remove(path string) (bool, error) {
	failpoint.Step()
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// undecided is how the name of a moved path begins that may be moved back. EmptyTrash leaves it for a
// while; older ones were left by a process that was killed.
const undecided = "undecided-"

// TrashIf is Trash for a path that somebody may be writing to: fresh is asked about the moved path,
// and when it says yes the path is moved back.
func (t *Tree) TrashIf(path string, fresh func(moved string) (bool, error)) (bool, error) {
	moved := filepath.Join(t.trash, undecided+unique())
	err := t.Rename(path, moved)
	if errors.Is(err, syscall.EXDEV) {
		err = t.movePieces(path, moved, fresh)
	} else if err == nil {
		err = t.decide(path, moved, fresh)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errFresh) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return t.Trash(moved)
}

// errFresh says that what was moved is in use.
var errFresh = errors.New("it is in use")

// decide moves a path back when it is fresh.
func (t *Tree) decide(path, moved string, fresh func(string) (bool, error)) error {
	back, err := fresh(moved)
	failpoint.Step()
	if err == nil && !back {
		return nil
	}
	return errors.Join(cmp.Or(err, errFresh), os.Rename(moved, path))
}

// unique is a name that nothing has.
func unique() string { return rand.Text() }

// EmptyTrash removes what Trash moved away, by this process or by one that was killed. Files that it
// cannot remove stay for the next call, and are reported.
func (t *Tree) EmptyTrash() error {
	return removeEntries(t.trash, func(e fs.DirEntry) bool {
		fi, err := e.Info()
		return strings.HasPrefix(e.Name(), undecided) && err == nil && time.Since(fi.ModTime()) < time.Minute
	})
}

// EmptyTemp removes what a killed process left half-written. Only the holder of the root lock may call it.
func (t *Tree) EmptyTemp() error {
	return removeEntries(t.temp, func(fs.DirEntry) bool { return false })
}

func removeEntries(dir string, keep func(fs.DirEntry) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if !keep(e) {
			failpoint.Step()
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Prune removes dir and then its parents, as long as they are empty, up to but not including stop.
func (t *Tree) Prune(dir, stop string) {
	for len(dir) > len(stop) && t.RemoveEmpty(dir) {
		dir = filepath.Dir(dir)
	}
}

// RemoveEmpty removes a directory. False: it is not empty, or not ours to remove.
func (t *Tree) RemoveEmpty(dir string) bool {
	failpoint.Step()
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	t.forget(dir)
	return true
}
