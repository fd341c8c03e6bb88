package tree

import (
	"cmp"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/failpoint"
)

// discarded is a path in the trash that nothing has.
func (t *Tree) discarded() string { return filepath.Join(t.Trash(), unique()) }

// throw moves a file or directory into the trash, and says where it is now; empty: it does not exist.
func (t *Tree) throw(path string) (moved string, err error) {
	moved = t.discarded()
	err = t.counted(path, func() error { return t.rename(path, moved) })
	if errors.Is(err, syscall.EXDEV) {
		err = t.movePieces(path, moved, nil)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return moved, nil
}

// undecided begins the name of a path in the trash that may be moved back. The time of the move follows in the name:
// the times of a directory do not say it, since a rename leaves them as they are.
const undecided = "undecided-"

// decideTime is how long EmptyTrash spares such a path. Deciding takes microseconds; older ones were left by a process
// that was killed.
const decideTime = time.Minute

func undecidedAt(now time.Time) string {
	return undecided + strconv.FormatInt(now.Unix(), 10) + "-" + unique()
}

// isUndecided says whether another process may be deciding about an entry of the trash.
func isUndecided(name string, now time.Time) bool {
	rest, ok := strings.CutPrefix(name, undecided)
	seconds, _, _ := strings.Cut(rest, "-")
	at, err := strconv.ParseInt(seconds, 10, 64)
	return ok && err == nil && now.Sub(time.Unix(at, 0)).Abs() < decideTime
}

// throwIf is throw for a path that another process may be writing to: fresh is asked about the moved path, and when it
// says yes the path is moved back.
func (t *Tree) throwIf(path string, fresh func(moved string) (bool, error)) (bool, error) {
	moved := filepath.Join(t.Trash(), undecidedAt(time.Now()))
	err := t.rename(path, moved)
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
	thrown, err := t.throw(moved)
	return thrown != "", err
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

// unique is a name that no file has.
func unique() string { return rand.Text() }

// EmptyTrash removes the files in the trash for good, those of killed processes included. Files that it cannot remove
// stay for the next call, and are reported.
func (t *Tree) EmptyTrash() error {
	now := time.Now()
	return removeEntries(t.Trash(), func(name string) bool { return isUndecided(name, now) })
}

// EmptyTemp removes what a killed process left half-written. Only the holder of the server lock may call it.
func (t *Tree) EmptyTemp() error {
	return removeEntries(t.Temp(), func(string) bool { return false })
}

func removeEntries(dir string, keep func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if !keep(e.Name()) {
			failpoint.Step()
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// A directory of a lower layer of an overlay file system cannot be renamed (EXDEV), but its files can. So it is moved
// piece by piece, and a crash may leave pieces in both places.
//
// Pieces are moved in the reverse order of their names. So `current` of a tag is moved last: until then the tag is as
// it was, and the next run continues. `startedat` of an upload is moved first: without it no client can go on with the
// upload, and a run removes the rest.

// movePieces moves what is in a directory, and then removes it. fresh, if there is one, is asked after each
// piece, and may have all moved back: errFresh.
func (t *Tree) movePieces(from, to string, fresh func(moved string) (bool, error)) error {
	names, fi, err := pieces(from)
	if err != nil {
		return err
	}
	if err := t.mkdir(to); err != nil {
		return err
	}
	for i, name := range names {
		err := t.movePiece(from, to, name)
		if err == nil {
			err = os.Chtimes(to, fi.ModTime(), fi.ModTime()) // as a rename would leave it
		}
		if err == nil && fresh != nil {
			err = asked(fresh(to))
		}
		if err != nil {
			return errors.Join(err, t.moveBack(to, from, names[:i+1]))
		}
	}
	t.removeEmpty(from) // unless another process has put something new into it, which stays
	return nil
}

func asked(yes bool, err error) error {
	if err == nil && yes {
		err = errFresh
	}
	return err
}

// movePiece moves a file, or a directory in pieces. One that vanished needs no moving.
func (t *Tree) movePiece(from, to, name string) error {
	from, to = filepath.Join(from, name), filepath.Join(to, name)
	fi, err := os.Lstat(from)
	if err == nil && fi.IsDir() {
		err = t.movePieces(from, to, nil)
	} else if err == nil {
		failpoint.Step()
		err = os.Rename(from, to)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// moveBack undoes the moves of some pieces, the last first. One that was not moved is where it was.
func (t *Tree) moveBack(from, to string, names []string) error {
	var errs []error
	for _, name := range slices.Backward(names) {
		if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, os.Remove(from))...)
}

// pieces names the entries of a directory, in the order in which they are moved.
func pieces(dir string) (names []string, fi fs.FileInfo, err error) {
	fi, err = os.Lstat(dir)
	if err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(b, a) })
	return names, fi, err
}
