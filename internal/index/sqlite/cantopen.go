package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrNoSharedMemory says that an index cannot be read where it is: the server that used it was killed, and left a WAL;
// and the file that SQLite needs beside a WAL does not exist and cannot be made. OpenCopy can read it.
var ErrNoSharedMemory = errors.New(
	"the index has changes of a server that was killed, and no file can be made beside it to read them")

// errCantOpen is all that SQLite says when it cannot open one of its files.
var errCantOpen = errors.New("a file of the index cannot be opened")

// cantOpen is why SQLite cannot open a file, as far as the name of the file does not matter.
func cantOpen() error {
	f, err := os.Open(os.DevNull)
	if err == nil {
		return errors.Join(errCantOpen, f.Close())
	}
	var why syscall.Errno // such as EMFILE; without the name of a file that has nothing to do with it
	errors.As(err, &why)
	return why
}

// explain finds out why an index could not be opened, where SQLite does not say.
func (s *Store) explain(mode Mode, err error) error {
	if !errors.Is(err, errCantOpen) {
		return err
	}
	if why := s.whyCantOpen(mode); why != nil {
		return fmt.Errorf("%w: %w", why, err)
	}
	return err
}

// whyCantOpen tries what SQLite tried. Nil: all of that works.
func (s *Store) whyCantOpen(mode Mode) error {
	if _, err := os.Stat(filepath.Dir(s.path)); err != nil {
		return err
	}
	how := os.O_RDWR
	if mode == Look {
		how = os.O_RDONLY
	}
	for _, path := range []string{s.path, s.path + "-wal"} {
		f, err := os.OpenFile(path, how, 0)
		if err == nil {
			err = f.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if mode == Look { // with a WAL, see lookURI: what is left is the file beside it
		return ErrNoSharedMemory
	}
	if err := syscall.Access(filepath.Dir(s.path), writable); err != nil {
		return &fs.PathError{Op: "write to", Path: filepath.Dir(s.path), Err: err}
	}
	return nil
}

// writable is W_OK of access(2).
const writable = 2
