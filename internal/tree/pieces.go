package tree

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/jc-lab/docker-cache-server/internal/failpoint"
)

// A directory of a lower layer of an overlay file system cannot be renamed (EXDEV), but its files can. So it
// is moved piece by piece, and a crash may leave some here and some there.
//
// The order is the reverse of the names. So of a tag `current` goes last: before that it is the tag that it
// was, and the next run goes on. Of an upload `startedat` goes first: without it no client can go on with it,
// and the rest is the remains of one, which an expiry removes.

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
	t.RemoveEmpty(from) // else somebody has made something new in it, which is his
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

// pieces names what is in a directory, in the order in which it is moved.
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
