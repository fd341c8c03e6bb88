package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// telling are the file systems on which a directory cannot get a name without another time of change: they are written
// by one kernel only, and keep both in one transaction, or in memory. Not among them are those of a network, those of
// programs (FUSE), and overlays, whose lower layers change unseen.
var telling = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:  true, // ext2 and ext3 as well
	unix.XFS_SUPER_MAGIC:   true,
	unix.BTRFS_SUPER_MAGIC: true,
	unix.TMPFS_MAGIC:       true,
}

// TellsChanges says why it cannot be relied on that the time of change of a directory tells each name that appears in
// it. Empty: it can.
func TellsChanges(path string) (why string, err error) {
	kind, err := kindOf(path)
	if err != nil || telling[kind] {
		return "", err
	}
	return fmt.Sprintf("a file system of the type %#x need not tell when it was changed", kind), nil
}

// kindOf is the kernel's number for the kind of file system on which a path is.
func kindOf(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Type), nil //nolint:unconvert // 32 bits on some machines
}

// Boot is the identity of the running kernel since it was started. What a power loss undid was done under another one.
// Empty: the system does not tell.
func Boot() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil
	}
	return strings.TrimSpace(string(id)), err
}
