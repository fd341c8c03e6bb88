package disk

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is where renames are possible. The same file system at another place is another one. Kernels before
// 5.8 do not tell the places apart.
type Mount struct {
	id           uint64
	major, minor uint32
}

// MountOf finds where a path is.
func MountOf(path string) (Mount, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old kernel, or a filter of system calls
		var old unix.Stat_t
		err = unix.Stat(path, &old)
		st = unix.Statx_t{Dev_major: unix.Major(uint64(old.Dev)), Dev_minor: unix.Minor(uint64(old.Dev))}
	}
	if err != nil {
		return Mount{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return Mount{st.Mnt_id, st.Dev_major, st.Dev_minor}, nil
}

// MountPoints are the directories and files at which something is mounted, with no link on the way. A system that
// does not tell has none.
func MountPoints() (points []string, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			points = append(points, unescape.Replace(fields[4]))
		}
	}
	return points, err
}

// unescape reads what the kernel writes for the characters that separate the fields of a table.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
