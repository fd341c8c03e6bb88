package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotRegular says that a pipe, a socket, a device or a directory has the name that a file should have.
var ErrNotRegular = errors.New("not a regular file")

var errDirectory = fmt.Errorf("%w, it is a directory", ErrNotRegular)

// File is a regular file that is open for reading. An os.File costs five more system calls for each file, since
// it does not know that reading a regular file never waits.
type File struct {
	Path string
	fd   int      // -1: closed, or os has it
	os   *os.File // nil until package os is asked for it
	st   Version  // when it was opened
}

// Open opens a regular file and nothing else: it never waits, as it would for the writer of a pipe. The errors are
// those of package os, and ErrNotRegular.
func Open(path string) (*File, error) { return open(path, 0) }

// OpenNoFollow is Open for a path whose last name must not be a symbolic link.
func OpenNoFollow(path string) (*File, error) { return open(path, unix.O_NOFOLLOW) }

func open(path string, flags int) (*File, error) {
	fd, err := openRegular(path, unix.O_RDONLY|flags, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := regular(fd, &st); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: path, Err: err}, unix.Close(fd))
	}
	return &File{Path: path, fd: fd, st: versionOf(&st)}, nil
}

func openRegular(path string, flags int, perm uint32) (fd int, err error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, perm)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENXIO): // a socket, or a pipe without a reader
			err = ErrNotRegular
		}
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}

func regular(fd int, st *unix.Stat_t) error {
	if err := unix.Fstat(fd, st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFDIR:
		return errDirectory
	}
	return ErrNotRegular
}

// ReadFile is os.ReadFile for a regular file.
func ReadFile(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadAll()
}

// OpenFile is os.OpenFile for a regular file.
func OpenFile(path string, flags int, perm fs.FileMode) (*os.File, error) {
	fd, err := openRegular(path, flags, uint32(perm.Perm()))
	if err != nil {
		return nil, err
	}
	if err := regular(fd, new(unix.Stat_t)); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: path, Err: err}, unix.Close(fd))
	}
	return (&File{Path: path, fd: fd}).File(), nil
}

// CheckRegular is for a path that other code opens: a file there must be a regular one.
func CheckRegular(path string) error {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	return err
}

// Size is how long the file was when it was opened.
func (f *File) Size() int64 { return f.st.size }

// Version is the one that was opened.
func (f *File) Version() Version { return f.st }

// Read fills p unless the file ends before that. At the end it returns io.EOF.
func (f *File) Read(p []byte) (n int, err error) {
	if f.os != nil {
		return f.os.Read(p)
	}
	for n < len(p) {
		got, err := unix.Read(f.fd, p[n:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return n, &fs.PathError{Op: "read", Path: f.Path, Err: err}
		case got == 0 && n == 0:
			return 0, io.EOF
		case got == 0:
			return n, nil
		}
		n += got
		if n < len(p) && int64(n) == f.st.size {
			return n, nil
		}
	}
	return n, nil
}

// Seek is that of os.File.
func (f *File) Seek(offset int64, whence int) (int64, error) { return f.File().Seek(offset, whence) }

// ReadAll reads the whole file, which may have grown since it was opened.
func (f *File) ReadAll() ([]byte, error) {
	data := make([]byte, f.st.size+1)
	n, err := f.Read(data)
	if err == io.EOF {
		return data[:0], nil
	}
	if err != nil || n < len(data) {
		return data[:n], err
	}
	more, err := io.ReadAll(f.File())
	return append(data, more...), err
}

// File is the file for package os. It reads on where this one is, and Close closes it.
func (f *File) File() *os.File {
	if f.os == nil {
		_ = unix.SetNonblock(f.fd, false) // else os would wait for it by polling
		f.os = os.NewFile(uintptr(f.fd), f.Path)
		f.fd = -1
	}
	return f.os
}

// Close closes the file. A second call does nothing.
func (f *File) Close() error {
	if f.os != nil {
		return f.os.Close()
	}
	if f.fd < 0 {
		return nil
	}
	fd := f.fd
	f.fd = -1
	return unix.Close(fd)
}
