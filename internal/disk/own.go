package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Own gives a directory that this process made to the owner of the directory it is in, as far as this process can: a
// program that root runs must not lock the owner out.
func Own(dir string) error {
	o, err := OwnerOf(filepath.Dir(dir))
	if err != nil {
		return err
	}
	return o.Give(dir)
}

// Touch makes an empty file at path, if there is none, that belongs to the owner of its directory. A file that exists
// keeps its owner: the owner of the directory could have put a link to any other file in its place.
func Touch(path string, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	o, err := OwnerOf(filepath.Dir(path))
	if err != nil || o == keep {
		return err
	}
	return f.Chown(o.uid, o.gid)
}
