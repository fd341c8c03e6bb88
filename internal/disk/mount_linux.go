package disk

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// mount is where renames are possible. The same file system at another place is another one. Kernels before
// 5.8 do not tell the places apart.
type mount struct {
	id           uint64
	major, minor uint32
}

func mountOf(path string) (mount, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old kernel, or a filter of system calls
		var old unix.Stat_t
		err = unix.Stat(path, &old)
		st = unix.Statx_t{Dev_major: unix.Major(uint64(old.Dev)), Dev_minor: unix.Minor(uint64(old.Dev))}
	}
	if err != nil {
		return mount{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return mount{st.Mnt_id, st.Dev_major, st.Dev_minor}, nil
}
