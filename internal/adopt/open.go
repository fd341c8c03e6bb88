package adopt

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// File is a regular file that is open for reading. os.File asks the kernel five times more for each, since
// it does not know that nobody ever waits for a regular file.
type File struct {
	Path string
	fd   int
	size int64 // -1: not asked yet
}

// Open opens a file of the tree. The errors are those of package os.
func Open(path string) (*File, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return &File{path, fd, -1}, nil
	}
}

var errNotRegular = errors.New("not a regular file")

// Size asks how long the file is, once. What is no regular file is an error.
func (f *File) Size() (int64, error) {
	if f.size >= 0 {
		return f.size, nil
	}
	var st unix.Stat_t
	err := unix.Fstat(f.fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errNotRegular
	}
	if err != nil {
		return 0, &fs.PathError{Op: "stat", Path: f.Path, Err: err}
	}
	f.size = st.Size
	return f.size, nil
}

// Read reads from where the last Read ended, until p is full or the file ends: an end is no error.
func (f *File) Read(p []byte) (n int, err error) {
	for n < len(p) {
		got, err := unix.Read(f.fd, p[n:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return n, &fs.PathError{Op: "read", Path: f.Path, Err: err}
		case got == 0:
			return n, nil
		}
		n += got
		if n < len(p) && int64(n) == f.size {
			return n, nil
		}
	}
	return n, nil
}

// OS gives the file to package os. It is closed through that from then on.
func (f *File) OS() *os.File {
	_ = unix.SetNonblock(f.fd, false) // else os would wait for it by polling
	file := os.NewFile(uintptr(f.fd), f.Path)
	f.fd = -1
	return file
}

// Close closes the file, unless OS gave it away.
func (f *File) Close() error {
	if f.fd < 0 {
		return nil
	}
	fd := f.fd
	f.fd = -1
	return unix.Close(fd)
}
